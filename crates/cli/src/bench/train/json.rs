//! The figures of a step for programs; `docs/guide/3-base-model.md` says what each is.

use serde_json::{Value, json};
use train::bench::{Bound, Share};

use super::Report;
use crate::bench::{machine as machine_of, program};

/// Of this form. A number that changes its meaning raises it.
const VERSION: u32 = 1;

pub fn of(report: &Report) -> Value {
    let Report { plan, measured, roofline, machine, .. } = report;
    let model = &plan.model;
    let breakdown = &measured.breakdown;
    let operations: Vec<Value> = breakdown.operations.iter().map(|share| operation(share, report)).collect();
    json!({
        "bench": "train",
        "version": VERSION,
        "subject": report.subject,
        "program": program(),
        "machine": machine_of(machine, report.threads, json!({
            "instructions": report.instructions(),
            "peak_flops_per_second": roofline.peak,
            "read_bytes_per_second": roofline.bandwidth.read,
            "update_bytes_per_second": roofline.bandwidth.update,
            "buffer_bytes": roofline.bandwidth.buffer,
            "last_cache_bytes": roofline.bandwidth.last_cache,
        })),
        "precision": report.precision(),
        "recompute": report.settings.recompute,
        "model": {
            "parameters": measured.parameters,
            "dim": model.dim,
            "layers": model.layers,
            "heads": model.heads,
            "kv_heads": model.kv_heads,
            "ffn_dim": model.ffn_dim,
            "vocab_size": model.vocab_size,
        },
        "batch": {
            "rows": plan.rows,
            "seq_len": plan.seq_len,
            "micro_batches": measured.micro_batches,
            "recipe_micro_batches": plan.accumulation,
            "tokens": measured.tokens,
            "documents": measured.documents,
        },
        "step": {
            "seconds": measured.seconds,
            "median_seconds": measured.median(),
            "tokens_per_second": measured.tokens_per_second(),
            "flops_per_token": measured.flops_per_token,
            "flops_utilisation": report.utilisation(),
            "loss": measured.loss,
        },
        "memory": {
            "peak_bytes": measured.memory.peak,
            "weights": measured.memory.weights,
            "gradients": measured.memory.gradients,
            "moments": measured.memory.moments,
            "activations": measured.memory.activations,
            "scratch": measured.memory.scratch,
        },
        "breakdown": {
            "steps": breakdown.steps,
            "seconds": breakdown.seconds,
            "rest_seconds": breakdown.rest(),
            "operations": operations,
        },
    })
}

fn operation(share: &Share, report: &Report) -> Value {
    let least = report.roofline.least(share);
    json!({
        "name": share.name.to_string(),
        "operation": share.name.operation.name(),
        "role": share.name.role,
        "pass": share.name.pass.name(),
        "again": share.name.again,
        "calls": share.calls,
        "seconds": share.seconds,
        "flops": share.flops,
        "read_bytes": share.read,
        "written_bytes": share.written,
        "least_seconds": least.seconds,
        "roofline": least.seconds / share.seconds,
        "bound": match least.bound {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
        },
    })
}
