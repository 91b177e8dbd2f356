//! Adapters in a model that serves: the bits of training's forward, alone and beside sequences of other adapters and of none,
//! over floats and over blocks of integers; peft's logits; and what merging them into the weights would give.

use std::fs;
use std::path::Path;

use kernels::gemm::Precision;
use kernels::quant::Format;
use ledger::progress::Silent;
use ledger::seed::Seed;
use model::adapters::Module;
use model::formats::{self, Storage, gguf};
use model::infer::{Adapter, Llama, Scratch, Segment, Wanted};
use model::{
    Adapted, AdapterSettings, Adapters, Batch, Config, Formats, Frozen, Parameters, Weights, Workspace,
    forward, peft,
};
use safetensors::SafeTensors;

use crate::golden::{Golden, values};

fn adapters(config: &Config, seed: u64, rank: usize, modules: &[Module]) -> Adapters {
    let settings =
        AdapterSettings { rank, alpha: 24.0, modules: modules.to_vec(), ..AdapterSettings::default() };
    let mut rng = Seed(seed).stream("adapters", 0);
    let mut adapters = Adapters::init(config, &settings, &mut rng).unwrap();
    adapters.data.iter_mut().for_each(|value| *value += 0.05 * rng.normal());
    adapters
}

/// A sequence, the adapter that answers it, and the logits `[T, V]` that it is to have.
struct Case<'a> {
    tokens: &'a [u32],
    adapter: Option<&'a Adapter>,
    expected: Vec<f32>,
}

/// Reads all sequences together, `parts` tokens of each at a time (of the second twice, of the third three times as many), and
/// gives the logits of each.
fn together(llama: &Llama, cases: &[Case], parts: usize) -> Vec<Vec<f32>> {
    let vocab_size = llama.config().vocab_size;
    let most = cases.iter().map(|case| case.tokens.len().div_ceil(32)).max().unwrap();
    let mut pages = llama.pages(llama.exact_storage(), 32, most * cases.len());
    let tables: Vec<Vec<u32>> = (0..cases.len())
        .map(|case| (0..most).map(|page| (page * cases.len() + case) as u32).collect())
        .collect();
    let (mut scratch, mut done) = (Scratch::default(), vec![0; cases.len()]);
    let mut logits = vec![Vec::new(); cases.len()];
    loop {
        let (mut segments, mut read) = (Vec::new(), Vec::new());
        for (index, case) in cases.iter().enumerate() {
            let first = done[index];
            let count = (parts * (index + 1)).min(case.tokens.len() - first);
            if count > 0 {
                let (tokens, wanted) = (&case.tokens[first..first + count], Wanted::Logits(count));
                segments.push(Segment {
                    tokens,
                    first,
                    pages: &tables[index],
                    wanted,
                    adapter: case.adapter,
                });
                read.push((index, count));
                done[index] += count;
            }
        }
        if segments.is_empty() {
            return logits;
        }
        let mut rows = &*llama.forward(&mut pages, &segments, &mut scratch).unwrap().logits;
        for (index, count) in read {
            let (own, rest) = rows.split_at(count * vocab_size);
            logits[index].extend_from_slice(own);
            rows = rest;
        }
        assert!(rows.is_empty());
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn check(llama: &Llama, cases: &[Case]) {
    for parts in [1, 5, 1000] {
        for (index, (case, found)) in cases.iter().zip(together(llama, cases, parts)).enumerate() {
            assert!(bits(&found) == bits(&case.expected), "sequence {index}, {parts} at a time");
        }
    }
}

fn training_logits(parameters: &impl Parameters, tokens: &[u32], precision: Precision) -> Vec<f32> {
    let mut batch = Batch::new(1, tokens.len());
    batch.inputs.copy_from_slice(tokens);
    let mut workspace = Workspace::forward_only(parameters.config(), 1, tokens.len());
    forward::logits(parameters, &batch, &mut workspace, precision).unwrap()
}

#[test]
fn logits_are_those_of_training_to_the_bit_in_any_mixture() {
    for (name, precision) in
        [("gqa", Precision::F32), ("tied_scaled", Precision::F32), ("gqa", Precision::Bf16)]
    {
        let golden = Golden::read(name);
        let config = &golden.weights.config;
        let frozen =
            Frozen::new(&golden.weights, Formats { linear: Format::F32, embedding: Format::F32 }).unwrap();
        let llama = Llama::new(&golden.weights, precision, 4096);
        let all = adapters(config, 1, 4, &Module::ALL);
        let some = adapters(config, 2, 3, &[Module::VProj, Module::QProj, Module::DownProj]);
        let packed = [&all, &some].map(|adapters| llama.adapter(adapters).unwrap());
        let row =
            |index: usize, length: usize| &golden.batch.inputs[index * golden.batch.seq_len..][..length];
        let length = golden.batch.seq_len;
        let case = |tokens, which: Option<usize>| Case {
            tokens,
            adapter: which.map(|which| &packed[which]),
            expected: match which {
                Some(which) => {
                    training_logits(&Adapted::new(&frozen, [&all, &some][which]), tokens, precision)
                }
                None => training_logits(&golden.weights, tokens, precision),
            },
        };
        let cases = [
            case(row(0, length), Some(0)),
            case(row(0, length), None),
            case(row(0, length), Some(1)),
            case(row(1, length / 2), Some(0)),
            case(row(1, length), None),
        ];
        assert_ne!(cases[0].expected, cases[1].expected);
        assert_ne!(cases[0].expected, cases[2].expected);
        check(&llama, &cases);
    }
}

/// `tests/golden/adapters.py` makes them.
#[test]
fn an_adapter_of_peft_answers_as_it_does_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peft");
    let golden = Golden::read("gqa");
    let bytes = fs::read(folder.join("golden.safetensors")).unwrap();
    let expected: Vec<f32> = values(&SafeTensors::deserialize(&bytes).unwrap(), "logits", f32::from_le_bytes);
    let llama = Llama::new(&golden.weights, Precision::F32, 4096);
    let adapter = llama.adapter(&peft::load(&folder, llama.config()).unwrap()).unwrap();
    let (batch, vocab_size) = (&golden.batch, llama.config().vocab_size);
    for row in 0..batch.rows {
        let places = row * batch.seq_len..(row + 1) * batch.seq_len;
        let (inputs, starts) = (&batch.inputs[places.clone()], &batch.document_starts[places.clone()]);
        // The documents of a row are sequences here.
        let mut first = 0;
        while first < batch.seq_len {
            let count = starts[first..].iter().take_while(|&&start| start as usize == first).count();
            let tokens = &inputs[first..first + count];
            let case = Case { tokens, adapter: Some(&adapter), expected: Vec::new() };
            let found = &together(&llama, &[case], 7)[0];
            let expected = &expected[(places.start + first) * vocab_size..][..count * vocab_size];
            let worst = found.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst < 1e-4, "row {row}, document at {first}: logits differ by {worst}");
            first += count;
        }
    }
}

