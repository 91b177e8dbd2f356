//! Low-rank adapters over a frozen model (Hu et al. 2021, "LoRA"; over a quantised one Dettmers et al. 2023, "QLoRA"):
//! which modules have them, their parameters as one flat vector, and both together as a pass reads them.
//!
//! `peft` reads and writes them; the products are in `low_rank`, and those of a model that serves in `infer::Adapter`.

use std::ops::Range;

use kernels::buffer::Buffer;
use kernels::cross_entropy::LmHead;
use kernels::dropout::Dropout;
use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use ledger::seed::{Rng, Seed};
use serde::{Deserialize, Serialize};

use crate::forward::BlockWeights;
use crate::frozen::Frozen;
use crate::low_rank::LowRank;
use crate::parameters::Parameters;
use crate::weights::{LayerRanges, Layers, Layout};
use crate::{Config, Error, TensorSpec, Weights};

/// A linear layer of a block, by its name in Hugging Face checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The feed-forward's gate.
    GateProj,
    /// The feed-forward's way up.
    UpProj,
    /// The feed-forward's way down.
    DownProj,
}

impl Module {
    /// All of them: where QLoRA found that adapters are needed to reach full tuning (section 4).
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// Its name, `q_proj`.
    pub fn name(self) -> &'static str {
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"][self as usize]
    }

    /// Its name within a block, `self_attn.q_proj`.
    fn path(self) -> String {
        let part = if self <= Self::OProj { "self_attn" } else { "mlp" };
        format!("{part}.{}", self.name())
    }

    /// The matrix that it is part of, and its rows of that matrix.
    fn place(self, config: &Config) -> (usize, Range<usize>) {
        let (queries, keys) = (config.attention_dim(), config.kv_heads * config.head_dim);
        let rows = |start: usize, count: usize| start..start + count;
        match self {
            Self::QProj => (0, rows(0, queries)),
            Self::KProj => (0, rows(queries, keys)),
            Self::VProj => (0, rows(queries + keys, keys)),
            Self::OProj => (1, rows(0, config.dim)),
            Self::GateProj => (2, rows(0, config.ffn_dim)),
            Self::UpProj => (2, rows(config.ffn_dim, config.ffn_dim)),
            Self::DownProj => (3, rows(0, config.dim)),
        }
    }
}

/// What adapters are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterSettings {
    /// `r`, the rank of the change that a module can learn.
    pub rank: usize,
    /// The change is multiplied by alpha over rank.
    pub alpha: f32,
    /// By alpha over the root of the rank instead, which keeps high ranks learning (Kalajdzievski 2023, "rsLoRA").
    pub rank_stabilised: bool,
    /// Share of an adapter's inputs that a training pass drops, in `[0, 1)`; 0.05 to 0.1 in QLoRA. The modules beside one
    /// matrix see the same ones, unlike peft's, each of which draws for itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// The modules that have adapters, in every layer.
    pub modules: Vec<Module>,
}

// serde asks with a reference.
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Default for AdapterSettings {
    fn default() -> Self {
        Self { rank: 16, alpha: 16.0, rank_stabilised: false, dropout: 0.0, modules: Module::ALL.to_vec() }
    }
}

