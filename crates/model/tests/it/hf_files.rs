//! Folders written here read back the same, and damaged ones end in an error that names the place.

use std::fs;
use std::path::Path;

use kernels::quant::Format;
use ledger::seed::Seed;
use model::hf::{self, SaveOptions, Storage};
use model::{Config, Formats, Weights};
use proptest::prelude::*;

const EXACT: Formats = Formats { linear: Format::F32, embedding: Format::F32 };

fn small() -> Weights {
    let config = Config {
        dim: 8,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        ffn_dim: 12,
        vocab_size: 20,
        rope_scaling: Config::preset("1b").unwrap().rope_scaling,
        ..Config::preset("8b").unwrap()
    };
    Weights::init(&config, &mut Seed(1).stream("weights", 0)).unwrap()
}

#[test]
fn a_saved_folder_reads_back_whole_or_in_shards() {
    let weights = small();
    for (storage, shard_bytes) in
        [(Storage::F32, usize::MAX), (Storage::F32, 1000), (Storage::Bf16, 700), (Storage::F16, 1)]
    {
        let dir = tempfile::tempdir().unwrap();
        let options = SaveOptions { storage, shard_bytes, ..SaveOptions::new(1, vec![2, 3]) };
        hf::save(dir.path(), &weights, &options).unwrap();
        assert_eq!(dir.path().join("model.safetensors.index.json").exists(), shard_bytes != usize::MAX);
        let back = hf::load(dir.path()).unwrap();
        assert_eq!(back.config, weights.config);
        for (read, written) in back.data.iter().zip(weights.data.iter()) {
            let expected = match storage {
                Storage::F32 => *written,
                Storage::F16 => half::f16::from_f32(*written).to_f32(),
                _ => half::bf16::from_f32(*written).to_f32(),
            };
            assert_eq!(read.to_bits(), expected.to_bits());
        }
        let frozen = hf::load_frozen(dir.path(), EXACT).unwrap();
        assert_eq!(frozen.dequantised().unwrap().data, back.data);
    }
}

fn saved() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    hf::save(dir.path(), &small(), &SaveOptions::new(1, vec![2])).unwrap();
    dir
}

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_configuration_of_something_else_is_refused_by_name() {
    for (from, to, part) in [
        ("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"", "\"gpt2\""),
        ("\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias"),
        ("\"silu\"", "\"gelu\"", "hidden_act is \"gelu\""),
        ("\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", "\"yarn\""),
        ("\"llama\"", "\"mistral\"", "sliding_window is 4096: attention that forgets"),
        ("\"mlp_bias\"", "\"sliding_window\": 512, \"_\"", "sliding_window is 512"),
        ("\"mlp_bias\"", "\"partial_rotary_factor\": 0.5, \"_\"", "partial_rotary_factor"),
        ("\"mlp_bias\"", "\"quantization_config\": {\"quant_method\": \"gptq\"}, \"_\"", "weights by gptq"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 200000000", "and the files hold 21 tensors"),
        ("\"hidden_size\": 8", "\"hidden_size\": -8", "hidden_size is -8"),
        ("\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", "multiple of kv_heads"),
        ("\"hidden_size\": 8", "\"hidden_size\": 16", "tensor "),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "is missing (and 8 more)"),
        ("{", "[", "config.json"),
    ] {
        let dir = saved();
        edit(dir.path(), "config.json", from, to);
        let error = hf::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        let error = hf::load_frozen(dir.path(), EXACT).unwrap_err();
        assert!(error.to_string().contains(part.split(" (").next().unwrap()), "{error}");
        assert!(error.hint().is_some());
    }
    assert!(hf::load(Path::new("no/such/folder")).unwrap_err().to_string().contains("no/such/folder"));
}

#[test]
fn a_mistral_without_a_window_is_a_llama() {
    let dir = saved();
    edit(dir.path(), "config.json", "\"mlp_bias\": false", "\"sliding_window\": null");
    edit(dir.path(), "config.json", "\"model_type\": \"llama\"", "\"model_type\": \"mistral\"");
    assert_eq!(hf::load(dir.path()).unwrap().data, small().data);
}

#[test]
fn tensors_that_no_llama_has_are_refused_and_pytorchs_own_files_too() {
    let dir = saved();
    let path = dir.path().join("model.safetensors");
    edit(dir.path(), "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    let error = hf::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.") && error.contains("belongs to no Llama"), "{error}");
    fs::copy(&path, dir.path().join("pytorch_model.bin")).unwrap();
    fs::remove_file(&path).unwrap();
    let error = hf::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
    assert!(error.hint().unwrap().contains("save_pretrained"));
}

#[test]
fn values_that_are_not_finite_are_named() {
    let dir = saved();
    let mut weights = small();
    weights.data[3] = f32::NAN;
    hf::save(dir.path(), &weights, &SaveOptions::new(1, vec![2])).unwrap();
    let errors = [hf::load(dir.path()).unwrap_err(), hf::load_frozen(dir.path(), EXACT).unwrap_err()];
    for message in errors.map(|error| error.to_string()) {
        assert!(message.contains("embed_tokens") && message.contains("value 3 is NaN"), "{message}");
    }
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    let dir = saved();
    let index = "{\"weight_map\": {\"model.norm.weight\": \"../secret.safetensors\"}}";
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    assert!(hf::load(dir.path()).unwrap_err().to_string().contains("not a file name"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_weights_end_in_an_error_or_load(place in 0usize..4000, byte in any::<u8>(), cut in 0usize..4000) {
        let dir = saved();
        let path = dir.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let place = place % bytes.len();
        bytes[place] = byte;
        if cut % 2 == 0 {
            bytes.truncate(cut % bytes.len());
        }
        fs::write(&path, bytes).unwrap();
        for error in [hf::load(dir.path()).err(), hf::load_frozen(dir.path(), EXACT).err()].into_iter().flatten() {
            prop_assert!(error.to_string().contains("model.safetensors"));
        }
    }
}