#[test]
fn merging_into_the_weights_gives_the_same_within_rounding() {
    let golden = Golden::read("gqa");
    let own = adapters(&golden.weights.config, 3, 4, &Module::ALL);
    let mut merged = golden.weights.clone();
    own.merge(&mut merged);
    let llama = Llama::new(&golden.weights, Precision::F32, 4096);
    let adapter = llama.adapter(&own).unwrap();
    let tokens = &golden.batch.inputs[..golden.batch.seq_len];
    let case = |adapter| [Case { tokens, adapter, expected: Vec::new() }];
    let beside = together(&llama, &case(Some(&adapter)), 9);
    let inside = together(&Llama::new(&merged, Precision::F32, 4096), &case(None), 9);
    let without = together(&llama, &case(None), 9);
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(distance(&beside[0], &inside[0]) < 1e-4, "{}", distance(&beside[0], &inside[0]));
    assert!(distance(&beside[0], &without[0]) > 0.1, "the adapters change nothing");
}

/// Over blocks of integers, where activations are rounded for the base and not for the adapters.
#[test]
fn a_quantised_base_answers_the_same_alone_and_beside_adapters() {
    let config = Config {
        dim: 256,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn_dim: 512,
        vocab_size: 515,
        max_seq_len: 256,
        rope_scaling: None,
        ..Config::preset("1b").unwrap()
    };
    let weights = Weights::init(&config, &mut Seed(3).stream("weights", 0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for (storage, precision) in
        [(Storage::Q8_0, Precision::F32), (Storage::Q8_0, Precision::Bf16), (Storage::Q4KM, Precision::Bf16)]
    {
        gguf::write(&path, &weights, Some(storage), &[], &Silent).unwrap();
        let llama = Llama::open(&formats::open(&path).unwrap(), precision, 256).unwrap();
        let loaded = [(4, 16), (5, 8)]
            .map(|(seed, rank)| llama.adapter(&adapters(llama.config(), seed, rank, &Module::ALL)).unwrap());
        let tokens: Vec<u32> = (0..90).map(|at| (at * at * 31 + 7) % 515).collect();
        let case = |tokens, adapter| {
            let alone = together(&llama, &[Case { tokens, adapter, expected: Vec::new() }], 1000).remove(0);
            Case { tokens, adapter, expected: alone }
        };
        let cases = [
            case(&tokens[..], Some(&loaded[1])),
            case(&tokens[..70], None),
            case(&tokens[..], Some(&loaded[0])),
            case(&tokens[3..], Some(&loaded[1])),
        ];
        assert_ne!(cases[0].expected, cases[2].expected);
        check(&llama, &cases);
    }
}

#[test]
fn an_adapter_of_another_model_is_refused_and_nothing_is_written() {
    let golden = Golden::read("gqa");
    let llama = Llama::new(&golden.weights, Precision::F32, 64);
    let other = Golden::read("tied_scaled");
    let own = adapters(&other.weights.config, 1, 4, &Module::ALL);
    assert!(llama.adapter(&own).unwrap_err().to_string().contains("another shape"));
    let strange = Llama::new(&other.weights, Precision::F32, 64).adapter(&own).unwrap();
    let mut pages = llama.pages(llama.exact_storage(), 32, 1);
    let segment =
        Segment { tokens: &[1, 2], first: 0, pages: &[0], wanted: Wanted::LAST, adapter: Some(&strange) };
    let error = llama.forward(&mut pages, &[segment], &mut Scratch::default()).err().unwrap();
    assert!(error.to_string().contains("another shape"), "{error}");
    assert_eq!(pages.held_bytes(), 0);
}
