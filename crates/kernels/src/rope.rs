//! The rotary position embedding, in place on queries and keys, forward and backward.
//!
//! Pairs are `(i, i + C/2)` of a head, the layout of Hugging Face checkpoints; Meta's consecutive pairs are
//! permuted into it when such a checkpoint is read.

use rayon::prelude::*;

use crate::isa;
use crate::meter::{self, Cost, Operation, Pass};

const ROWS: usize = 64;

/// Cosines and sines of all positions, `[positions, C/2]` each.
#[derive(Clone, Debug)]
pub struct Table {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    /// Angles `position * frequency` for positions below `positions`, computed in f32 as the reference does.
    pub fn new(frequencies: &[f32], positions: usize) -> Self {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Self { half: frequencies.len(), cos, sin }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }
}

/// Direction of the turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Turn {
    /// By the position's angle.
    Forward,
    /// Back by the same angle: the gradient, since a rotation's transpose is its inverse.
    Backward,
}

/// Rotates the first `heads` heads of each row of `x [T, width]` by the angle of its position.
///
/// `positions [T]`; queries and keys lie side by side in a row, so `heads` is `H + K` and the values behind them
/// stay as they are.
pub fn rotate(x: &mut [f32], width: usize, heads: usize, positions: &[u32], table: &Table, turn: Turn) {
    assert_eq!(x.len(), width * positions.len(), "RoPE: rows and positions do not fit");
    assert!(heads * 2 * table.half <= width, "RoPE: {heads} heads do not fit in a row of {width}");
    let pass = if turn == Turn::Forward { Pass::Forward } else { Pass::Backward };
    let _metered = meter::span(Operation::Rope, pass, || {
        let turned = positions.len() * heads * 2 * table.half;
        Cost::of(3 * turned, turned + positions.len() * (2 * table.half + 1), turned)
    });
    x.par_chunks_mut(ROWS * width)
        .zip(positions.par_chunks(ROWS))
        .for_each(|(x, positions)| rotate_rows(x, width, heads, positions, table, turn));
}

isa::dispatch! {
    fn rotate_rows<FMA>(
        x: &mut [f32], width: usize, heads: usize, positions: &[u32], table: &Table, turn: Turn
    ) {
        let half = table.half;
        let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
        for (row, &position) in x.chunks_exact_mut(width).zip(positions) {
            let angles = position as usize * half..(position as usize + 1) * half;
            let (cos, sin) = (&table.cos[angles.clone()], &table.sin[angles]);
            for head in row.chunks_exact_mut(2 * half).take(heads) {
                let (first, second) = head.split_at_mut(half);
                for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    let (x, y, sin) = (*a, *b, sin * sign);
                    *a = x * cos - y * sin;
                    *b = y * cos + x * sin;
                }
            }
        }
    }
}
