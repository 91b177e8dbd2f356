use super::*;
use crate::attention::{self, Saved, Shape};
use crate::cross_entropy::{self, Gradients, LmHead};
use crate::gemm::{Packed, Precision, gemm, gemm_packed, gemm_serial};
use crate::quant::{self, Format, Matrix};
use crate::{adamw, embedding, reduce, rms_norm, swiglu};

/// Runs `work` under a meter and gives what it recorded, by name.
fn metered(work: impl FnOnce()) -> Vec<(String, u64, Cost)> {
    let mut meter = Meter::start();
    work();
    meter.take().into_iter().map(|entry| (entry.name.to_string(), entry.calls, entry.cost)).collect()
}

fn multiply(accumulate: Accumulate) {
    let (mut c, a, b) = (vec![0.0; 3 * 5], vec![1.0; 3 * 7], vec![1.0; 7 * 5]);
    let (a, b) = (View::new(&a, 3, 7, 7), View::new(&b, 7, 5, 5));
    gemm(Precision::F32, ViewMut::new(&mut c, 3, 5, 5), a, b, accumulate);
}

#[test]
fn a_product_counts_multiply_adds_and_each_operand_once() {
    let flops = 2 * 3 * 5 * 7;
    let found = metered(|| {
        multiply(Accumulate::Overwrite);
        let _label = label("qkv", Pass::InputGradient);
        multiply(Accumulate::Add);
        multiply(Accumulate::Add);
    });
    let overwritten = Cost { flops, read: 4 * (3 * 7 + 7 * 5), written: 4 * 3 * 5 };
    let added = Cost { flops: 2 * flops, read: 2 * 4 * (3 * 7 + 7 * 5 + 3 * 5), written: 2 * 4 * 3 * 5 };
    assert_eq!(found, [("product".to_owned(), 1, overwritten), ("qkv input gradient".to_owned(), 2, added)]);

    let b = vec![1.0; 7 * 5];
    let packed = Packed::new(Precision::F32, View::new(&b, 7, 5, 5));
    let found = metered(|| {
        let (mut c, a) = (vec![0.0; 15], vec![1.0; 21]);
        gemm_packed(ViewMut::new(&mut c, 3, 5, 5), View::new(&a, 3, 7, 7), &packed, Accumulate::Overwrite);
    });
    let read = 4 * 21 + packed.bytes() as u64;
    assert_eq!(found, [("product".to_owned(), 1, Cost { flops, read, written: 4 * 15 })]);
}

#[test]
fn without_a_meter_nothing_is_recorded() {
    multiply(Accumulate::Overwrite);
    let mut meter = Meter::start();
    assert_eq!(meter.take(), []);
    multiply(Accumulate::Overwrite);
    assert_eq!(meter.take().len(), 1);
    assert_eq!(meter.take(), []);
    drop(meter);
    multiply(Accumulate::Overwrite);
    assert_eq!(Meter::start().take(), []);
}

#[test]
fn a_meter_hears_its_own_thread_alone() {
    let mut meter = Meter::start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _label = label("elsewhere", Pass::Forward);
            multiply(Accumulate::Overwrite);
        });
    });
    assert_eq!(meter.take(), []);
}

#[test]
fn what_an_operation_calls_is_taken_from_its_own_time() {
    let pause = Duration::from_millis(20);
    let mut meter = Meter::start();
    let began = Instant::now();
    {
        let _outer = span(Operation::CrossEntropy, Pass::Whole, || Cost::of(1, 0, 0));
        std::thread::sleep(pause);
        for _ in 0..2 {
            let _inner = span(Operation::Zero, Pass::Whole, || Cost::of(10, 0, 0));
            std::thread::sleep(pause);
            let _innermost = span(Operation::Copy, Pass::Whole, || Cost::of(100, 0, 0));
            std::thread::sleep(pause);
        }
    }
    let whole = began.elapsed();
    let entries = meter.take();
    let sum: Duration = entries.iter().map(|entry| entry.time).sum();
    assert!(sum <= whole && sum >= 5 * pause, "{sum:?} of {whole:?}");
    for (operation, calls, flops) in
        [(Operation::Copy, 2, 200), (Operation::Zero, 2, 20), (Operation::CrossEntropy, 1, 1)]
    {
        let entry = entries.iter().find(|entry| entry.name.operation == operation).unwrap();
        assert_eq!((entry.calls, entry.cost.flops), (calls, flops));
        assert!(entry.time >= pause * calls as u32, "{entry:?}");
        // Were the inner ones counted twice, the outermost would have at least five pauses.
        assert!(operation != Operation::CrossEntropy || entry.time + 4 * pause <= whole, "{entry:?}");
    }
}

#[test]
fn labels_end_with_their_scope_and_join_with_again() {
    let found = metered(|| {
        let outer = label("down", Pass::Forward);
        {
            let _again = again();
            multiply(Accumulate::Overwrite);
            let _inner = label("adapters", Pass::WeightGradient);
            multiply(Accumulate::Overwrite);
        }
        multiply(Accumulate::Overwrite);
        drop(outer);
        multiply(Accumulate::Overwrite);
    });
    let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["down forward again", "adapters weight gradient again", "down forward", "product"]);
}

