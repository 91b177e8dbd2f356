//! Cached inference gives the bits of the training forward, whatever is in the batch.

use kernels::gemm::Precision;
use model::infer::{KvStorage, Llama, Scratch, Segment, Wanted};
use model::{Batch, Workspace};

use crate::golden::Golden;

/// Logits of one sequence as training sees it.
fn training_logits(golden: &Golden, tokens: &[u32]) -> Vec<f32> {
    let mut batch = Batch::new(1, tokens.len());
    batch.inputs.copy_from_slice(tokens);
    let mut workspace = Workspace::forward_only(&golden.weights.config, 1, tokens.len());
    model::forward::logits(&golden.weights, &batch, &mut workspace, Precision::F32).unwrap()
}

#[test]
fn logits_are_those_of_training_to_the_bit_however_prompts_are_cut_mixed_and_kept() {
    for (case, page_tokens) in [("gqa", 32), ("tied_scaled", 64), ("long_mqa", 128), ("long_mqa", 32)] {
        let golden = Golden::read(case);
        let vocab_size = golden.weights.config.vocab_size;
        let llama = Llama::new(&golden.weights, Precision::F32, 4096);
        let row =
            |index: usize, length: usize| &golden.batch.inputs[index * golden.batch.seq_len..][..length];
        let length = golden.batch.seq_len;
        let sequences = [row(0, length), row(golden.batch.rows - 1, length / 2)];
        let expected = sequences.map(|tokens| training_logits(&golden, tokens));
        let most = length.div_ceil(page_tokens);
        let mut pages = llama.pages(llama.exact_storage(), page_tokens, 2 * most);
        // Pages in turn, so that no sequence's lie side by side.
        let tables: [Vec<u32>; 2] =
            [0, 1].map(|index| (0..most as u32).map(|page| 2 * page + index).collect());
        let mut scratch = Scratch::default();
        // Three tokens of the one together with one of the other, then whatever is left.
        let mut done = [0, 0];
        for step in 0.. {
            let mut segments = Vec::new();
            let mut starts = Vec::new();
            for (index, pages) in tables.iter().enumerate() {
                let (first, left) = (done[index], sequences[index].len() - done[index]);
                let count = left.min(if step == 5 { left } else { 3 - 2 * index });
                if count > 0 {
                    let tokens = &sequences[index][first..first + count];
                    // Of the second, every other time only that it is read.
                    let wanted = if index == 1 && step % 2 == 1 { 0 } else { count };
                    segments.push(Segment {
                        tokens,
                        first,
                        pages,
                        wanted: Wanted::Logits(wanted),
                        adapter: None,
                    });
                    starts.push((index, first + count - wanted, wanted));
                    done[index] += count;
                }
            }
            if segments.is_empty() {
                break;
            }
            let outputs = llama.forward(&mut pages, &segments, &mut scratch).unwrap();
            let mut rows = outputs.logits.chunks_exact(vocab_size);
            for (index, start, count) in starts {
                for token in start..start + count {
                    let expected = &expected[index][token * vocab_size..][..vocab_size];
                    assert!(
                        rows.next().unwrap().iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{case}: sequence {index}, token {token}"
                    );
                }
            }
            assert!(rows.next().is_none() && outputs.hidden.is_empty());
        }
        assert_eq!(done, sequences.map(<[u32]>::len));
        // Taken back and run again as the last two tokens, of which the scores of the last are wanted.
        let last = sequences[0].len() - 2;
        let segment = Segment {
            tokens: &sequences[0][last..],
            first: last,
            pages: &tables[0],
            wanted: Wanted::LAST,
            adapter: None,
        };
        let outputs = llama.forward(&mut pages, &[segment], &mut scratch).unwrap();
        assert_eq!(*outputs.logits, expected[0][(last + 1) * vocab_size..]);
    }
}

#[test]
fn hidden_states_are_what_the_output_layer_reads() {
    let golden = Golden::read("gqa");
    let (weights, config) = (&golden.weights, &golden.weights.config);
    let llama = Llama::new(weights, Precision::F32, 64);
    let mut pages = llama.pages(KvStorage::F32, 32, 2);
    let mut scratch = Scratch::default();
    let tokens = &golden.batch.inputs[..7];
    let segments = [
        Segment { tokens, first: 0, pages: &[1], wanted: Wanted::Hidden, adapter: None },
        Segment { tokens, first: 0, pages: &[0], wanted: Wanted::Logits(7), adapter: None },
    ];
    let outputs = llama.forward(&mut pages, &segments, &mut scratch).unwrap();
    assert_eq!(outputs.hidden.len(), tokens.len() * config.dim);
    let lm_head = &weights.data[weights.data.len() - config.vocab_size * config.dim..];
    for (state, logits) in outputs.hidden.chunks(config.dim).zip(outputs.logits.chunks(config.vocab_size)) {
        for (row, &logit) in lm_head.chunks(config.dim).zip(logits) {
            let score: f32 = row.iter().zip(state).map(|(weight, value)| weight * value).sum();
            assert!((score - logit).abs() < 1e-4, "{score} is not {logit}");
        }
    }
}

/// What bf16 and 8 bits do to the scores of a model in f32, as the largest difference over the scores' deviation.
#[test]
fn smaller_storage_moves_scores_a_little() {
    let golden = Golden::read("long_mqa");
    let llama = Llama::new(&golden.weights, Precision::F32, 4096);
    let vocab_size = golden.weights.config.vocab_size;
    let tokens = &golden.batch.inputs[..golden.batch.seq_len];
    let expected = training_logits(&golden, tokens);
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let deviation =
        (expected.iter().map(|score| (score - mean).powi(2)).sum::<f32>() / expected.len() as f32).sqrt();
    for (storage, most) in [(KvStorage::F32, 0.0), (KvStorage::Bf16, 0.02), (KvStorage::Q8, 0.08)] {
        let count = tokens.len().div_ceil(64);
        let mut pages = llama.pages(storage, 64, count);
        let table: Vec<u32> = (0..count as u32).collect();
        let segment =
            Segment { tokens, first: 0, pages: &table, wanted: Wanted::Logits(tokens.len()), adapter: None };
        let mut scratch = Scratch::default();
        let outputs = llama.forward(&mut pages, &[segment], &mut scratch).unwrap();
        let worst =
            outputs.logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / deviation;
        assert!(worst <= most, "{storage:?} moves a score by {worst} of the scores' deviation");
        assert!(storage == KvStorage::F32 || worst > 0.0, "{storage:?} was not used");
        assert_eq!(outputs.logits.len(), tokens.len() * vocab_size);
    }
}

#[test]
fn unusable_tokens_and_lengths_are_refused_and_nothing_is_written() {
    let golden = Golden::read("gqa");
    let llama = Llama::new(&golden.weights, Precision::F32, 40);
    let mut pages = llama.pages(KvStorage::F32, 32, 2);
    let mut scratch = Scratch::default();
    let last = Wanted::LAST;
    for (tokens, table, wanted, part) in [
        (vec![], &[0, 1][..], last, "no tokens"),
        (vec![1; 41], &[0, 1], last, "limit is 40"),
        (vec![1; 33], &[0], last, "1 pages of 32"),
        (vec![1, 64], &[0], last, "token 64 is outside"),
        (vec![1, 2], &[0], Wanted::Logits(3), "more of them"),
    ] {
        let segment = Segment { tokens: &tokens, first: 0, pages: table, wanted, adapter: None };
        let error = llama.forward(&mut pages, &[segment], &mut scratch).err().unwrap();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(pages.held_bytes(), 0);
    }
}
