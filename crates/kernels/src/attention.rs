//! Causal attention with grouped queries inside documents, forward and backward, in tiles with online softmax
//! (Dao et al., "FlashAttention", 2022). Tiles that the mask leaves empty are never computed.
//!
//! The query heads that share a key/value head are stacked into one tall matrix, so keys and values are packed
//! once for all of them. One row of queries gives the same bits in a tile of any height.
//!
//! [`forward`] and [`backward`] are plain; in bf16, where the processor has tiles, they hand over to a form of their own.

#[cfg(target_arch = "x86_64")]
mod amx;
mod backward;
mod forward;
mod paged;
mod pages;
mod tile;

use crate::meter::{Cost, Pass};

pub use backward::{Saved, backward};
pub use forward::forward;
pub use paged::{PagedQueries, forward_paged};
pub use pages::{KvStorage, Pages};

/// The shape of one attention: heads and the layout of a row of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Query heads, `H`.
    pub heads: usize,
    /// Key/value heads, `K`.
    pub kv_heads: usize,
    /// Width of a head, `C`.
    pub head_dim: usize,
}

impl Shape {
    /// Width of a row of queries, keys and values: `(H + 2K) C`.
    pub fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Query heads that share a key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// What [`forward`] (two products over what the mask lets through) and [`backward`] (five, since scores are not
    /// kept) cost at least, in multiplications and additions of the products alone.
    fn cost(&self, document_starts: &[u32], seq_len: usize, pass: Pass) -> Cost {
        let rows = document_starts.chunks_exact(seq_len);
        let seen =
            rows.flat_map(|row| row.iter().enumerate().map(|(token, &start)| token + 1 - start as usize));
        let pairs = seen.sum::<usize>() * self.heads * self.head_dim;
        let (tokens, out) = (document_starts.len(), self.heads * self.head_dim);
        match pass {
            // Read are queries, keys, values and starts; written the output and its sums.
            Pass::Forward => Cost::of(4 * pairs, tokens * (self.width() + 1), tokens * (out + self.heads)),
            // Read are all of these and the output's gradient; written are the gradients of the first three.
            _ => {
                let read = tokens * (self.width() + 2 * out + self.heads + 1);
                Cost::of(10 * pairs, read, tokens * self.width())
            }
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Queries of a tile: the stack of a group is about 128 rows high, but a tile on the diagonal, half of which
    /// is masked, stays small.
    fn tile_rows(&self) -> usize {
        (128 / self.group()).clamp(16, 64)
    }
}
