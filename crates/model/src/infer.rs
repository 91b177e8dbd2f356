//! Inference: the same blocks over cached keys and values, for any number of sequences at once.
//!
//! Weights are packed once for the matrix product. Each token's result is the same to the bit alone, in any batch,
//! however its prompt was cut into passes, and in whatever pages its sequence is kept.
//!
//! Keys and values lie in [`Pages`]; a sequence is a table of page numbers and a length, which the caller keeps. So
//! sequences can share what they have in common, and taking tokens back is to say a smaller length.

use kernels::attention::{PagedQueries, forward_paged};
use kernels::awake::awake;
use kernels::gemm::{Accumulate, Packed, Precision, View};
use kernels::{embedding, int8, rms_norm, rope};

use crate::adapters::Adapters;
use crate::forward::{BlockBuffers, BlockWeights, Linear, Storage, block};
use crate::group::Solo;
use crate::stacked::Stacked;
use crate::weights::Layout;
use crate::workspace::attention_shape;
use crate::{Config, Error, Weights};

pub use adapter::Adapter;
pub use kernels::attention::{KvStorage, Pages};

pub(crate) use adapter::Added;

mod adapter;
mod load;

/// Tokens of a pass from which on each of its operations takes long enough for threads to be woken.
const LONG: usize = 64;

/// A model ready to answer.
pub struct Llama {
    config: Config,
    precision: Precision,
    embedding: Table,
    layers: Vec<PackedLayer>,
    final_norm: Vec<f32>,
    lm_head: Stacked,
    table: rope::Table,
}

/// Where the rows of the embedding lie.
enum Table {
    Floats(Vec<f32>),
    Blocks(int8::Matrix),
    /// In the output layer, which is one matrix of blocks.
    Tied,
}

struct PackedLayer {
    attention_norm: Vec<f32>,
    qkv: Stacked,
    output: Stacked,
    ffn_norm: Vec<f32>,
    gate_up: Stacked,
    down: Stacked,
}

/// New tokens of one sequence, and where its tokens are kept.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// Tokens of the sequence before these, which are kept already.
    pub first: usize,
    /// The sequence's pages, with room for the new tokens. Pages of tokens before `first` may be other sequences' too.
    pub pages: &'a [u32],
    /// What the pass is to return of it.
    pub wanted: Wanted,
    /// What is added to the model's own products of these tokens. It must be that of the tokens before.
    pub adapter: Option<&'a Adapter>,
}

/// What a pass returns of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The logits of the last so many of its tokens; 0 of a piece of a prompt that only has to be read.
    Logits(usize),
    /// The final hidden state, normalised, of each of its tokens.
    Hidden,
}

impl Wanted {
    /// The logits that follow the last token.
    pub const LAST: Self = Self::Logits(1);

    /// Rows of logits, and rows of hidden states, that it stands for in a segment of `tokens`.
    pub fn rows(self, tokens: usize) -> (usize, usize) {
        match self {
            Self::Logits(count) => (count, 0),
            Self::Hidden => (0, tokens),
        }
    }
}

/// What a pass returns, in the order of segments and their tokens.
pub struct Outputs<'a> {
    /// `[rows, V]`; the caller may overwrite them.
    pub logits: &'a mut [f32],
    /// `[rows, D]`.
    pub hidden: &'a mut [f32],
}

/// Buffers of a pass; they grow to the largest and stay.
#[derive(Default)]
pub struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    inverse_rms: Vec<f32>,
    second_inverse_rms: Vec<f32>,
    qkv: Vec<f32>,
    attention: Vec<f32>,
    gate_up: Vec<f32>,
    hidden: Vec<f32>,
    selected: Vec<f32>,
    logits: Vec<f32>,
    states: Vec<f32>,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    /// Segments in the order in which their rows lie.
    order: Vec<usize>,
}

impl Llama {
    /// Packs a model's weights; `max_seq_len` bounds the positions (and the rotary table).
    pub fn new(weights: &Weights, precision: Precision, max_seq_len: usize) -> Self {
        let config = weights.config.clone();
        let layout = Layout::new(&config);
        let matrix = |range: &std::ops::Range<usize>, out: usize| {
            let values = &weights.data[range.clone()];
            let input = values.len() / out;
            Stacked::from(Packed::new(precision, View::new(values, out, input, input).transposed()))
        };
        let vector = |range: &std::ops::Range<usize>| weights.data[range.clone()].to_vec();
        let layers = layout
            .layers
            .iter()
            .map(|places| PackedLayer {
                attention_norm: vector(&places.attention_norm),
                qkv: matrix(&places.qkv, config.qkv_dim()),
                output: matrix(&places.output, config.dim),
                ffn_norm: vector(&places.ffn_norm),
                gate_up: matrix(&places.gate_up, 2 * config.ffn_dim),
                down: matrix(&places.down, config.dim),
            })
            .collect();
        Self {
            precision,
            embedding: Table::Floats(vector(&layout.embedding)),
            layers,
            final_norm: vector(&layout.final_norm),
            lm_head: matrix(&layout.lm_head, config.vocab_size),
            table: rope::Table::new(&config.rope_frequencies(), max_seq_len.min(config.max_seq_len)),
            config,
        }
    }

