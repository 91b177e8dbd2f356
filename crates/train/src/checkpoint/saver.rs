//! Saves checkpoints behind the training's back: a step waits for a copy in memory, not for the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use kernels::reduce;
use model::TensorSpec;

use super::{State, Tensors, save};
use crate::Error;

/// Writes checkpoints on a thread of its own, one at a time.
pub struct Saver {
    dir: PathBuf,
    specs: Arc<[TensorSpec]>,
    keep: usize,
    worker: Option<JoinHandle<(Copy, Result<PathBuf, Error>)>>,
    /// The copy's memory, from the second checkpoint on.
    spare: Option<Copy>,
}

struct Copy {
    weights: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Saver {
    /// Will write the tensors of `specs` under `dir` and keep the last `keep` checkpoints.
    pub fn new(dir: PathBuf, specs: Vec<TensorSpec>, keep: usize) -> Self {
        Self { dir, specs: specs.into(), keep, worker: None, spare: None }
    }

    /// Whether the last checkpoint is still being written.
    pub fn is_busy(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| !worker.is_finished())
    }

    /// Copies everything and begins to write it. Waits for the checkpoint before, whose failure is reported here.
    pub fn begin(&mut self, state: State, tensors: &Tensors) -> Result<(), Error> {
        self.finish()?;
        let length = tensors.weights.len();
        let empty =
            || Copy { weights: vec![0.0; length], first: vec![0.0; length], second: vec![0.0; length] };
        let mut copy = self.spare.take().unwrap_or_else(empty);
        reduce::copy(&mut copy.weights, tensors.weights);
        reduce::copy(&mut copy.first, tensors.first);
        reduce::copy(&mut copy.second, tensors.second);
        let (dir, specs, keep) = (self.dir.clone(), Arc::clone(&self.specs), self.keep);
        self.worker = Some(std::thread::spawn(move || {
            let tensors = Tensors { weights: &copy.weights, first: &copy.first, second: &copy.second };
            let saved = save(&dir, &state, &specs, &tensors, keep);
            (copy, saved)
        }));
        Ok(())
    }

    /// Writes a checkpoint without a copy and returns when it is on the disk.
    pub fn save_now(&mut self, state: &State, tensors: &Tensors) -> Result<PathBuf, Error> {
        self.finish()?;
        save(&self.dir, state, &self.specs, tensors, self.keep)
    }

    /// Waits for the checkpoint that is being written, if any.
    pub fn finish(&mut self) -> Result<(), Error> {
        let Some(worker) = self.worker.take() else { return Ok(()) };
        let (copy, saved) = worker.join().map_err(|_| Error::Checkpoint {
            path: self.dir.clone(),
            reason: "its writer panicked".to_owned(),
        })?;
        self.spare = Some(copy);
        saved.map(drop)
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            // The training is failing for another reason already; what this thread was writing is still worth having.
            let _ = worker.join();
        }
    }
}
