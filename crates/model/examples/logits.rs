//! Reads a Hugging Face folder and a file of tokens, and writes the logits of every token: for comparing our forward
//! with another program's (`tests/golden/check_export.py`).
//!
//!     cargo run --release -p model --example logits -- FOLDER TOKENS.json OUT.safetensors [EXPORT]
//!
//! `TOKENS.json` is `{"tokens": [[1, 2, 3], [4, 5, 6]]}`, rows of one length, each a document. `OUT` holds one tensor,
//! `logits` `[rows, length, vocabulary]` in f32. With `EXPORT` the model is also written to that folder, as `alti` does.

use std::error::Error;
use std::path::Path;

use kernels::gemm::Precision;
use model::hf::{self, SaveOptions};
use model::{Batch, Workspace, forward};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

#[derive(serde::Deserialize)]
struct Input {
    tokens: Vec<Vec<u32>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, tokens, out, export @ ..] = arguments.as_slice() else {
        return Err("usage: logits FOLDER TOKENS.json OUT.safetensors [EXPORT]".into());
    };
    let weights = hf::load(Path::new(folder))?;
    let input: Input = serde_json::from_slice(&std::fs::read(tokens)?)?;
    let (rows, seq_len) = (input.tokens.len(), input.tokens.first().map_or(0, Vec::len));
    if input.tokens.iter().any(|row| row.len() != seq_len) {
        return Err(format!("{tokens}: the rows differ in length").into());
    }
    let mut batch = Batch::new(rows, seq_len);
    batch.inputs = input.tokens.concat();
    let mut workspace = Workspace::forward_only(&weights.config, rows, seq_len);
    let logits = forward::logits(&weights, &batch, &mut workspace, Precision::F32)?;

    let shape = vec![rows, seq_len, weights.config.vocab_size];
    let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&logits))?;
    safetensors::serialize_to_file([("logits", view)], None, Path::new(out))?;
    if let [export, ..] = export {
        std::fs::create_dir_all(export)?;
        hf::save(Path::new(export), &weights, &SaveOptions::new(1, vec![2]))?;
    }
    Ok(())
}
