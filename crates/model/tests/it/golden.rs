//! Logits, loss and every gradient against transformers; `tests/golden/model/` makes the files.

use std::path::{Path, PathBuf};

use kernels::gemm::{Accumulate, Precision};
use model::{Batch, Weights, Workspace, hf, weights::tensors};
use safetensors::SafeTensors;

pub fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

pub fn values<T, const N: usize>(file: &SafeTensors, name: &str, value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let view = file.tensor(name).unwrap_or_else(|_| panic!("{name} is not in the golden file"));
    view.data().as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
}

pub struct Golden {
    pub weights: Weights,
    pub batch: Batch,
    bytes: Vec<u8>,
}

impl Golden {
    pub fn read(case: &str) -> Self {
        let bytes = std::fs::read(folder(case).join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let whole = |name| -> Vec<u32> { values(&file, name, |b: [u8; 4]| i32::from_le_bytes(b) as u32) };
        let shape = file.tensor("inputs").unwrap().shape().to_vec();
        let batch = Batch {
            rows: shape[0],
            seq_len: shape[1],
            inputs: whole("inputs"),
            targets: whole("targets"),
            loss_weights: values(&file, "loss_weights", f32::from_le_bytes),
            document_starts: whole("document_starts"),
        };
        Self { weights: hf::load(&folder(case)).unwrap(), batch, bytes }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }
}

/// Largest difference relative to the largest value expected.
pub fn worst(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(1e-6f32, |a, b| a.max(b.abs()));
    actual.iter().zip(expected).fold(0.0f32, |a, (x, y)| a.max((x - y).abs())) / largest
}

fn check(case: &str) {
    let golden = Golden::read(case);
    let file = golden.file();
    let (weights, batch) = (&golden.weights, &golden.batch);
    let config = &weights.config;

    let mut workspace = Workspace::forward_only(config, batch.rows, batch.seq_len);
    let logits = model::forward::logits(weights, batch, &mut workspace, Precision::F32).unwrap();
    let expected: Vec<f32> = values(&file, "logits", f32::from_le_bytes);
    let difference = logits.iter().zip(&expected).fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
    assert!(difference < 1e-4, "{case}: logits differ by {difference}");

    let forward_only = model::forward::loss(weights, batch, &mut workspace, Precision::F32).unwrap();
    let mut workspace = Workspace::new(config, batch.rows, batch.seq_len);
    // The first pass must not read what was there; a second one must add its own.
    let mut gradients = vec![f32::NAN; weights.data.len()];
    let mut pass = |gradients: &mut [f32], accumulate| {
        let precision = Precision::F32;
        model::backward::loss_and_gradients(weights, batch, &mut workspace, gradients, accumulate, precision)
            .unwrap()
    };
    let sums = pass(&mut gradients, Accumulate::Overwrite);
    assert_eq!(sums, forward_only);
    let mut twice = gradients.clone();
    pass(&mut twice, Accumulate::Add);
    let largest = gradients.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let doubled = twice.iter().zip(&gradients).all(|(two, one)| (two - 2.0 * one).abs() <= 1e-5 * largest);
    assert!(doubled, "{case}: a second pass does not add the same gradients");
    let loss = match file.tensor("loss").unwrap().dtype() {
        safetensors::Dtype::F64 => values(&file, "loss", f64::from_le_bytes)[0],
        _ => f64::from(values(&file, "loss", f32::from_le_bytes)[0]),
    };
    assert!((sums.mean() - loss).abs() < 2e-6 * loss, "{case}: loss {}, not {loss}", sums.mean());

    let scale = (1.0 / sums.weight) as f32;
    gradients.iter_mut().for_each(|gradient| *gradient *= scale);
    for tensor in tensors(config) {
        let expected: Vec<f32> = values(&file, &format!("grad.{}", tensor.name), f32::from_le_bytes);
        let worst = worst(&gradients[tensor.range.clone()], &expected);
        assert!(worst < 2e-5, "{case}: gradient of {} differs by {worst} of its largest", tensor.name);
    }
}

#[test]
fn grouped_queries_agree_with_transformers() {
    check("gqa");
}

#[test]
fn odd_sizes_agree_with_transformers() {
    check("odd");
}

#[test]
fn one_kv_head_over_a_long_sequence_agrees_with_transformers() {
    check("long_mqa");
}

#[test]
fn tied_embeddings_and_scaled_frequencies_agree_with_transformers() {
    check("tied_scaled");
}

#[test]
fn bf16_shards_agree_with_transformers() {
    check("sharded_bf16");
}

/// Operands rounded to bf16 move the loss by about one part in a thousand, the gradients by a few in a hundred.
#[test]
fn bf16_products_stay_near_f32() {
    let golden = Golden::read("gqa");
    let run = |precision| {
        let mut workspace = Workspace::new(&golden.weights.config, golden.batch.rows, golden.batch.seq_len);
        let mut gradients = vec![0.0; golden.weights.data.len()];
        let sums = model::backward::loss_and_gradients(
            &golden.weights,
            &golden.batch,
            &mut workspace,
            &mut gradients,
            Accumulate::Add,
            precision,
        );
        (sums.unwrap().mean(), gradients)
    };
    let ((exact, gradients), (rounded, rounded_gradients)) = (run(Precision::F32), run(Precision::Bf16));
    assert_ne!(exact, rounded);
    assert!((exact - rounded).abs() < 5e-3 * exact, "{exact} and {rounded}");
    let norm = |values: &[f32]| kernels::reduce::sum_of_squares(values).sqrt();
    let difference: Vec<f32> = gradients.iter().zip(&rounded_gradients).map(|(a, b)| a - b).collect();
    assert!(norm(&difference) < 0.03 * norm(&gradients));
}