    /// Makes adapters ready to answer over this model.
    ///
    /// # Errors
    /// When they belong to a model of another shape.
    pub fn adapter(&self, adapters: &Adapters) -> Result<Adapter, Error> {
        let adapter = Adapter::new(adapters, self.precision);
        adapter.check(&self.config)?;
        Ok(adapter)
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the matrices that a pass reads, however many tokens it has.
    pub fn pass_bytes(&self) -> usize {
        let layer = |layer: &PackedLayer| {
            [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]
                .iter()
                .map(|one| one.bytes())
                .sum::<usize>()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.lm_head.bytes()
    }

    /// Positions that a sequence can have.
    pub fn max_seq_len(&self) -> usize {
        self.table.positions()
    }

    /// Memory for the keys and values of `count` pages of `tokens` tokens; it is taken as pages are written.
    ///
    /// # Panics
    /// When a page cannot have so many tokens, see [`Pages::new`].
    pub fn pages(&self, storage: KvStorage, tokens: usize, count: usize) -> Pages {
        let shape = attention_shape(&self.config);
        Pages::new(shape, self.config.layers, self.precision, storage, tokens, count)
    }

    /// The storage that changes no bit of a result: bf16 where products round to bf16 anyway, and f32 elsewhere.
    pub fn exact_storage(&self) -> KvStorage {
        match self.precision {
            Precision::F32 => KvStorage::F32,
            Precision::Bf16 => KvStorage::Bf16,
        }
    }

    /// Runs the new tokens of all segments in one pass, keeps their keys and values, and returns what is wanted of them.
    ///
    /// # Errors
    /// A token outside the vocabulary, a segment without tokens, of which more is wanted than it has or whose pages are
    /// too few, a sequence longer than [`Llama::max_seq_len`], or an adapter of another model; nothing was written then.
    ///
    /// # Panics
    /// When two segments would write to one page, or the pages are not this model's.
    pub fn forward<'s>(
        &self,
        pages: &mut Pages,
        segments: &[Segment],
        scratch: &'s mut Scratch,
    ) -> Result<Outputs<'s>, Error> {
        for (index, segment) in segments.iter().enumerate() {
            self.check(pages, index, segment)?;
        }
        adapter::arrange(segments, &mut scratch.order);
        scratch.tokens.clear();
        scratch.positions.clear();
        for segment in scratch.order.iter().map(|&index| &segments[index]) {
            let (first, count) = (segment.first, segment.tokens.len());
            scratch.tokens.extend_from_slice(segment.tokens);
            scratch.positions.extend(first as u32..(first + count) as u32);
        }
        let is_short = scratch.tokens.len() < LONG;
        Ok(if is_short {
            awake(|| self.pass(pages, segments, scratch))
        } else {
            self.pass(pages, segments, scratch)
        })
    }

