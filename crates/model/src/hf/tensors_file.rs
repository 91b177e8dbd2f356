//! One stored tensor into f32, whatever its type.

use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::{Error, TensorSpec};

/// Converts a stored tensor into its place, checking shape, type and values.
pub(crate) fn copy_tensor(
    path: &Path,
    tensor: &TensorSpec,
    stored: &TensorView,
    to: &mut [f32],
) -> Result<(), Error> {
    let fault = |reason: String| Err(Error::file(path, format!("tensor {}: {reason}", tensor.name)));
    if stored.shape() != tensor.shape {
        return fault(format!(
            "shape {:?}, where the configuration means {:?}",
            stored.shape(),
            tensor.shape
        ));
    }
    let bytes = stored.data();
    match stored.dtype() {
        Dtype::F32 => convert(to, bytes, f32::from_le_bytes),
        Dtype::BF16 => convert(to, bytes, |pair| bf16::from_le_bytes(pair).to_f32()),
        Dtype::F16 => convert(to, bytes, |pair| f16::from_le_bytes(pair).to_f32()),
        other => return fault(format!("type {other:?}; F32, BF16 and F16 are read")),
    }
    match to.iter().position(|value| !value.is_finite()) {
        Some(place) => fault(format!("value {place} is {}", to[place])),
        None => Ok(()),
    }
}

fn convert<const N: usize>(to: &mut [f32], bytes: &[u8], value: impl Fn([u8; N]) -> f32) {
    let (values, _) = bytes.as_chunks::<N>();
    for (to, bytes) in to.iter_mut().zip(values) {
        *to = value(*bytes);
    }
}
