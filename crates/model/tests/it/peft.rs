//! Adapter folders: one that peft wrote computes the same here, ours read back the same, and damaged ones say where.

use std::fs;
use std::path::{Path, PathBuf};

use kernels::gemm::{Accumulate, Precision};
use kernels::quant::Format;
use ledger::seed::Seed;
use model::adapters::Module;
use model::backward::loss_and_gradients;
use model::{Adapted, AdapterSettings, Adapters, Config, Formats, Frozen, Workspace, forward, peft};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::golden::{Golden, values, worst};

/// `tests/golden/adapters.py` makes it.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peft")
}

#[test]
fn adapters_of_peft_give_its_logits_loss_and_gradients() {
    let golden = Golden::read("gqa");
    let bytes = fs::read(folder().join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let formats = Formats { linear: Format::F32, embedding: Format::F32 };
    let base = Frozen::new(&golden.weights, formats).unwrap();
    let adapters = peft::load(&folder(), base.config()).unwrap();
    let adapted = Adapted::new(&base, &adapters);
    let batch = &golden.batch;
    let mut workspace = Workspace::new(base.config(), batch.rows, batch.seq_len);

    let logits = forward::logits(&adapted, batch, &mut workspace, Precision::F32).unwrap();
    let expected: Vec<f32> = values(&file, "logits", f32::from_le_bytes);
    let difference = logits.iter().zip(&expected).fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
    assert!(difference < 1e-4, "logits differ by {difference}");

    let mut gradients = vec![f32::NAN; adapters.data.len()];
    let (overwrite, precision) = (Accumulate::Overwrite, Precision::F32);
    let sums =
        loss_and_gradients(&adapted, batch, &mut workspace, &mut gradients, overwrite, precision).unwrap();
    let loss = values(&file, "loss", f64::from_le_bytes)[0];
    assert!((sums.mean() - loss).abs() < 2e-6 * loss, "loss {}, not {loss}", sums.mean());
    let scale = (1.0 / sums.weight) as f32;
    gradients.iter_mut().for_each(|gradient| *gradient *= scale);
    for tensor in adapters.tensors() {
        let expected: Vec<f32> = values(&file, &format!("grad.{}", tensor.name), f32::from_le_bytes);
        let worst = worst(&gradients[tensor.range.clone()], &expected);
        assert!(worst < 2e-5, "gradient of {} differs by {worst} of its largest", tensor.name);
    }
}

fn config() -> Config {
    Golden::read("gqa").weights.config
}

fn saved(settings: &AdapterSettings) -> (tempfile::TempDir, Adapters) {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed(4).stream("adapters", 0);
    let mut adapters = Adapters::init(&config(), settings, &mut rng).unwrap();
    adapters.data.iter_mut().for_each(|value| *value += rng.normal());
    peft::save(dir.path(), &adapters, Some("a/base")).unwrap();
    (dir, adapters)
}

#[test]
fn a_saved_folder_reads_back() {
    for (alpha, rank_stabilised, modules) in
        [(16.0, false, Module::ALL.to_vec()), (2.5, true, vec![Module::VProj, Module::QProj])]
    {
        let dropout = if rank_stabilised { 0.1 } else { 0.0 };
        let (dir, written) = saved(&AdapterSettings { rank: 4, alpha, rank_stabilised, dropout, modules });
        let read = peft::load(dir.path(), &config()).unwrap();
        assert_eq!((read.settings(), &read.data), (written.settings(), &written.data));
    }
}

fn edit(dir: &Path, from: &str, to: &str) {
    let path = dir.join("adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn what_is_not_plain_lora_for_this_model_is_refused_by_name() {
    for (from, to, part) in [
        ("\"LORA\"", "\"IA3\"", "peft_type is \"IA3\""),
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora is true"),
        (
            "\"modules_to_save\": null",
            "\"modules_to_save\": [\"lm_head\"]",
            "modules_to_save is [\"lm_head\"]",
        ),
        ("\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 2}", "rank_pattern is"),
        ("\"use_dora\": false", "\"a_later_kind\": 3", "a_later_kind is 3"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", "\"pissa\""),
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias is \"all\""),
        ("\"q_proj\"", "\"c_attn\"", "target_modules names \"c_attn\""),
        (
            "\"q_proj\"",
            "\"lm_head\"",
            "target_modules names \"lm_head\", the output layer; adapters are read on",
        ),
        ("\"q_proj\"", "\"embed_tokens\"", "target_modules names \"embed_tokens\", the embedding"),
        ("\"r\": 4", "\"r\": -4", "r is -4"),
        ("\"r\": 4", "\"r\": 4000000000", "rank is 4000000000"),
        ("\"r\": 4", "\"r\": 5", "lora_A.weight: shape [4, 32]"),
        ("\"lora_dropout\": 0.0", "\"lora_dropout\": 1.0", "dropout is 1, not in [0, 1)"),
        ("\"lora_dropout\": 0.0", "\"lora_dropout\": \"some\"", "lora_dropout is \"some\""),
        ("\"up_proj\",", "", "up_proj.lora_A.weight belongs to no module"),
        ("{", "[", "adapter_config.json"),
    ] {
        let (dir, _) = saved(&AdapterSettings { rank: 4, ..AdapterSettings::default() });
        edit(dir.path(), from, to);
        let error = peft::load(dir.path(), &config()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        // What another program could still make use of has a remedy of its own.
        let kind = ["peft_type", "only plain", "pissa", "bias is", "names"];
        let is_another_kind = kind.iter().any(|part| error.to_string().contains(part));
        let hint = error.hint().unwrap();
        assert!(
            hint.contains(if is_another_kind { "merge_and_unload" } else { "adapter_model.safetensors" }),
            "{error}: {hint}"
        );
    }
    let (dir, _) =
        saved(&AdapterSettings { rank: 4, modules: vec![Module::QProj], ..AdapterSettings::default() });
    edit(dir.path(), "\"q_proj\"", "\"q_proj\", \"k_proj\"");
    let message = peft::load(dir.path(), &config()).unwrap_err().to_string();
    assert!(message.contains("k_proj.lora_A.weight is missing"), "{message}");
}

/// As peft saves them where the vocabulary was resized, under a configuration that does not tell.
#[test]
fn whole_layers_beside_the_adapters_are_refused_by_name() {
    for (name, layer) in [
        ("base_model.model.model.embed_tokens.weight", "the embedding"),
        ("base_model.model.lm_head.base_layer.weight", "the output layer"),
    ] {
        let (dir, _) =
            saved(&AdapterSettings { rank: 2, modules: vec![Module::QProj], ..AdapterSettings::default() });
        let path = dir.path().join("adapter_model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = stored.tensors();
        tensors.push((name.to_owned(), TensorView::new(Dtype::F32, vec![2, 2], &[0; 16]).unwrap()));
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let error = peft::load(dir.path(), &config()).unwrap_err();
        let wanted = format!("tensor {name} changes {layer}; adapters are read on");
        assert!(error.to_string().contains(&wanted), "{error}");
        assert!(error.hint().unwrap().contains("merge_and_unload"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_files_end_in_an_error_or_load(place in any::<usize>(), byte in any::<u8>(), cut in any::<bool>(), weights in any::<bool>()) {
        let (dir, _) = saved(&AdapterSettings { rank: 2, modules: vec![Module::QProj], ..AdapterSettings::default() });
        let name = if weights { "adapter_model.safetensors" } else { "adapter_config.json" };
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        // The first kilobyte holds the header and most of the values.
        let place = place % bytes.len().min(1024);
        bytes[place] = byte;
        if cut {
            bytes.truncate(place);
        }
        fs::write(&path, bytes).unwrap();
        if let Err(error) = peft::load(dir.path(), &config()) {
            prop_assert!(error.to_string().contains("adapter_"), "{error}");
        }
    }
}
