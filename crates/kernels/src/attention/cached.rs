//! The same forward for inference: new queries against keys and values that were kept.

use rayon::prelude::*;

use super::Shape;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::forward::Tile;
use super::tile::Shared;
use crate::gemm::Precision;
use crate::meter::{self, Cost, Operation, Pass};

/// The new tokens of one sequence, and its keys and values so far, the new ones included.
pub struct CachedQueries<'a> {
    /// `[n, H C]` at `stride`: rotated queries of the `n` new tokens.
    pub queries: &'a [f32],
    /// Distance between two rows of `queries`.
    pub stride: usize,
    /// `[first + n, K C]`.
    pub keys: &'a [f32],
    /// `[first + n, K C]`.
    pub values: &'a [f32],
    /// Position of the first new token.
    pub first: usize,
    /// `[n, H C]`, written.
    pub out: &'a mut [f32],
}

/// Attends each sequence's new tokens to all of its tokens up to themselves.
///
/// A token's result does not depend on what else is in the call, nor on how a prompt was cut into calls.
pub fn forward_cached(sequences: &mut [CachedQueries], shape: Shape, precision: Precision) {
    let (kv_width, out_width) = (shape.kv_heads * shape.head_dim, shape.heads * shape.head_dim);
    let _metered = meter::span(Operation::Attention, Pass::Forward, || {
        let (mut pairs, mut read, mut written) = (0, 0, 0);
        for sequence in &*sequences {
            let tokens = sequence.out.len() / out_width;
            // The n-th new token sees the first ones and n of its own.
            pairs += tokens * sequence.first + tokens * (tokens + 1) / 2;
            read += tokens * out_width + 2 * (sequence.first + tokens) * kv_width;
            written += tokens * out_width;
        }
        Cost::of(4 * pairs * out_width, read, written)
    });
    sequences.par_iter_mut().for_each(|sequence| {
        let tokens = sequence.out.len() / out_width;
        let end = sequence.first + tokens;
        assert!(sequence.keys.len() >= end * kv_width && sequence.values.len() >= end * kv_width);
        #[cfg(target_arch = "x86_64")]
        if amx::serves(precision) {
            return amx::forward_cached(sequence, shape);
        }
        let tile = shape.tile_rows();
        let tiles = tokens.div_ceil(tile);
        let out = Shared::new(sequence.out);
        let sequence = &*sequence;
        (0..shape.kv_heads * tiles).into_par_iter().for_each(|task| {
            let (kv_head, query) = (task / tiles, task % tiles * tile);
            let columns = kv_head * shape.group() * shape.head_dim;
            let tile = Tile {
                queries: &sequence.queries[query * sequence.stride + columns..],
                query_stride: sequence.stride,
                keys: sequence.keys[kv_head * shape.head_dim..].as_ptr(),
                values: sequence.values[kv_head * shape.head_dim..].as_ptr(),
                kv_stride: kv_width,
                rows: tile.min(tokens - query),
                first_key: 0,
                shape,
                precision,
            };
            let seen = |i: usize| (0, sequence.first + query + i + 1);
            // SAFETY: keys and values reach to `end`, checked above; this tile's rows and this group's columns of
            // `out` belong to this task alone.
            unsafe { tile.run(seen, out.at(query * out_width + columns), out_width, None) };
        });
    });
}
