//! Models that answer from the blocks of their files: close to the same values in floats, and the same bits however a prompt
//! arrives.

use kernels::gemm::Precision;
use kernels::isa;
use ledger::progress::Silent;
use ledger::seed::Seed;
use model::formats::{self, Checkpoint, Storage, gguf, hf};
use model::infer::{Llama, Scratch, Segment, Wanted};
use model::{Config, Weights};

/// Widths that hold whole blocks, and rows that do not fill a panel.
fn config(tied_embeddings: bool) -> Config {
    Config {
        dim: 512,
        layers: 3,
        heads: 8,
        kv_heads: 2,
        head_dim: 64,
        ffn_dim: 768,
        vocab_size: 1003,
        max_seq_len: 256,
        tied_embeddings,
        rope_scaling: None,
        ..Config::preset("8b").unwrap()
    }
}

fn converted(config: &Config, storage: Storage) -> (tempfile::TempDir, Checkpoint) {
    let weights = Weights::init(config, &mut Seed(3).stream("weights", 0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    gguf::write(&path, &weights, Some(storage), &[], &Silent).unwrap();
    let checkpoint = formats::open(&path).unwrap();
    (dir, checkpoint)
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|at| (at * at * 31 + 7) % 1003).collect()
}

/// Logits of all tokens, which arrive in parts of so many.
fn logits(llama: &Llama, tokens: &[u32], parts: usize) -> Vec<f32> {
    let most = tokens.len().div_ceil(32);
    let mut pages = llama.pages(llama.exact_storage(), 32, most);
    let table: Vec<u32> = (0..most as u32).collect();
    let (mut scratch, mut all) = (Scratch::default(), Vec::new());
    for (index, tokens) in tokens.chunks(parts).enumerate() {
        let (first, wanted) = (index * parts, Wanted::Logits(tokens.len()));
        let segment = Segment { tokens, first, pages: &table, wanted, adapter: None };
        all.extend_from_slice(llama.forward(&mut pages, &[segment], &mut scratch).unwrap().logits);
    }
    all
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// How far values are from others, as a share of those: the root of the sums of squares.
fn distance(exact: &[f32], found: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 { values.map(|v| f64::from(v * v)).sum() };
    let error = squares(&mut exact.iter().zip(found).map(|(exact, found)| exact - found));
    (error / squares(&mut exact.iter().copied())).sqrt()
}

#[test]
fn logits_are_close_to_those_of_the_same_values_in_floats() {
    // A tied model's logits are smaller beside what rounding adds. Twice what was measured would be a fault.
    for (tied, storage, most) in [
        (false, Storage::Q8_0, 0.015),
        (true, Storage::Q8_0, 0.035),
        (false, Storage::Q4_0, 0.018),
        (true, Storage::Q4_0, 0.044),
        (false, Storage::Q4KM, 0.022),
        (true, Storage::Q4KM, 0.06),
        (true, Storage::Q6K, 0.06),
        (false, Storage::Q5KM, 0.022),
        (true, Storage::Q5KM, 0.06),
        (true, Storage::Q5_1, 0.044),
        (true, Storage::Q5_0, 0.044),
        (true, Storage::Q4_1, 0.044),
        (false, Storage::F16, 0.0),
    ] {
        let (_dir, checkpoint) = converted(&config(tied), storage);
        let tokens = tokens(70);
        let floats = Llama::new(&checkpoint.weights().unwrap(), Precision::F32, 256);
        let opened = Llama::open(&checkpoint, Precision::F32, 256).unwrap();
        let (exact, found) = (logits(&floats, &tokens, 70), logits(&opened, &tokens, 70));
        let share = distance(&exact, &found);
        assert!(share <= most, "{} tied {tied}: off by {share} of the logits", storage.name());
        assert!(storage == Storage::F16 || share > 1e-4, "{}: not rounded at all", storage.name());
    }
}

#[test]
fn bits_do_not_depend_on_how_a_prompt_arrives_nor_on_threads_nor_on_the_processor() {
    for storage in [Storage::Q8_0, Storage::Q5_1, Storage::Q4_0, Storage::Q5KM, Storage::Q4KM] {
        let (_dir, checkpoint) = converted(&config(true), storage);
        let tokens = tokens(50);
        let llama = Llama::open(&checkpoint, Precision::F32, 256).unwrap();
        let whole = bits(&logits(&llama, &tokens, 50));
        for parts in [1, 3, 7, 17, 33] {
            for threads in [1, 2, 3] {
                let found = isa::with(isa::detected(), threads, || logits(&llama, &tokens, parts));
                assert!(bits(&found) == whole, "{}: {parts} at a time on {threads}", storage.name());
            }
        }
    }
}

/// Of llama.cpp's making: every encoding in one layer, those too that nothing here writes.
#[test]
fn a_layer_may_mix_every_encoding() {
    let checkpoint = formats::open(&crate::formats::made("gguf_parts").join("whole.gguf")).unwrap();
    let floats = Llama::new(&checkpoint.weights().unwrap(), Precision::F32, 64);
    let opened = Llama::open(&checkpoint, Precision::F32, 64).unwrap();
    let vocab_size = opened.config().vocab_size as u32;
    let tokens: Vec<u32> = (0..40).map(|at| (at * at * 31 + 7) % vocab_size).collect();
    let found = logits(&opened, &tokens, 40);
    let share = distance(&logits(&floats, &tokens, 40), &found);
    assert!((1e-4..0.05).contains(&share), "off by {share} of the logits");
    for parts in [1, 7, 33] {
        for threads in [1, 3] {
            let again = isa::with(isa::detected(), threads, || logits(&opened, &tokens, parts));
            assert!(bits(&again) == bits(&found), "{parts} at a time on {threads}");
        }
    }
}

#[test]
fn a_scale_that_is_not_finite_is_named() {
    let (dir, _) = converted(&config(false), Storage::Q4_0);
    let path = dir.path().join("model.gguf");
    let checkpoint = formats::open(&path).unwrap();
    let stored =
        checkpoint.stored().iter().find(|tensor| tensor.name == "blk.1.attn_k.weight").unwrap().clone();
    drop(checkpoint);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = stored.bytes.start + 5 * 18;
    bytes[place..place + 2].copy_from_slice(&[0, 0x7c]);
    std::fs::write(&path, bytes).unwrap();
    let error = Llama::open(&formats::open(&path).unwrap(), Precision::F32, 256).err().unwrap().to_string();
    assert!(error.contains("blk.1.attn_k.weight") && error.contains(&format!("byte {place}")), "{error}");
}

/// What is in floats gives the bits of the whole model in floats.
#[test]
fn other_formats_are_opened_too() {
    for case in ["gqa", "tied_scaled"] {
        let folder = crate::golden::folder(case);
        let (checkpoint, weights) = (formats::open(&folder).unwrap(), hf::load(&folder).unwrap());
        let opened = Llama::open(&checkpoint, Precision::F32, 64).unwrap();
        let made = Llama::new(&weights, Precision::F32, 64);
        let tokens: Vec<u32> = (0..20).map(|at| at * 3 % opened.config().vocab_size as u32).collect();
        assert!(bits(&logits(&opened, &tokens, 20)) == bits(&logits(&made, &tokens, 20)), "{case}");
    }
}