    fn pass<'s>(&self, pages: &mut Pages, segments: &[Segment], scratch: &'s mut Scratch) -> Outputs<'s> {
        self.blocks(pages, segments, scratch);
        self.output(segments, scratch)
    }

    fn check(&self, pages: &Pages, index: usize, segment: &Segment) -> Result<(), Error> {
        let count = segment.tokens.len();
        let length = segment.first + count;
        if count == 0 {
            return Err(Error::Batch(format!("segment {index} has no tokens")));
        }
        if length > self.max_seq_len() {
            return Err(Error::Batch(format!(
                "segment {index} would be {length} tokens long; the model's limit is {}",
                self.max_seq_len()
            )));
        }
        if segment.wanted.rows(count).0 > count {
            return Err(Error::Batch(format!(
                "segment {index} has {count} tokens, and more of them are wanted"
            )));
        }
        if segment.pages.len() * pages.tokens() < length {
            return Err(Error::Batch(format!(
                "segment {index} would be {length} tokens long; {} pages of {} hold fewer",
                segment.pages.len(),
                pages.tokens()
            )));
        }
        segment.adapter.map_or(Ok(()), |adapter| adapter.check(&self.config))?;
        let vocab_size = self.config.vocab_size;
        if let Some(token) = segment.tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(Error::Batch(format!("token {token} is outside the vocabulary of {vocab_size}")));
        }
        Ok(())
    }

    fn blocks(&self, pages: &mut Pages, segments: &[Segment], scratch: &mut Scratch) {
        let config = &self.config;
        let Scratch {
            x,
            normed,
            inverse_rms,
            second_inverse_rms,
            qkv,
            attention,
            gate_up,
            hidden,
            tokens,
            positions,
            order,
            ..
        } = scratch;
        let count = tokens.len();
        let runs = adapter::runs(segments, order);
        let x = room(x, count * config.dim);
        match (&self.embedding, self.lm_head.blocks()) {
            (Table::Floats(table), _) => embedding::forward(x, table, tokens, config.dim),
            (Table::Blocks(table), _) | (Table::Tied, Some(table)) => table.embedding(x, tokens),
            (Table::Tied, None) => unreachable!("a tied table is only made beside an output layer of blocks"),
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let weights = layer.weights(Added::beside(&runs, index));
            let buffers = BlockBuffers {
                normed: room(normed, count * config.dim),
                attention_inverse_rms: room(inverse_rms, count),
                qkv: room(qkv, count * config.qkv_dim()),
                attention: room(attention, count * config.attention_dim()),
                middle: &mut [],
                rounded_middle: &mut [],
                ffn_inverse_rms: room(second_inverse_rms, count),
                gate_up: room(gate_up, count * 2 * config.ffn_dim),
                rounded_gate_up: &mut [],
                hidden: room(hidden, count * config.ffn_dim),
            };
            block(config, &weights, &Solo, x, buffers, positions, &self.table, self.precision, |out, qkv| {
                self.attend(pages, (segments, order), index, out, qkv);
            });
        }
    }

    /// Keeps the new keys and values of one layer, and attends.
    fn attend(
        &self,
        pages: &mut Pages,
        (segments, order): (&[Segment], &[usize]),
        layer: usize,
        mut out: &mut [f32],
        mut qkv: &[f32],
    ) {
        let (width, out_width) = (self.config.qkv_dim(), self.config.attention_dim());
        let mut sequences = Vec::with_capacity(segments.len());
        for segment in order.iter().map(|&index| &segments[index]) {
            let count = segment.tokens.len();
            let (rows, rest) = qkv.split_at(count * width);
            qkv = rest;
            let (out_rows, rest) = std::mem::take(&mut out).split_at_mut(count * out_width);
            out = rest;
            sequences.push(PagedQueries {
                qkv: rows,
                pages: segment.pages,
                first: segment.first,
                out: out_rows,
            });
        }
        forward_paged(pages, layer, &mut sequences);
    }

    /// The final norm and the output layer, for the tokens of which something is wanted.
    fn output<'s>(&self, segments: &[Segment], scratch: &'s mut Scratch) -> Outputs<'s> {
        let Config { dim, vocab_size, norm_eps, .. } = self.config;
        let Scratch { x, normed, inverse_rms, selected, logits, states, order, .. } = scratch;
        selected.clear();
        let ends = ends(segments, order);
        // Those that become logits first, so that they are one matrix.
        let mut rows = [0, 0];
        for (kind, rows) in rows.iter_mut().enumerate() {
            for (segment, &end) in segments.iter().zip(&ends) {
                let (of_logits, of_states) = segment.wanted.rows(segment.tokens.len());
                let count = [of_logits, of_states][kind];
                selected.extend_from_slice(&x[(end - count) * dim..end * dim]);
                *rows += count;
            }
        }
        let [scored, shown] = rows;
        let normed = &mut normed[..(scored + shown) * dim];
        rms_norm::forward(normed, &mut inverse_rms[..scored + shown], selected, &self.final_norm, norm_eps);
        let (normed, rest) = normed.split_at(scored * dim);
        let hidden = room(states, shown * dim);
        hidden.copy_from_slice(rest);
        let logits = room(logits, scored * vocab_size);
        if scored > 0 {
            let lm_head = Linear::new("output layer", Storage::Stacked(&self.lm_head, Added::NONE));
            lm_head.forward(logits, normed, vocab_size, self.precision, Accumulate::Overwrite);
        }
        Outputs { logits, hidden }
    }
}

impl PackedLayer {
    fn weights<'a>(&'a self, added: [Added<'a>; 4]) -> BlockWeights<'a> {
        let [qkv, output, gate_up, down] = added;
        BlockWeights {
            attention_norm: &self.attention_norm,
            qkv: Linear::new("qkv", Storage::Stacked(&self.qkv, qkv)),
            output: Linear::new("attn output", Storage::Stacked(&self.output, output)),
            ffn_norm: &self.ffn_norm,
            gate_up: Linear::new("gate_up", Storage::Stacked(&self.gate_up, gate_up)),
            down: Linear::new("down", Storage::Stacked(&self.down, down)),
        }
    }
}

/// Where the rows of each segment end, by its number, when they lie in this order.
fn ends(segments: &[Segment], order: &[usize]) -> Vec<usize> {
    let (mut ends, mut end) = (vec![0; segments.len()], 0);
    for &index in order {
        end += segments[index].tokens.len();
        ends[index] = end;
    }
    ends
}

/// The first `length` values of a buffer that grows and never shrinks.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}
