//! The token embedding: a gather of rows forward, a scatter of gradients backward.

use rayon::prelude::*;

/// Writes `x [T, D]`: the rows of `table [V, D]` that `tokens [T]` name.
pub fn forward(x: &mut [f32], table: &[f32], tokens: &[u32], dim: usize) {
    x.par_chunks_mut(dim).zip(tokens).with_min_len(64).for_each(|(row, &token)| {
        row.copy_from_slice(&table[token as usize * dim..(token as usize + 1) * dim]);
    });
}

/// Adds each row of `dx [T, D]` to the row of `dtable [V, D]` that its token names, in the order of the tokens.
///
/// In the calling thread: tokens repeat, so each sum has one order only when one thread walks them all.
pub fn backward(dtable: &mut [f32], dx: &[f32], tokens: &[u32], dim: usize) {
    // A few hundred kilobytes are moved; cutting columns for threads would cost more than the sum itself.
    for (row, &token) in dx.chunks_exact(dim).zip(tokens) {
        let sums = &mut dtable[token as usize * dim..(token as usize + 1) * dim];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_and_scatter_are_each_other_s_transpose() {
        let table: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut x = vec![0.0; 9];
        forward(&mut x, &table, &[2, 0, 2], 3);
        assert_eq!(x, [6.0, 7.0, 8.0, 0.0, 1.0, 2.0, 6.0, 7.0, 8.0]);
        let mut gradient = vec![1.0; 12];
        backward(&mut gradient, &x, &[2, 0, 2], 3);
        assert_eq!(gradient, [1.0, 2.0, 3.0, 1.0, 1.0, 1.0, 13.0, 15.0, 17.0, 1.0, 1.0, 1.0]);
    }
}
