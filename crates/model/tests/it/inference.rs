//! Cached inference gives the bits of the training forward, whatever is in the batch.

use kernels::gemm::Precision;
use model::infer::{KvCache, Llama, Scratch, Segment, Wanted};
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
fn logits_are_those_of_training_to_the_bit_however_prompts_are_cut_and_mixed() {
    for case in ["gqa", "tied_scaled", "long_mqa"] {
        let golden = Golden::read(case);
        let config = &golden.weights.config;
        let llama = Llama::new(&golden.weights, Precision::F32, 4096);
        let row =
            |index: usize, length: usize| &golden.batch.inputs[index * golden.batch.seq_len..][..length];
        let length = golden.batch.seq_len;
        let sequences = [row(0, length), row(golden.batch.rows - 1, length / 2)];
        let expected = sequences.map(|tokens| training_logits(&golden, tokens));
        let (mut caches, mut scratch) =
            ([KvCache::new(config, 0), KvCache::new(config, 8)], Scratch::default());
        // Three tokens of the one together with one of the other, then whatever is left.
        let mut done = [0, 0];
        for step in 0.. {
            let mut segments = Vec::new();
            let mut starts = Vec::new();
            for (index, cache) in caches.iter_mut().enumerate() {
                let left = sequences[index].len() - done[index];
                let count = left.min(if step == 5 { left } else { 3 - 2 * index });
                if count > 0 {
                    let tokens = &sequences[index][done[index]..done[index] + count];
                    segments.push(Segment { tokens, cache });
                    starts.push((index, done[index], count));
                    done[index] += count;
                }
            }
            if segments.is_empty() {
                break;
            }
            let logits = llama.forward(&mut segments, Wanted::All, &mut scratch).unwrap();
            let mut at = 0;
            for (index, start, count) in starts {
                for token in start..start + count {
                    let expected = &expected[index][token * config.vocab_size..][..config.vocab_size];
                    assert!(
                        logits.row(at).iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{case}: sequence {index}, token {token}"
                    );
                    at += 1;
                }
            }
            assert_eq!(logits.rows(), at);
        }
        assert_eq!(done, sequences.map(<[u32]>::len));
        // Taken back and run again as the last token only.
        let last = sequences[0].len() - 1;
        caches[0].truncate(last);
        let segment = Segment { tokens: &sequences[0][last..], cache: &mut caches[0] };
        let logits = llama.forward(&mut [segment], Wanted::Last, &mut scratch).unwrap();
        assert_eq!(logits.row(0), &expected[0][last * config.vocab_size..]);
    }
}

#[test]
fn unusable_tokens_and_lengths_are_refused_and_leave_the_cache_alone() {
    let golden = Golden::read("gqa");
    let llama = Llama::new(&golden.weights, Precision::F32, 5);
    let mut cache = KvCache::new(llama.config(), 4);
    let mut scratch = Scratch::default();
    for (tokens, part) in
        [(vec![], "no tokens"), (vec![1; 6], "limit is 5"), (vec![1, 64], "token 64 is outside")]
    {
        let segment = Segment { tokens: &tokens, cache: &mut cache };
        let error = llama.forward(&mut [segment], Wanted::Last, &mut scratch).err().unwrap();
        assert!(error.to_string().contains(part), "{error}");
        assert!(cache.is_empty());
    }
}