impl AdapterSettings {
    /// Checks every value for a model of this shape and names all faults at once.
    pub fn validate(&self, config: &Config) -> Result<(), Error> {
        let mut faults = Vec::new();
        if self.rank == 0 || self.rank > config.dim {
            faults.push(format!("rank is {}, not between 1 and the model's width {}", self.rank, config.dim));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            faults.push(format!("alpha is {}", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            faults.push(format!("dropout is {}, not in [0, 1)", self.dropout));
        }
        if self.modules.is_empty() {
            faults.push("modules is empty".to_owned());
        }
        for (index, module) in self.modules.iter().enumerate() {
            if self.modules[..index].contains(module) {
                faults.push(format!("modules names {} twice", module.name()));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Adapter(faults)) }
    }

    /// What a module's change is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }
}

/// The adapters of one model: settings and parameters.
#[derive(Clone, Debug)]
pub struct Adapters {
    settings: AdapterSettings,
    config: Config,
    /// The modules beside each of a block's four matrices, in order, and the matrix's outputs that each adds to.
    modules: [Vec<Module>; 4],
    outputs: [Vec<Range<usize>>; 4],
    /// All parameters, in the order of [`Adapters::tensors`]: layer after layer, matrix after matrix, the `A`s of its
    /// modules and then their `B`s.
    pub data: Buffer,
}

impl Adapters {
    /// Adapters that change nothing yet, as peft begins them: each `A` uniform as `kaiming_uniform_(a=sqrt(5))` draws it,
    /// which is up to one over the root of its inputs, and each `B` zero.
    pub fn init(config: &Config, settings: &AdapterSettings, rng: &mut Rng) -> Result<Self, Error> {
        let mut adapters = Self::zeros(config, settings)?;
        for tensor in adapters.tensors() {
            if tensor.name.contains("lora_A") {
                let bound = 1.0 / (tensor.shape[1] as f64).sqrt();
                for value in &mut adapters.data[tensor.range] {
                    *value = ((2.0 * rng.uniform() - 1.0) * bound) as f32;
                }
            }
        }
        Ok(adapters)
    }

    /// All zeros.
    pub fn zeros(config: &Config, settings: &AdapterSettings) -> Result<Self, Error> {
        config.validate()?;
        settings.validate(config)?;
        let mut settings = settings.clone();
        settings.modules.sort();
        let (mut modules, mut outputs): ([Vec<Module>; 4], [Vec<Range<usize>>; 4]) = Default::default();
        for &module in &settings.modules {
            let (matrix, rows) = module.place(config);
            modules[matrix].push(module);
            outputs[matrix].push(rows);
        }
        let mut adapters =
            Self { settings, config: config.clone(), modules, outputs, data: Buffer::default() };
        adapters.data = Buffer::zeros(adapters.layout().len);
        Ok(adapters)
    }

    /// Rank, scale and modules.
    pub fn settings(&self) -> &AdapterSettings {
        &self.settings
    }

    /// The shape of the model that they belong to.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All tensors in the order of the flat vector, by the names that peft gives them.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let rank = self.settings.rank;
        let mut all = Vec::new();
        let mut push = |layer: usize, module: Module, part: &str, shape: [usize; 2]| {
            let start = all.last().map_or(0, |last: &TensorSpec| last.range.end);
            let name = format!("base_model.model.model.layers.{layer}.{}.lora_{part}.weight", module.path());
            all.push(TensorSpec { name, shape: shape.to_vec(), range: start..start + shape[0] * shape[1] });
        };
        for layer in 0..self.config.layers {
            for (matrix, modules) in self.modules.iter().enumerate() {
                for &module in modules {
                    push(layer, module, "A", [rank, self.inputs(matrix)]);
                }
                for (&module, outputs) in modules.iter().zip(&self.outputs[matrix]) {
                    push(layer, module, "B", [outputs.len(), rank]);
                }
            }
        }
        all
    }

    /// Adds the change that they stand for to a model's own weights: `W += s B A`, in f32.
    ///
    /// # Panics
    /// When the weights are of another shape.
    pub fn merge(&self, weights: &mut Weights) {
        assert_eq!(weights.config, self.config, "adapters of another model");
        let (layout, base, rank) = (self.layout(), Layout::new(&self.config), self.settings.rank);
        for (places, base) in layout.layers.iter().zip(base.layers.iter()) {
            let bases = [&base.qkv, &base.output, &base.gate_up, &base.down];
            for (matrix, (low_rank, base)) in self.beside(&places, None).iter().zip(bases).enumerate() {
                let input = self.inputs(matrix);
                for (outputs, first, b) in low_rank.modules() {
                    let scaled: Vec<f32> = low_rank.values[b].iter().map(|b| b * low_rank.scale).collect();
                    let rows = &mut weights.data[base.clone()][outputs.start * input..outputs.end * input];
                    gemm(
                        Precision::F32,
                        ViewMut::new(rows, outputs.len(), input, input),
                        View::new(&scaled, outputs.len(), rank, rank),
                        View::new(&low_rank.values[first * input..], rank, input, input),
                        Accumulate::Add,
                    );
                }
            }
        }
    }

    /// Those beside the four matrices of each block, dropping nothing.
    pub(crate) fn layers(&self) -> impl Iterator<Item = [LowRank<'_>; 4]> {
        let layout = self.layout();
        (0..self.config.layers).map(move |index| self.beside(&layout.layers.get(index), None))
    }

    /// The places of each block's adapters; everything else is empty, not being trained.
    fn layout(&self) -> Layout {
        let mut end = 0;
        let mut take = |length: usize| {
            let start = end;
            end += length;
            start..end
        };
        let length = |matrix: usize| {
            let outputs = &self.outputs[matrix];
            let rows: usize = outputs.iter().map(Range::len).sum();
            self.settings.rank * (outputs.len() * self.inputs(matrix) + rows)
        };
        let embedding = take(0);
        let layer = LayerRanges {
            attention_norm: take(0),
            qkv: take(length(0)),
            output: take(length(1)),
            ffn_norm: take(0),
            gate_up: take(length(2)),
            down: take(length(3)),
        };
        let layers = Layers::after(layer, self.config.layers, &mut take);
        let (final_norm, lm_head) = (take(0), take(0));
        Layout { embedding, layers, final_norm, lm_head, len: end }
    }

    /// The adapters beside a block's four matrices, and what they drop of its inputs.
    fn beside(&self, places: &LayerRanges, draw: Option<Draw>) -> [LowRank<'_>; 4] {
        let ranges = [&places.qkv, &places.output, &places.gate_up, &places.down];
        std::array::from_fn(|matrix| LowRank {
            rank: self.settings.rank,
            scale: self.settings.scale(),
            // The place of the first parameter tells the matrices of all layers apart.
            dropout: draw
                .filter(|_| self.settings.dropout > 0.0)
                .map(|draw| Dropout::new(self.settings.dropout, draw.key(ranges[matrix].start))),
            outputs: &self.outputs[matrix],
            values: &self.data[ranges[matrix].clone()],
        })
    }

    /// Inputs of one of a block's four matrices.
    fn inputs(&self, matrix: usize) -> usize {
        [self.config.dim, self.config.attention_dim(), self.config.dim, self.config.ffn_dim][matrix]
    }
}

/// What dropout follows from: a run's seed and the number of the pass.
#[derive(Clone, Copy, Debug)]
struct Draw {
    seed: Seed,
    pass: u64,
}

impl Draw {
    /// The key of the matrix whose adapters begin at `place`. Mixed after each part, so that no two matrices or passes
    /// count through the same numbers; a stream of [`Seed`] would allocate.
    fn key(self, place: usize) -> u64 {
        [self.seed.0, self.pass, place as u64].into_iter().fold(0, |key, part| {
            let z = (key ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }
}

/// A frozen model with adapters: what a pass reads. Gradients have the layout of the adapters alone.
#[derive(Clone, Copy, Debug)]
pub struct Adapted<'a> {
    /// What is not trained.
    base: &'a Frozen,
    /// What is.
    adapters: &'a Adapters,
    draw: Option<Draw>,
}

impl<'a> Adapted<'a> {
    /// Adapters over their base; a pass drops nothing, as evaluation wants it.
    pub fn new(base: &'a Frozen, adapters: &'a Adapters) -> Self {
        Self { base, adapters, draw: None }
    }

    /// For a pass of training, which drops what the adapters' settings say. What it drops follows from the seed and from
    /// the number of the pass, which every micro-batch of a run has of its own.
    pub fn dropping(self, seed: Seed, pass: u64) -> Self {
        Self { draw: Some(Draw { seed, pass }), ..self }
    }
}

impl Parameters for Adapted<'_> {
    fn config(&self) -> &Config {
        self.base.config()
    }

    fn layout(&self) -> Layout {
        self.adapters.layout()
    }

    fn embed(&self, _layout: &Layout, x: &mut [f32], tokens: &[u32]) {
        self.base.embed(x, tokens);
    }

    fn block(&self, layout: &Layout, index: usize) -> BlockWeights<'_> {
        self.base.block(index, self.adapters.beside(&layout.layers.get(index), self.draw))
    }

    fn final_norm(&self, _layout: &Layout) -> &[f32] {
        self.base.final_norm()
    }

    fn lm_head(&self, _layout: &Layout) -> LmHead<'_> {
        self.base.lm_head()
    }
}
