//! Checkpoints come back bit for bit, and a damaged one is never used.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Mutex;

use ledger::progress::{Silent, Task, Unit};

use super::*;
use model::Config;

use crate::Size;

/// Keeps the warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn begin(&self, _label: &str, _total: Option<u64>, _unit: Unit) -> Box<dyn Task> {
        Box::new(Silent)
    }

    fn note(&self, text: &str) {
        self.warn(text);
    }

    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

fn config() -> Config {
    Config {
        dim: 8,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        ffn_dim: 12,
        vocab_size: 10,
        ..Size::Nano.plan().model
    }
}

fn specs() -> Vec<TensorSpec> {
    model::weights::tensors(&config())
}

/// Values that tell the step, the vector and the place, among them what only bits can compare.
fn values(step: u64, vector: u32) -> Vec<f32> {
    let mut values: Vec<f32> = (0..config().parameters() as u32)
        .map(|i| (step as u32 * 7919 + vector * 131 + i) as f32 * 1e-3)
        .collect();
    values[0] = -0.0;
    values[1] = f32::MIN_POSITIVE / 4.0;
    values
}

fn state(step: u64) -> State {
    let mut state = State::new("pretrain", Digest::of_bytes(b"run"));
    state.step = step;
    state.watch.remember(0.1 + 0.2, 1.0 / 3.0);
    state
}

fn save_step(dir: &Path, step: u64, keep: usize) -> PathBuf {
    let (weights, first, second) = (values(step, 0), values(step, 1), values(step, 2));
    let tensors = Tensors { weights: &weights, first: &first, second: &second };
    save(dir, &state(step), &specs(), &tensors, keep).unwrap()
}

/// The step that is restored, after its values were compared.
fn restore(dir: &Path, run: &[u8], progress: &dyn Progress) -> Option<u64> {
    let length = config().parameters() as usize;
    let (mut weights, mut first, mut second) = (vec![9.0; length], vec![9.0; length], vec![9.0; length]);
    let mut into = TensorsMut { weights: &mut weights, first: &mut first, second: &mut second };
    let found = restore_newest(dir, &Digest::of_bytes(run), &specs(), &mut into, progress).unwrap();
    let Some((found, path)) = found else {
        assert!(weights.iter().chain(&first).chain(&second).all(|&value| value == 9.0));
        return None;
    };
    assert_eq!(found, state(found.step));
    assert!(path.ends_with(format!("step-{:08}", found.step)));
    for (vector, restored) in [&weights, &first, &second].into_iter().enumerate() {
        let expected = values(found.step, vector as u32);
        assert!(restored.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    Some(found.step)
}

#[test]
fn the_newest_comes_back_bit_for_bit_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("checkpoints");
    assert_eq!(restore(&dir, b"run", &Silent), None);
    for step in [10, 20, 30] {
        save_step(&dir, step, 2);
    }
    assert_eq!(list(&dir).unwrap().iter().map(|&(step, _)| step).collect::<Vec<_>>(), [20, 30]);
    assert_eq!(restore(&dir, b"run", &Silent), Some(30));
    assert_eq!(restore(&dir, b"another run", &Silent), None);
    // A run that begins anew removes the later steps of the one that was given up.
    save_step(&dir, 5, 2);
    assert_eq!(list(&dir).unwrap().iter().map(|&(step, _)| step).collect::<Vec<_>>(), [5]);
}

#[test]
fn damage_of_any_kind_leads_to_the_one_before_with_a_warning_that_names_the_file() {
    let shorten = |path: &Path| OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap();
    let flip = |path: &Path| {
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::End(-2)).unwrap();
        file.write_all(&[0x55]).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let damages: [&dyn Fn(&Path); 3] = [&shorten, &flip, &remove];
    for file in [MODEL, OPTIMIZER, STATE, COMPLETE] {
        for damage in damages {
            let folder = tempfile::tempdir().unwrap();
            save_step(folder.path(), 1, 3);
            let newest = save_step(folder.path(), 2, 3);
            damage(&newest.join(file));
            let warnings = Warnings::default();
            assert_eq!(restore(folder.path(), b"run", &warnings), Some(1), "{file}");
            let warnings = warnings.0.into_inner().unwrap();
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains("step-00000002") && warnings[0].contains(file), "{warnings:?}");
            // The run goes on and writes the damaged step again.
            save_step(folder.path(), 2, 3);
            assert_eq!(restore(folder.path(), b"run", &Silent), Some(2));
        }
    }
}

#[test]
fn other_programs_read_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = save_step(folder.path(), 1, 1);
    let (model, optimizer) = (fs::read(path.join(MODEL)).unwrap(), fs::read(path.join(OPTIMIZER)).unwrap());
    let model = safetensors::SafeTensors::deserialize(&model).unwrap();
    let optimizer = safetensors::SafeTensors::deserialize(&optimizer).unwrap();
    for tensor in model::weights::tensors(&config()) {
        for (file, name, vector) in [
            (&model, tensor.name.clone(), 0),
            (&optimizer, format!("m.{}", tensor.name), 1),
            (&optimizer, format!("v.{}", tensor.name), 2),
        ] {
            let view = file.tensor(&name).unwrap();
            assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, tensor.shape.as_slice()));
            let expected = &values(1, vector)[tensor.range.clone()];
            assert_eq!(view.data(), bytemuck::cast_slice::<f32, u8>(expected), "{name}");
        }
    }
}

#[test]
fn a_saver_writes_what_it_was_given_and_not_what_came_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut saver = Saver::new(folder.path().to_owned(), specs(), 2);
    for step in 1..=4 {
        let (mut weights, first, second) = (values(step, 0), values(step, 1), values(step, 2));
        saver.begin(state(step), &Tensors { weights: &weights, first: &first, second: &second }).unwrap();
        weights.fill(0.0);
    }
    saver.finish().unwrap();
    assert_eq!(restore(folder.path(), b"run", &Silent), Some(4));
    assert_eq!(list(folder.path()).unwrap().len(), 2);
}

#[test]
fn a_disk_that_refuses_is_reported_by_the_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut saver = Saver::new(file.join("checkpoints"), specs(), 2);
    let (weights, first, second) = (values(1, 0), values(1, 1), values(1, 2));
    saver.begin(state(1), &Tensors { weights: &weights, first: &first, second: &second }).unwrap();
    let error = saver.finish().unwrap_err();
    assert!(error.to_string().contains("checkpoints"), "{error}");
}
