//! The same forward for inference: new queries against keys and values that were kept in pages.

use rayon::prelude::*;

use super::Shape;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::forward::{Blocks, Tile};
use super::pages::{Form, Pages, tiles};
use super::tile::Shared;
use crate::gemm::View;
use crate::meter::{self, Cost, Operation, Pass};

/// The new tokens of one sequence, and where the keys and values of all its tokens are kept.
pub struct PagedQueries<'a> {
    /// `[n, (H + 2K) C]`: queries, keys and values of the `n` new tokens, rotated already.
    pub qkv: &'a [f32],
    /// The pages of the sequence's tokens in order, room for the new ones included.
    pub pages: &'a [u32],
    /// Position of the first new token.
    pub first: usize,
    /// `[n, H C]`, written.
    pub out: &'a mut [f32],
}

/// Keeps each sequence's new keys and values of a layer, and attends its new tokens to all of its tokens up to themselves.
///
/// A token's result does not depend on what else is in the call, nor on how a prompt was cut into calls, nor on the size
/// and the order of the pages. Sequences may share pages of tokens before `first`.
///
/// # Panics
/// When shapes do not fit, a page table is too short, two sequences would write to one page, or the pages were made for
/// another instruction set.
pub fn forward_paged(pages: &mut Pages, layer: usize, sequences: &mut [PagedQueries]) {
    let (shape, precision) = (pages.shape, pages.precision);
    let (kv_width, out_width) = (shape.kv_heads * shape.head_dim, shape.heads * shape.head_dim);
    for sequence in &*sequences {
        let tokens = sequence.out.len() / out_width;
        assert!(sequence.out.len() == tokens * out_width && sequence.qkv.len() == tokens * shape.width());
        assert!(
            sequence.pages.len() * pages.tokens() >= sequence.first + tokens,
            "a page table is too short"
        );
    }
    assert!(
        pages.form != Form::Packed || tiles(precision),
        "the pages were made for another instruction set"
    );
    let _metered = meter::span(Operation::Attention, Pass::Forward, || {
        let (mut pairs, mut read, mut written) = (0, 0, 0);
        for sequence in &*sequences {
            let tokens = sequence.out.len() / out_width;
            // The n-th new token sees the first ones and n of its own.
            pairs += tokens * sequence.first + tokens * (tokens + 1) / 2;
            read += tokens * out_width + 2 * (sequence.first + tokens) * kv_width;
            written += tokens * (out_width + 2 * kv_width);
        }
        Cost::of(4 * pairs * out_width, read, written)
    });
    pages.write(layer, sequences);
    let pages = &*pages;
    sequences.par_iter_mut().for_each(|sequence| {
        #[cfg(target_arch = "x86_64")]
        if tiles(precision) {
            return amx::forward_paged(pages, layer, sequence);
        }
        let tokens = sequence.out.len() / out_width;
        let tile = shape.tile_rows();
        let tiles = tokens.div_ceil(tile);
        let out = Shared::new(sequence.out);
        let sequence = &*sequence;
        (0..shape.kv_heads * tiles).into_par_iter().for_each(|task| {
            let (kv_head, query) = (task / tiles, task % tiles * tile);
            let columns = kv_head * shape.group() * shape.head_dim;
            let tile = Tile {
                queries: &sequence.qkv[query * shape.width() + columns..],
                query_stride: shape.width(),
                blocks: Kept { pages, table: sequence.pages, layer, kv_head },
                rows: tile.min(tokens - query),
                first_key: 0,
                shape,
                precision,
            };
            let seen = |i: usize| (0, sequence.first + query + i + 1);
            // SAFETY: this tile's rows and this group's columns of `out` belong to this task alone.
            unsafe { tile.run(seen, out.at(query * out_width + columns), out_width, None) };
        });
    });
}

/// The kept keys and values of one sequence, layer and key/value head.
struct Kept<'a> {
    pages: &'a Pages,
    table: &'a [u32],
    layer: usize,
    kv_head: usize,
}

impl Blocks for Kept<'_> {
    fn spare(&self, keys: usize) -> usize {
        2 * keys * self.pages.shape.head_dim
    }

    fn block<'a>(&'a self, first: usize, count: usize, spare: &'a mut [f32]) -> (View<'a>, View<'a>) {
        let Shape { head_dim, .. } = self.pages.shape;
        let (keys, values) = spare.split_at_mut(count * head_dim);
        let place = (self.layer, self.kv_head);
        self.pages.gather(self.table, place, (first, count), (keys, count), values);
        (View::new(keys, head_dim, count, count), View::new(values, count, head_dim, head_dim))
    }
}
