//! Dropout (Srivastava et al. 2014): a share of the values becomes zero, the others grow so that the mean stays.
//!
//! The mask is never kept. It follows from a key and from a value's place alone, so the backward computes it again, and
//! it is the same for any number of threads and instruction set.

use rayon::prelude::*;

use crate::isa;

/// Values that one task takes; a multiple of the places that share a draw.
const TASK: usize = 1 << 14;
/// Places that share a draw of 64 bits, 16 each.
const SHARED: usize = 4;

/// Which values are dropped, and what the others are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: u64,
    /// What draws of 16 bits below it drop.
    below: u16,
    scale: f32,
}

impl Dropout {
    /// Drops `share` of the values, in `[0, 1)`, to the nearest 65,536th. Another `key` drops others.
    pub fn new(share: f64, key: u64) -> Self {
        let below = (share * 65_536.0).round().clamp(0.0, 65_535.0) as u16;
        Self { key, below, scale: (65_536.0 / (65_536.0 - f64::from(below))) as f32 }
    }

    /// `y = m x`, where `m` is the mask, zeros and one over the kept share.
    pub fn forward(&self, y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "dropout: values and their places do not fit");
        y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).enumerate().for_each(|(task, (y, x))| {
            drop_values(y, x, (task * TASK / SHARED) as u64, *self);
        });
    }

    /// `dx += m dy`: adds the gradient of what went in.
    pub fn backward(&self, dx: &mut [f32], dy: &[f32]) {
        assert_eq!(dx.len(), dy.len(), "dropout: values and their places do not fit");
        dx.par_chunks_mut(TASK).zip(dy.par_chunks(TASK)).enumerate().for_each(|(task, (dx, dy))| {
            add_values(dx, dy, (task * TASK / SHARED) as u64, *self);
        });
    }

    /// The mask at the places of one draw: SplitMix64 (Steele, Lea and Flood 2014), by its counter.
    #[inline(always)]
    fn mask(&self, draw: u64) -> [f32; SHARED] {
        let mut z = self.key.wrapping_add((draw + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let mut mask = [0.0; SHARED];
        for (place, mask) in mask.iter_mut().enumerate() {
            *mask = if (z >> (16 * place)) as u16 >= self.below { self.scale } else { 0.0 };
        }
        mask
    }
}

isa::dispatch! {
    fn drop_values<FMA>(y: &mut [f32], x: &[f32], first: u64, dropout: Dropout) {
        for (draw, (y, x)) in (first..).zip(y.chunks_mut(SHARED).zip(x.chunks(SHARED))) {
            for ((y, x), mask) in y.iter_mut().zip(x).zip(dropout.mask(draw)) {
                // A dropped value is zero whatever it was, an infinity included.
                *y = if mask == 0.0 { 0.0 } else { x * mask };
            }
        }
    }

    fn add_values<FMA>(dx: &mut [f32], dy: &[f32], first: u64, dropout: Dropout) {
        for (draw, (dx, dy)) in (first..).zip(dx.chunks_mut(SHARED).zip(dy.chunks(SHARED))) {
            for ((dx, dy), mask) in dx.iter_mut().zip(dy).zip(dropout.mask(draw)) {
                *dx += if mask == 0.0 { 0.0 } else { dy * mask };
            }
        }
    }
}