#[test]
fn attention_counts_what_the_mask_lets_through_and_not_its_own_products() {
    let (shape, seq_len) = (Shape { heads: 4, kv_heads: 2, head_dim: 8 }, 6);
    // Two rows: documents of 6, and of 2 and 4 tokens.
    let starts = [0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2];
    let (tokens, out_width) = (12, 32);
    let qkv = vec![0.1; tokens * shape.width()];
    let (mut out, mut log_sums) = (vec![0.0; tokens * out_width], vec![0.0; tokens * 4]);
    let mut dqkv = vec![0.0; qkv.len()];
    let found = metered(|| {
        attention::forward(&mut out, &mut log_sums, &qkv, &starts, seq_len, shape, Precision::F32);
        let saved = Saved { qkv: &qkv, out: &out, log_sums: &log_sums, dout: &out, document_starts: &starts };
        attention::backward(&mut dqkv, saved, seq_len, shape, Precision::F32);
        let (mut c, a) = (vec![0.0; 1], vec![1.0; 1]);
        let view = View::new(&a, 1, 1, 1);
        gemm_serial(Precision::F32, ViewMut::new(&mut c, 1, 1, 1), view, view, Accumulate::Overwrite);
    });
    let pairs = (21 + 3 + 10) * 4 * 8;
    let forward = Cost { flops: 2 * 2 * pairs, read: 4 * 12 * (64 + 1), written: 4 * 12 * (32 + 4) };
    let backward = Cost { flops: 5 * 2 * pairs, read: 4 * 12 * (64 + 2 * 32 + 4 + 1), written: 4 * 12 * 64 };
    assert_eq!(
        found,
        [("attention forward".to_owned(), 1, forward), ("attention backward".to_owned(), 1, backward)]
    );
}

#[test]
fn the_output_layer_s_products_are_counted_beside_it_and_once() {
    let (tokens, dim, vocab_size) = (4, 8, 96);
    let (hidden, lm_head) = (vec![0.1; tokens * dim], vec![0.1; vocab_size * dim]);
    let (targets, weights) = (vec![1; tokens], [1.0, 0.0, 1.0, 1.0]);
    let (mut losses, mut dhidden, mut dlm_head) = (vec![0.0; tokens], hidden.clone(), lm_head.clone());
    let mut scratch = cross_entropy::Scratch::new(tokens, dim, vocab_size);
    let found = metered(|| {
        let lm_head = LmHead::Plain(&lm_head);
        let input = cross_entropy::Input {
            hidden: &hidden,
            lm_head,
            targets: &targets,
            weights: &weights,
            dim,
            z_loss: 0.0,
        };
        let gradients =
            Gradients { hidden: &mut dhidden, lm_head: &mut dlm_head, accumulate: Accumulate::Overwrite };
        cross_entropy::cross_entropy(&mut losses, input, Some(gradients), &mut scratch, Precision::F32);
    });
    let product = 2 * 3 * (dim * vocab_size) as u64;
    let flops = |name: &str| found.iter().find(|(found, ..)| found == name).map(|(_, _, cost)| cost.flops);
    for pass in ["forward", "input gradient", "weight gradient"] {
        assert_eq!(flops(&format!("output layer {pass}")), Some(product), "{found:?}");
    }
    assert_eq!(flops("cross_entropy"), Some(6 * 3 * vocab_size as u64));
    assert_eq!(flops("product"), None);
}

#[test]
fn a_quantised_product_is_a_product_and_the_reading_of_its_matrix() {
    let weights = Matrix::new(Format::Int8, 64, 64, &vec![0.5; 64 * 64]);
    let (x, mut y) = (vec![0.1; 3 * 64], vec![0.0; 3 * 64]);
    let found = metered(|| {
        let _label = label("down", Pass::Forward);
        quant::forward(&mut y, &x, &weights, Precision::F32, Accumulate::Overwrite);
        quant::embedding(&mut y, &weights, &[1, 2, 3]);
    });
    let read = weights.bytes() as u64;
    let wanted = [
        ("down dequantised forward", Cost { flops: 4096, read, written: 4 * 4096 }),
        ("down forward", Cost { flops: 2 * 3 * 4096, read: 4 * (3 * 64 + 4096), written: 4 * 3 * 64 }),
        ("embedding forward", Cost { flops: 192, read: read * 3 / 64, written: 4 * 192 }),
    ];
    assert_eq!(found, wanted.map(|(name, cost)| (name.to_owned(), 1, cost)));
}

#[test]
fn loops_over_memory_count_the_values_that_they_move() {
    let (mut x, y) = (vec![1.0f32; 6], vec![1.0f32; 6]);
    let (mut other, mut rows) = (y.clone(), vec![1.0f32; 2]);
    let found = metered(|| {
        rms_norm::forward(&mut x, &mut rows, &y, &[1.0; 3], 1e-5);
        rms_norm::again(&mut x, &y, &rows, &[1.0; 3]);
        swiglu::forward(&mut x[..3], &y, 3);
        reduce::zero(&mut x);
        reduce::copy(&mut x, &y);
        reduce::sum_of_squares(&x);
        embedding::backward(&mut x, &y, &[0, 1], 3);
        let step = adamw::AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.9,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step: 1,
            gradient_scale: 1.0,
        };
        adamw::adamw(&mut x, &y, &mut other, &mut [0.0; 6], &step);
    });
    let wanted = [
        ("rms_norm forward", 24, 6 + 3, 6 + 2),
        ("rms_norm forward again", 12, 6 + 2 + 3, 6),
        ("swiglu forward", 15, 6, 3),
        ("zero", 0, 0, 6),
        ("copy", 0, 6, 6),
        ("sum_of_squares", 12, 6, 0),
        ("embedding backward", 6, 6 + 6 + 2, 6),
        ("adamw", 90, 4 * 6, 3 * 6),
    ];
    assert_eq!(
        found,
        wanted.map(|(name, flops, read, written)| (name.to_owned(), 1, Cost::of(flops, read, written)))
    );
}
