//! The documents of a cluster, compared with each other: in blocks, whatever their number.

use std::ops::Range;

use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use rayon::prelude::*;

use super::kmeans::ReadVectors;
use crate::Error;

/// Vectors of a block. It is fixed, so that products do not depend on the memory.
pub(crate) const BLOCK: usize = 1024;

/// For each of `count` vectors the cosine of the most similar one before it and its number, of equal ones the first; the
/// first vector has none. `go_on` is asked at every block.
///
/// # Errors
/// What `read` and `go_on` say.
pub(crate) fn most_similar_before(
    count: usize,
    width: usize,
    read: &mut ReadVectors,
    go_on: &mut (dyn FnMut() -> Result<(), Error> + Send),
) -> Result<Vec<Option<(f32, u32)>>, Error> {
    let mut best: Vec<Option<(f32, u32)>> = vec![None; count];
    let block = |start: usize| start..(start + BLOCK).min(count);
    let (mut own, mut others, mut products) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..count).step_by(BLOCK) {
        let rows = block(start);
        own.resize(rows.len() * width, 0.0);
        read(rows.clone(), &mut own)?;
        for earlier in (0..=start).step_by(BLOCK) {
            go_on()?;
            let columns = block(earlier);
            let of_others: &[f32] = if earlier == start {
                &own
            } else {
                others.resize(columns.len() * width, 0.0);
                read(columns.clone(), &mut others)?;
                &others
            };
            products.resize(rows.len() * columns.len(), 0.0);
            multiply(&mut products, &own, of_others, width);
            let compared = best[rows.clone()].par_iter_mut().zip(products.par_chunks_exact(columns.len()));
            compared.enumerate().for_each(|(row, (best, products))| {
                let before = Range { start: 0, end: columns.len().min(start + row - earlier) };
                for (column, &cosine) in (columns.start as u32..).zip(&products[before]) {
                    if best.is_none_or(|(greatest, _)| cosine > greatest) {
                        *best = Some((cosine, column));
                    }
                }
            });
        }
    }
    Ok(best)
}

/// `products` (a x b) = `rows` (a x width) `columns` (b x width)ᵀ.
fn multiply(products: &mut [f32], rows: &[f32], columns: &[f32], width: usize) {
    let (a, b) = (rows.len() / width, columns.len() / width);
    gemm(
        Precision::F32,
        ViewMut::new(products, a, b, b),
        View::new(rows, a, width, width),
        View::new(columns, b, width, width).transposed(),
        Accumulate::Overwrite,
    );
}
