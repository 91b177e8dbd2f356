//! Spherical k-means (Dhillon & Modha 2001): centres of length 1, each vector belongs to the centre of the greatest cosine.
//! The vectors stay where they are and stream by in blocks; what is held are the centres, their sums in f64 and, of the
//! vectors that the centres are learned from, the number of each one's centre.
//!
//! The same bits come out for any number of threads and any blocks: products have that property (see
//! [`kernels::gemm`]), and sums are taken in the order of the vectors.

use std::ops::Range;

use kernels::gemm::{Accumulate, Packed, Precision, View, ViewMut, gemm_packed};
use rayon::prelude::*;

use crate::Error;

/// Products of a block with all centres, at most so many, take 16 MB.
const BLOCK_PRODUCTS: usize = 4 << 20;
const BLOCK_ROWS: usize = 4096;

/// Centres of clusters.
pub(crate) struct Centres {
    width: usize,
    /// `count` x `width`, each of length 1.
    values: Vec<f32>,
    packed: Packed,
}

/// Reads some vectors, `range.len()` x `width`, into a buffer.
pub(crate) type ReadVectors<'a> = dyn FnMut(Range<usize>, &mut [f32]) -> Result<(), Error> + Send + 'a;

impl Centres {
    fn new(values: Vec<f32>, width: usize) -> Centres {
        let view = View::new(&values, values.len() / width, width, width).transposed();
        let packed = Packed::new(Precision::F32, view);
        Centres { width, values, packed }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Their numbers, one after another.
    #[cfg(test)]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Vectors that are best looked at together.
    pub fn block_rows(&self) -> usize {
        (BLOCK_PRODUCTS / self.len()).clamp(16, BLOCK_ROWS)
    }

    /// The centre of the greatest cosine for each vector, the first of equal ones, with that cosine.
    pub fn nearest(&self, vectors: &[f32]) -> Vec<(u32, f32)> {
        let (rows, count) = (vectors.len() / self.width, self.len());
        let mut products = vec![0.0; rows * count];
        let a = View::new(vectors, rows, self.width, self.width);
        gemm_packed(ViewMut::new(&mut products, rows, count, count), a, &self.packed, Accumulate::Overwrite);
        products.par_chunks_exact(count).map(greatest).collect()
    }

    /// Learns `count` centres from `vectors` vectors in at most so many rounds, fewer where nothing changes any more.
    /// They begin as the vectors of these numbers; one that is left without vectors takes half of the largest cluster,
    /// as faiss does.
    ///
    /// # Errors
    /// What `read` and `round` say; `round` is told the number of the round and the mean cosine.
    pub fn learn(
        (vectors, width): (usize, usize),
        first: &[usize],
        rounds: usize,
        read: &mut ReadVectors,
        round: &mut (dyn FnMut(usize, f64) -> Result<(), Error> + Send),
    ) -> Result<Centres, Error> {
        let mut values = vec![0.0; first.len() * width];
        for (centre, &number) in values.chunks_exact_mut(width).zip(first) {
            read(number..number + 1, centre)?;
        }
        let mut centres = Centres::new(values, width);
        let mut belongs = vec![u32::MAX; vectors];
        let mut block = Vec::new();
        for number in 0..rounds {
            let mut sums = Sums::new(centres.len(), width);
            let (mut changed, mut cosines) = (false, 0.0);
            for start in (0..vectors).step_by(centres.block_rows()) {
                let range = start..(start + centres.block_rows()).min(vectors);
                block.resize(range.len() * width, 0.0);
                read(range.clone(), &mut block)?;
                let nearest = centres.nearest(&block);
                for (own, (centre, cosine)) in belongs[range].iter_mut().zip(&nearest) {
                    changed |= own != centre;
                    *own = *centre;
                    cosines += f64::from(*cosine);
                }
                sums.add(&block, &nearest);
            }
            round(number + 1, cosines / vectors.max(1) as f64)?;
            if !changed {
                break;
            }
            centres = Centres::new(sums.centres(centres.values), width);
        }
        Ok(centres)
    }
}

fn greatest(row: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in row.iter().enumerate() {
        if value > best.1 {
            best = (index as u32, value);
        }
    }
    best
}

/// The sum of the vectors of each centre.
struct Sums {
    width: usize,
    values: Vec<f64>,
    counts: Vec<u64>,
}

impl Sums {
    fn new(count: usize, width: usize) -> Sums {
        Sums { width, values: vec![0.0; count * width], counts: vec![0; count] }
    }

    fn add(&mut self, block: &[f32], nearest: &[(u32, f32)]) {
        let width = self.width;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.counts.len()];
        for (row, (centre, _)) in (0..).zip(nearest) {
            rows[*centre as usize].push(row);
        }
        let sums = self.values.par_chunks_exact_mut(width).zip(&mut self.counts).zip(&rows);
        sums.filter(|(_, rows)| !rows.is_empty()).for_each(|((sum, count), rows)| {
            *count += rows.len() as u64;
            for &row in rows {
                let vector = &block[row as usize * width..(row as usize + 1) * width];
                sum.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        });
    }

    /// The new centres. Where vectors cancel out the former one stays.
    fn centres(mut self, former: Vec<f32>) -> Vec<f32> {
        let width = self.width;
        let mut values = former;
        for (centre, sum) in values.chunks_exact_mut(width).zip(self.values.chunks_exact(width)) {
            point(centre, sum);
        }
        for empty in 0..self.counts.len() {
            if self.counts[empty] > 0 {
                continue;
            }
            let largest = (0..self.counts.len()).max_by_key(|&at| (self.counts[at], std::cmp::Reverse(at)));
            let Some(largest) = largest.filter(|&at| self.counts[at] > 1) else { break };
            let half = values[largest * width..(largest + 1) * width].to_vec();
            // Two that differ a little share its vectors in the next round.
            let moved = |sign: f64| -> Vec<f64> {
                let side = |at: usize| if at.is_multiple_of(2) { sign } else { -sign };
                half.iter().enumerate().map(|(at, &v)| f64::from(v) * (1.0 + side(at) / 1024.0)).collect()
            };
            point(&mut values[empty * width..(empty + 1) * width], &moved(1.0));
            point(&mut values[largest * width..(largest + 1) * width], &moved(-1.0));
            self.counts[empty] = self.counts[largest] / 2;
            self.counts[largest] -= self.counts[empty];
        }
        values
    }
}

/// Makes `centre` the direction of `sum`, where it has one.
fn point(centre: &mut [f32], sum: &[f64]) {
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 {
        centre.iter_mut().zip(sum).for_each(|(own, value)| *own = (value / length) as f32);
    }
}
