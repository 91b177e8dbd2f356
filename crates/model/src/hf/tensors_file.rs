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
    check_shape(path, tensor, stored)?;
    copy_part(path, tensor, stored, 0, to)
}

/// Refuses a stored tensor of another shape than the configuration means.
pub(crate) fn check_shape(path: &Path, tensor: &TensorSpec, stored: &TensorView) -> Result<(), Error> {
    if stored.shape() == tensor.shape {
        return Ok(());
    }
    let (found, meant) = (stored.shape(), &tensor.shape);
    let reason = format!("tensor {}: shape {found:?}, where the configuration means {meant:?}", tensor.name);
    Err(Error::file(path, reason))
}

/// Converts the values from place `start` within a tensor of the right shape on, checking type and values.
pub(crate) fn copy_part(
    path: &Path,
    tensor: &TensorSpec,
    stored: &TensorView,
    start: usize,
    to: &mut [f32],
) -> Result<(), Error> {
    let fault = |reason: String| Err(Error::file(path, format!("tensor {}: {reason}", tensor.name)));
    let bytes = stored.data();
    match stored.dtype() {
        Dtype::F32 => convert(to, bytes, start, f32::from_le_bytes),
        Dtype::BF16 => convert(to, bytes, start, |pair| bf16::from_le_bytes(pair).to_f32()),
        Dtype::F16 => convert(to, bytes, start, |pair| f16::from_le_bytes(pair).to_f32()),
        other => return fault(format!("type {other:?}; F32, BF16 and F16 are read")),
    }
    match to.iter().position(|value| !value.is_finite()) {
        Some(place) => fault(format!("value {} is {}", start + place, to[place])),
        None => Ok(()),
    }
}

fn convert<const N: usize>(to: &mut [f32], bytes: &[u8], start: usize, value: impl Fn([u8; N]) -> f32) {
    let (values, _) = bytes.as_chunks::<N>();
    for (to, bytes) in to.iter_mut().zip(&values[start..]) {
        *to = value(*bytes);
    }
}
