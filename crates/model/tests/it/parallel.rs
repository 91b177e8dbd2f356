//! A model divided between ranks, by layers or within each block, gives the losses and gradients of the whole one.

use std::sync::{Barrier, Mutex};

use kernels::gemm::{Accumulate, Precision};
use model::backward::{End, loss_and_gradients};
use model::recompute::{Again, Recompute};
use model::weights::tensors;
use model::{Batch, Config, Group, Parameters, Solo, Stage, Weights, Workspace, backward, forward};

use crate::golden::{Golden, worst};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Losses and gradients of a model in one piece.
fn whole(weights: &Weights, batch: &Batch) -> (Vec<f32>, Vec<f32>) {
    let mut workspace = Workspace::new(&weights.config, batch.rows, batch.seq_len);
    let mut gradients = vec![f32::NAN; weights.data.len()];
    let (overwrite, precision) = (Accumulate::Overwrite, Precision::F32);
    loss_and_gradients(weights, batch, &mut workspace, &mut gradients, overwrite, precision).unwrap();
    (workspace.losses().to_vec(), gradients)
}

/// Two stages of a pipeline in one process: what the one hands on, the other takes, and back.
fn check_pipeline(case: &str, first_layers: usize) {
    let Golden { weights, batch, .. } = Golden::read(case);
    let (losses, gradients) = whole(&weights, &batch);
    let layers = weights.config.layers;
    let stages = [Stage::cut(&weights, 0..first_layers), Stage::cut(&weights, first_layers..layers)];
    let mut workspaces =
        stages.each_ref().map(|stage| Workspace::new(&stage.config, batch.rows, batch.seq_len));
    let mut own = stages.each_ref().map(|stage| vec![f32::NAN; stage.data.len()]);
    let [first, last] = &stages;
    let [first_space, last_space] = &mut workspaces;
    let (overwrite, precision) = (Accumulate::Overwrite, Precision::F32);
    forward::stage(first, &Solo, &batch, None, first_space, precision).unwrap();
    forward::stage(last, &Solo, &batch, Some(first_space.stream()), last_space, precision).unwrap();
    let sums = backward::stage(last, &Solo, &batch, End::Loss, last_space, &mut own[1], overwrite, precision);
    let end = End::Gradient(last_space.stream_gradient());
    let none = backward::stage(first, &Solo, &batch, end, first_space, &mut own[0], overwrite, precision);

    assert!(bits(last_space.losses()) == bits(&losses), "{case}: losses");
    assert_eq!((sums.weight, none.weight), (batch.weight(), 0.0));
    if weights.config.tied_embeddings {
        // Both ends hold the embedding; the pipeline's plan adds the two gradients, in an order of its own.
        let table = last.layout().lm_head;
        let rest = own[0].len();
        let (end, theirs) = own[1].split_at(table.start);
        let mut together = own[0].clone();
        together[..table.len()].iter_mut().zip(theirs).for_each(|(sum, value)| *sum += value);
        assert!(worst(&together[..table.len()], &gradients[..table.len()]) < 1e-6, "{case}: the embedding");
        assert!(bits(&together[table.len()..]) == bits(&gradients[table.len()..rest]), "{case}: first stage");
        assert!(bits(end) == bits(&gradients[rest..]), "{case}: last stage");
    } else {
        assert!(bits(&own.concat()) == bits(&gradients), "{case}: gradients, cut at {first_layers}");
    }
}

#[test]
fn two_stages_give_the_bits_of_the_whole_model() {
    for (case, cut) in [("gqa", 1), ("odd", 1), ("odd", 2), ("tied_scaled", 1)] {
        check_pipeline(case, cut);
    }
}

/// Two ranks in two threads that add up what they bring, in the order of the ranks.
struct Pair<'a> {
    rank: usize,
    brought: &'a [Mutex<Vec<f32>>; 2],
    barrier: &'a Barrier,
}

impl Group for Pair<'_> {
    fn leads(&self) -> bool {
        self.rank == 0
    }

    fn sum(&self, values: &mut [f32]) {
        *self.brought[self.rank].lock().unwrap() = values.to_vec();
        self.barrier.wait();
        let (one, two) = (self.brought[0].lock().unwrap(), self.brought[1].lock().unwrap());
        for (sum, (one, two)) in values.iter_mut().zip(one.iter().zip(two.iter())) {
            *sum = one + two;
        }
        drop((one, two));
        self.barrier.wait();
    }
}

/// One rank's share of a flat vector, of weights or of gradients: half of the rows of what opens a half of the block, half
/// of the columns of what closes it, and all of everything else.
fn share(config: &Config, whole: &[f32], rank: usize) -> Vec<f32> {
    let mut own = Vec::new();
    for tensor in tensors(config) {
        let values = &whole[tensor.range.clone()];
        let opens = ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"];
        let is = |names: &[&str]| names.iter().any(|name| tensor.name.contains(name));
        if is(&opens) {
            own.extend_from_slice(&values[rank * values.len() / 2..(rank + 1) * values.len() / 2]);
        } else if is(&["o_proj", "down_proj"]) {
            let width = tensor.shape[1] / 2;
            for row in values.chunks(2 * width) {
                own.extend_from_slice(&row[rank * width..(rank + 1) * width]);
            }
        } else {
            own.extend_from_slice(values);
        }
    }
    own
}

fn check_tensor_parallel(case: &str, recompute: &Recompute) {
    let Golden { weights, batch, .. } = Golden::read(case);
    let (losses, gradients) = whole(&weights, &batch);
    let config = &weights.config;
    let half = Config {
        heads: config.heads / 2,
        kv_heads: config.kv_heads / 2,
        ffn_dim: config.ffn_dim / 2,
        ..config.clone()
    };
    let (brought, barrier) = (Default::default(), Barrier::new(2));
    let run = &|rank: usize| {
        let group = Pair { rank, brought: &brought, barrier: &barrier };
        let own = Weights { config: half.clone(), data: share(config, &weights.data, rank).into() };
        let mut workspace = Workspace::recomputing(&half, batch.rows, batch.seq_len, recompute);
        let mut gradients = vec![f32::NAN; own.data.len()];
        let (overwrite, precision) = (Accumulate::Overwrite, Precision::F32);
        forward::stage(&own, &group, &batch, None, &mut workspace, precision).unwrap();
        let end = End::Loss;
        backward::stage(&own, &group, &batch, end, &mut workspace, &mut gradients, overwrite, precision);
        (workspace.losses().to_vec(), gradients)
    };
    let ranks = std::thread::scope(|scope| {
        let ranks = [0, 1].map(|rank| scope.spawn(move || run(rank)));
        ranks.map(|rank| rank.join().unwrap())
    });
    assert_eq!(bits(&ranks[0].0), bits(&ranks[1].0), "{case}: both ranks hold the same losses");
    assert!(worst(&ranks[0].0, &losses) < 1e-6, "{case}: losses");
    for (rank, (_, own)) in ranks.iter().enumerate() {
        let expected = share(config, &gradients, rank);
        for tensor in tensors(&half) {
            let worst = worst(&own[tensor.range.clone()], &expected[tensor.range.clone()]);
            assert!(worst < 1e-5, "{case}, rank {rank}: gradient of {} differs by {worst}", tensor.name);
        }
    }
}

#[test]
fn two_ranks_that_share_each_block_agree_with_one_within_rounding() {
    for again in [Again::Nothing, Again::All] {
        check_tensor_parallel("gqa", &Recompute::same(again));
    }
}
