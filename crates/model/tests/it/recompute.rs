//! What is computed again changes memory and no bit.

use kernels::gemm::{Accumulate, Precision};
use model::recompute::{Again, Recompute};
use model::{Config, Workspace, backward};

use crate::golden::Golden;

/// Bits of the losses and of the gradients of two passes that add up, and the workspace's bytes.
fn passes(
    golden: &Golden,
    recompute: &Recompute,
    [precision, kept]: [Precision; 2],
) -> (Vec<u32>, Vec<u32>, usize) {
    let (weights, batch) = (&golden.weights, &golden.batch);
    let mut workspace = Workspace::keeping(&weights.config, batch.rows, batch.seq_len, recompute, kept);
    let mut gradients = vec![f32::NAN; weights.data.len()];
    for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
        backward::loss_and_gradients(weights, batch, &mut workspace, &mut gradients, accumulate, precision)
            .unwrap();
    }
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    (bits(workspace.losses()), bits(&gradients), workspace.bytes())
}

fn check(case: &str, recompute: &Recompute) {
    let golden = Golden::read(case);
    for precision in [[Precision::F32; 2], [Precision::Bf16, Precision::F32], [Precision::Bf16; 2]] {
        let (losses, gradients, _) = passes(&golden, &Recompute::default(), precision);
        let (again_losses, again_gradients, _) = passes(&golden, recompute, precision);
        assert!(again_losses == losses, "{case}, {recompute:?}, {precision:?}: losses");
        assert!(again_gradients == gradients, "{case}, {recompute:?}, {precision:?}: gradients");
        // Of two layers one may have to lend the other what both do not keep.
        let config = Config { layers: 12, ..golden.weights.config.clone() };
        let [bytes, fewer] = [&Recompute::default(), recompute]
            .map(|recompute| Workspace::keeping(&config, 4, 64, recompute, precision[1]).bytes());
        assert!(fewer < bytes, "{case}, {recompute:?}, {precision:?}: {fewer} bytes, not below {bytes}");
    }
}

#[test]
fn losses_and_gradients_are_the_same_bits_whatever_is_computed_again() {
    for case in ["gqa", "odd", "tied_scaled"] {
        for again in [Again::Attention, Again::FeedForward, Again::All] {
            check(case, &Recompute::same(again));
        }
        check(case, &Recompute::repeated(vec![Again::FeedForward, Again::All]).unwrap());
    }
}

#[test]
fn activations_in_bf16_change_no_loss_and_gradients_little_and_take_less_memory() {
    for case in ["gqa", "odd", "tied_scaled"] {
        let golden = Golden::read(case);
        let none = Recompute::default();
        for precision in [Precision::F32, Precision::Bf16] {
            let (losses, gradients, bytes) = passes(&golden, &none, [precision, Precision::F32]);
            let (same, near, fewer) = passes(&golden, &none, [precision, Precision::Bf16]);
            assert!(same == losses && fewer < bytes, "{case}, {precision:?}: {fewer} and {bytes} bytes");
            let (mut difference, mut length) = (0.0, 0.0);
            for (&exact, &near) in gradients.iter().zip(&near) {
                let [exact, near] = [exact, near].map(|bits| f64::from(f32::from_bits(bits)));
                difference += (exact - near) * (exact - near);
                length += exact * exact;
            }
            let off = (difference / length).sqrt();
            assert!(off > 0.0 && off < 1e-2, "{case}, {precision:?}: gradients are {off} off");
        }
    }
}
