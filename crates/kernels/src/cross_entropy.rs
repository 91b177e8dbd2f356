//! The output layer fused with cross-entropy, forward and backward: all logits are never held at once.
//!
//! Tokens go through in chunks, whose logits become their own gradient in place. Where so few tokens would fit at once that
//! reading the output matrix for them costs more than it saves, a large vocabulary goes through in parts too: a first
//! pass over them finds each token's largest logit and the sum of exponentials, as attention's online softmax does, and a
//! second one computes the logits again. Tokens whose loss weight is 0 are not multiplied at all, which is most of them
//! when only an assistant's words count. Chunks and parts follow from the shapes and the instruction set, and are added up in
//! their order.
//!
//! In bf16 a part is made in narrow pieces: a piece's exponentials are taken while its logits are near, and held rounded,
//! which halves the memory, and spares the products that read their gradients the rounding.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use crate::isa::{self, Isa};
use crate::kept::{Values, as_bf16, bf16, nearest, round_block, widened};
use crate::math::{exp, map_lanes, max_lanes, sum_lanes};
use crate::meter::{self, Cost, Operation, Pass};
use crate::quant;

/// The output matrix `[V, D]`.
#[derive(Clone, Copy)]
pub enum LmHead<'a> {
    /// In f32, row after row.
    Plain(&'a [f32]),
    /// Not trained, and dequantised in strips as it is read.
    Frozen(&'a quant::Matrix),
}

impl LmHead<'_> {
    fn rows(&self, dim: usize) -> usize {
        match self {
            Self::Plain(values) => values.len() / dim,
            Self::Frozen(matrix) => matrix.rows(),
        }
    }

    /// Calls `work` with some rows' values: all at once, or strip after strip.
    fn each_part(&self, rows: Range<usize>, dim: usize, mut work: impl FnMut(Range<usize>, &[f32])) {
        match self {
            Self::Plain(values) => work(rows.clone(), &values[rows.start * dim..rows.end * dim]),
            Self::Frozen(matrix) => quant::strips(matrix, rows, work),
        }
    }
}

/// What the output layer reads.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Normalised hidden states `[T, D]`.
    pub hidden: &'a [f32],
    /// Output matrix `[V, D]`.
    pub lm_head: LmHead<'a>,
    /// Next tokens `[T]`; read where the weight is not 0.
    pub targets: &'a [u32],
    /// Loss weights `[T]`.
    pub weights: &'a [f32],
    /// `D`.
    pub dim: usize,
    /// Weight of the z-loss, `log² Z` of each token's softmax denominator, which keeps logits from drifting
    /// (Chowdhery et al., "PaLM", 2022, at 1e-4). 0 leaves it out; Llama 3 does not name one.
    pub z_loss: f32,
}

/// Where the gradients of the weighted sum of losses go.
pub struct Gradients<'a> {
    /// `[T, D]`, overwritten.
    pub hidden: &'a mut [f32],
    /// `[V, D]`; empty where the output matrix is not trained.
    pub lm_head: &'a mut [f32],
    /// Whether `lm_head` is added to, or overwritten.
    pub accumulate: Accumulate,
}

/// What a meter calls the products with the output matrix.
const OUTPUT_LAYER: &str = "output layer";

/// Most logits that are held, 64 MiB; twice as many where they are held in bf16.
const LOGITS: usize = 16 << 20;
/// Tokens of a chunk where all of the vocabulary fits beside them: enough for the matrix product's full speed.
const ROWS: usize = 512;
/// Fewest tokens of such a chunk, for products by vectors. For each chunk the output matrix is read twice, its gradient read and
/// written, 16 bytes a weight; a vocabulary in parts costs each token two operations a weight once more. So it pays from eight times
/// as many tokens on as operations are done while a byte is read: four in f32 and seven in bf16 on two cores of a Zen 4. By
/// tiles, which do 40 and more, and where the matrix is dequantised each time, it takes [`ROWS`].
const FEWEST_ROWS: usize = 64;
/// Tokens of a chunk where the vocabulary is cut: the more, the less often the output matrix is read.
const MOST_ROWS: usize = 4096;

/// Logits in f32 at once where they are held in bf16, 2 MiB, or as many as [`PIECE_WIDTHS`] says
/// if that is more, but at most 32 MiB.
const PIECE: usize = 1 << 19;
/// Columns of a piece for each value of a hidden state: each piece packs all hidden states anew, and multiplies each value
/// of them once a column.
const PIECE_WIDTHS: usize = 2;

/// Buffers for one chunk, made once.
pub struct Scratch {
    /// Where the output matrix is [`LmHead::Plain`].
    plain: Cut,
    /// Where it is [`LmHead::Frozen`].
    frozen: Cut,
    /// Whether a part's exponentials, and then their gradients, are held in bf16 behind a piece's logits.
    rounds: bool,
    /// A piece's logits in f32, and what is held in bf16.
    memory: Buffer,
    /// For each token and piece, what its exponentials are relative to.
    marks: Buffer,
    hidden: Buffer,
    gradient: Buffer,
    states: Vec<State>,
    active: Vec<u32>,
}

/// How tokens and vocabulary are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    /// Tokens of a chunk.
    rows: usize,
    /// Columns of a part.
    columns: usize,
    /// Columns of a piece; all of a part where logits are held in f32.
    piece: usize,
}

impl Cut {
    /// For at most `most` logits, in chunks that hold the whole vocabulary if at least `fewest` tokens of it fit, and in pieces
    /// of so many logits as `piece` says of a chunk's tokens.
    fn new(
        most: usize,
        fewest: usize,
        piece: Option<&dyn Fn(usize) -> usize>,
        tokens: usize,
        vocab_size: usize,
    ) -> Self {
        let fit = most / vocab_size;
        let (rows, columns) = if fit >= fewest.min(tokens) {
            // Whole tiles of every kernel.
            let whole = if fit < 64 { fit } else { fit / 64 * 64 };
            (ROWS.min(tokens).min(whole), vocab_size)
        } else {
            let rows = MOST_ROWS.min(tokens);
            // Whole panels of every kernel.
            (rows, (most / rows / 64 * 64).clamp(64, vocab_size.next_multiple_of(64)).min(vocab_size))
        };
        let piece = piece.map_or(columns, |piece| (piece(rows) / rows / 64 * 64).max(64).min(columns));
        Self { rows, columns, piece }
    }

    /// Values of a piece's logits, in whole cache lines.
    fn logits_len(self) -> usize {
        (self.rows * self.piece).next_multiple_of(16)
    }

    /// Pieces of a part.
    fn pieces(self) -> usize {
        self.columns.div_ceil(self.piece)
    }
}

/// One token's softmax so far.
#[derive(Clone, Copy, Default)]
struct State {
    largest: f32,
    /// Sum of `e^(logit - largest)`.
    total: f32,
    at_target: f32,
}

impl Scratch {
    /// For `tokens` tokens of width `dim` over a vocabulary of `vocab_size`.
    pub fn new(tokens: usize, dim: usize, vocab_size: usize) -> Self {
        Self::holding(LOGITS, tokens, dim, vocab_size)
    }

    /// [`Scratch::new`] for at most `most` logits at once, or one narrow part of the vocabulary if that is more.
    pub fn holding(most: usize, tokens: usize, dim: usize, vocab_size: usize) -> Self {
        Self::cut(most, FEWEST_ROWS, None, tokens, dim, vocab_size)
    }

    /// [`Scratch::new`], with the logits' exponentials and gradients held in bf16.
    pub fn rounding(tokens: usize, dim: usize, vocab_size: usize) -> Self {
        let piece = |rows| PIECE.max(PIECE_WIDTHS * dim * rows).min(LOGITS / 2);
        Self::cut(2 * LOGITS, Self::fewest_rounding(), Some(&piece), tokens, dim, vocab_size)
    }

    /// [`Scratch::rounding`] with at most `most` logits held at once and at most `piece` of them in f32.
    pub fn rounding_pieces(most: usize, piece: usize, tokens: usize, dim: usize, vocab_size: usize) -> Self {
        Self::cut(most, Self::fewest_rounding(), Some(&|_| piece), tokens, dim, vocab_size)
    }

    fn fewest_rounding() -> usize {
        if isa::current() == Isa::Amx { ROWS } else { FEWEST_ROWS }
    }

    fn cut(
        most: usize,
        fewest: usize,
        piece: Option<&dyn Fn(usize) -> usize>,
        tokens: usize,
        dim: usize,
        vocab_size: usize,
    ) -> Self {
        let (tokens, vocab_size) = (tokens.max(1), vocab_size.max(1));
        let [plain, frozen] = [fewest, ROWS].map(|fewest| Cut::new(most, fewest, piece, tokens, vocab_size));
        let rounds = piece.is_some();
        let largest = |len: &dyn Fn(Cut) -> usize| len(plain).max(len(frozen));
        let held = |cut: Cut| if rounds { (cut.rows * cut.columns).div_ceil(2) } else { 0 };
        let rows = largest(&|cut| cut.rows);
        Self {
            plain,
            frozen,
            rounds,
            memory: Buffer::zeros(largest(&|cut| cut.logits_len() + held(cut))),
            marks: Buffer::zeros(if rounds { largest(&|cut| cut.rows * cut.pieces()) } else { 0 }),
            hidden: Buffer::zeros(rows * dim),
            gradient: Buffer::zeros(rows * dim),
            states: vec![State::default(); rows],
            active: Vec::with_capacity(tokens),
        }
    }

    /// The same with every matrix cut as a dequantised one, for tests that compare bits.
    #[cfg(test)]
    pub(crate) fn cut_alike(self) -> Self {
        Self { plain: self.frozen, ..self }
    }

    /// The same with at least `len` values of [`Scratch::memory`].
    pub fn with_memory(self, len: usize) -> Self {
        if self.memory.len() >= len { self } else { Self { memory: Buffer::zeros(len), ..self } }
    }

    /// Memory that nothing is kept in between two calls, for others to use.
    pub fn memory(&mut self) -> &mut [f32] {
        &mut self.memory
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let floats = [&self.memory, &self.marks, &self.hidden, &self.gradient].map(|buffer| buffer.len());
        4 * (floats.iter().sum::<usize>() + self.active.capacity()) + size_of::<State>() * self.states.len()
    }
}

/// Writes each token's cross-entropy (and z-loss), in nats and unweighted, to `losses [T]` (0 where the weight is 0),
/// and the gradients of the weighted sum, if asked for.
pub fn cross_entropy(
    losses: &mut [f32],
    input: Input,
    mut gradients: Option<Gradients>,
    scratch: &mut Scratch,
    precision: Precision,
) {
    let dim = input.dim;
    let vocab_size = input.lm_head.rows(dim);
    let tokens = input.weights.len();
    assert!(losses.len() == tokens && input.targets.len() == tokens && input.hidden.len() == tokens * dim);
    let cut = match input.lm_head {
        LmHead::Plain(_) => scratch.plain,
        LmHead::Frozen(_) => scratch.frozen,
    };
    let _metered = meter::span(Operation::CrossEntropy, Pass::Whole, || {
        let active = input.weights.iter().filter(|&&weight| weight != 0.0).count();
        cost(active, vocab_size, cut.columns, gradients.is_some())
    });
    losses.fill(0.0);
    let Cut { rows, columns, piece } = cut;
    let Scratch { rounds, memory, marks, hidden, gradient, states, active, .. } = scratch;
    let (logits, held) = memory.split_at_mut(cut.logits_len());
    let held = if *rounds { as_bf16(held) } else { &mut [] };
    active.clear();
    active.extend((0..tokens as u32).filter(|&token| input.weights[token as usize] != 0.0));
    if let Some(gradients) = &mut gradients
        && active.len() < tokens
    {
        crate::reduce::zero(gradients.hidden);
    }
    if let Some(gradients) = &mut gradients
        && active.is_empty()
        && gradients.accumulate == Accumulate::Overwrite
    {
        crate::reduce::zero(gradients.lm_head);
    }
    for rows in active.chunks(rows) {
        let first = rows[0] as usize;
        let together = rows[rows.len() - 1] as usize - first == rows.len() - 1;
        let here = first * dim..(first + rows.len()) * dim;
        let chunk_hidden = if together {
            &input.hidden[here.clone()]
        } else {
            for (to, &row) in hidden.chunks_exact_mut(dim).zip(rows) {
                to.copy_from_slice(&input.hidden[row as usize * dim..(row as usize + 1) * dim]);
            }
            &hidden[..rows.len() * dim]
        };
        let mut chunk = Chunk {
            input,
            rows,
            hidden: View::new(chunk_hidden, rows.len(), dim, dim),
            logits,
            held,
            marks,
            piece,
            states: &mut states[..rows.len()],
            precision,
        };
        let parts = vocab_size.div_ceil(columns);
        let part = |index: usize| index * columns..((index + 1) * columns).min(vocab_size);
        chunk.states.fill(State { largest: f32::NEG_INFINITY, ..State::default() });
        for index in 0..parts {
            chunk.exponentials(part(index), Seen::Partly);
        }
        for (&row, state) in rows.iter().zip(&*chunk.states) {
            let log_sum = state.total.ln() + state.largest;
            losses[row as usize] = log_sum - state.at_target + input.z_loss * log_sum * log_sum;
        }
        let Some(gradients) = &mut gradients else { continue };
        let to = if together { &mut gradients.hidden[here] } else { &mut gradient[..rows.len() * dim] };
        // From the last part on, whose exponentials are there and belong to the final largest logits.
        for index in (0..parts).rev() {
            let columns = part(index);
            if index + 1 < parts {
                let _again = meter::again();
                chunk.exponentials(columns.clone(), Seen::Wholly);
            }
            chunk.gradient(columns.clone());
            let logits = View::of(chunk.part(), rows.len(), columns.len(), columns.len());
            if !gradients.lm_head.is_empty() {
                let place = columns.start * dim..columns.end * dim;
                let _label = meter::label(OUTPUT_LAYER, Pass::WeightGradient);
                gemm(
                    precision,
                    ViewMut::new(&mut gradients.lm_head[place], columns.len(), dim, dim),
                    logits.transposed(),
                    chunk.hidden,
                    gradients.accumulate,
                );
            }
            let _label = meter::label(OUTPUT_LAYER, Pass::InputGradient);
            let mut accumulate = if index + 1 == parts { Accumulate::Overwrite } else { Accumulate::Add };
            input.lm_head.each_part(columns.clone(), dim, |part, lm_head| {
                let logits = chunk.part().from(part.start - columns.start);
                gemm(
                    precision,
                    ViewMut::new(to, rows.len(), dim, dim),
                    View::of(logits, rows.len(), part.len(), columns.len()),
                    View::new(lm_head, part.len(), dim, dim),
                    accumulate,
                );
                accumulate = Accumulate::Add;
            });
        }
        gradients.accumulate = Accumulate::Add;
        if !together {
            for (from, &row) in gradient.chunks_exact(dim).zip(rows) {
                gradients.hidden[row as usize * dim..(row as usize + 1) * dim].copy_from_slice(from);
            }
        }
    }
}

/// What is done beside the products: each logit is read once for the largest and the sum, once more where a second pass
/// computes it again, and its gradient is written. Four operations make it an exponential in a sum, two more its
/// gradient.
fn cost(tokens: usize, vocab_size: usize, columns: usize, gradients: bool) -> Cost {
    let logits = tokens * vocab_size;
    // The last part is still there when the second pass begins.
    let again = tokens * ((vocab_size - 1) / columns * columns);
    if gradients {
        Cost::of(6 * logits + 2 * again, logits + again + 2 * tokens, logits + tokens)
    } else {
        Cost::of(4 * logits, logits + 2 * tokens, tokens)
    }
}

/// Some tokens, and the part of their logits that is being worked on.
struct Chunk<'a> {
    input: Input<'a>,
    rows: &'a [u32],
    hidden: View<'a>,
    logits: &'a mut [f32],
    held: &'a mut [bf16],
    marks: &'a mut [f32],
    piece: usize,
    states: &'a mut [State],
    precision: Precision,
}

/// What a token's state knows of the vocabulary.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    /// What came before.
    Partly,
    /// All of it.
    Wholly,
}

impl Chunk<'_> {
    /// The exponentials of some columns' logits, a part: relative to the largest so far, or to the largest of all.
    fn exponentials(&mut self, columns: Range<usize>, seen: Seen) {
        for (index, first) in columns.clone().step_by(self.piece).enumerate() {
            let piece = first..(first + self.piece).min(columns.end);
            self.multiply(piece.clone());
            match seen {
                Seen::Partly => self.exponentiate(piece.clone()),
                Seen::Wholly => self.exponentiate_again(piece.len()),
            }
            if !self.held.is_empty() {
                self.hold(index, first - columns.start..piece.end - columns.start, columns.len());
            }
        }
    }

    /// The logits of some columns.
    fn multiply(&mut self, columns: Range<usize>) {
        let (rows, dim) = (self.rows.len(), self.input.dim);
        let _label = meter::label(OUTPUT_LAYER, Pass::Forward);
        self.input.lm_head.each_part(columns.clone(), dim, |part, lm_head| {
            let logits = &mut self.logits[part.start - columns.start..];
            gemm(
                self.precision,
                ViewMut::new(logits, rows, part.len(), columns.len()),
                self.hidden,
                View::new(lm_head, part.len(), dim, dim).transposed(),
                Accumulate::Overwrite,
            );
        });
    }

    /// Logits of new columns become exponentials relative to the largest so far.
    fn exponentiate(&mut self, columns: Range<usize>) {
        let Input { targets, .. } = self.input;
        self.each_row(columns.len(), |logits, state, row| {
            let target = targets[row] as usize;
            if columns.contains(&target) {
                state.at_target = logits[target - columns.start];
            }
            let before = state.largest;
            let sum = exponentials(logits, &mut state.largest);
            let kept = if before == f32::NEG_INFINITY { 0.0 } else { (before - state.largest).exp() };
            state.total = state.total * kept + sum;
        });
    }

    /// Logits of columns that were seen become exponentials relative to the largest of all.
    fn exponentiate_again(&mut self, columns: usize) {
        self.each_row(columns, |logits, state, _| exponentials_below(logits, state.largest));
    }

    /// Rounds the exponentials of a piece to their place in a part of so many columns.
    fn hold(&mut self, index: usize, place: Range<usize>, columns: usize) {
        let (rows, pieces) = (self.rows.len(), columns.div_ceil(self.piece));
        self.held[..rows * columns]
            .par_chunks_exact_mut(columns)
            .zip(self.logits[..rows * place.len()].par_chunks_exact(place.len()))
            .zip(self.marks[..rows * pieces].par_chunks_exact_mut(pieces))
            .zip(&*self.states)
            .with_min_len(4)
            .for_each(|(((held, exponentials), marks), state)| {
                marks[index] = state.largest;
                round_block(&mut held[place.clone()], exponentials);
            });
    }

    /// Exponentials become the gradient of the logits: `weight * (softmax * (1 + 2 z log Z) - one_hot)`.
    fn gradient(&mut self, columns: Range<usize>) {
        let Input { targets, weights, z_loss, .. } = self.input;
        let factor = |state: &State, row: usize| {
            let log_sum = state.total.ln() + state.largest;
            weights[row] * (1.0 + 2.0 * z_loss * log_sum) / state.total
        };
        if self.held.is_empty() {
            self.each_row(columns.len(), |logits, state, row| {
                scale(logits, factor(state, row));
                let target = targets[row] as usize;
                if columns.contains(&target) {
                    logits[target - columns.start] -= weights[row];
                }
            });
            return;
        }
        let (rows, piece) = (self.rows.len(), self.piece);
        let pieces = columns.len().div_ceil(piece);
        self.held[..rows * columns.len()]
            .par_chunks_exact_mut(columns.len())
            .zip(self.marks[..rows * pieces].par_chunks_exact(pieces))
            .zip(&*self.states)
            .zip(self.rows)
            .with_min_len(4)
            .for_each(|(((held, marks), state), &row)| {
                let factor = factor(state, row as usize);
                for (held, mark) in held.chunks_mut(piece).zip(marks) {
                    scale_rounded(held, factor * (mark - state.largest).exp());
                }
                let target = targets[row as usize] as usize;
                if columns.contains(&target) {
                    // Not from what was rounded: where the model is sure, little is left of it.
                    let softmax = factor * (state.at_target - state.largest).exp();
                    held[target - columns.start] = nearest(softmax - weights[row as usize]);
                }
            });
    }

    /// The gradients of a part's logits.
    fn part(&self) -> Values<'_> {
        if self.held.is_empty() { Values::F32(self.logits) } else { Values::Bf16(self.held) }
    }

    /// Calls `body` with each token's logits, its state and its place among all tokens.
    fn each_row(&mut self, columns: usize, body: impl Fn(&mut [f32], &mut State, usize) + Sync) {
        self.logits[..self.rows.len() * columns]
            .par_chunks_exact_mut(columns)
            .zip(&mut *self.states)
            .zip(self.rows)
            .with_min_len(4)
            .for_each(|((logits, state), &row)| body(logits, state, row as usize));
    }
}

isa::dispatch! {
    /// Turns logits into exponentials relative to the largest of them and of `largest`, and returns their sum.
    fn exponentials<FMA>(logits: &mut [f32], largest: &mut f32) -> f32 {
        let here = max_lanes(logits);
        let now = if here > *largest { here } else { *largest };
        map_lanes(logits, |logit| exp::<FMA>(logit - now));
        *largest = now;
        sum_lanes([logits], |[value]| value)
    }

    fn exponentials_below<FMA>(logits: &mut [f32], largest: f32) {
        map_lanes(logits, |logit| exp::<FMA>(logit - largest));
    }

    fn scale<FMA>(values: &mut [f32], factor: f32) {
        for value in values.iter_mut() {
            *value *= factor;
        }
    }

    fn scale_rounded<FMA>(values: &mut [bf16], factor: f32) {
        for value in values.iter_mut() {
            *value = nearest(widened(*value) * factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_vocabulary_s_logits_are_never_held() {
        let scratch = Scratch::new(8192, 2048, 128_256);
        assert!(scratch.memory.len() <= LOGITS);
        assert_eq!((scratch.plain.rows, scratch.plain.columns), (128, 128_256));
        assert!(scratch.frozen.rows == MOST_ROWS && scratch.frozen.columns < 128_256);
        let rounding = Scratch::rounding(8192, 2048, 128_256);
        // In bf16, and pieces in f32, which are wide because hidden states are.
        let longest = LOGITS + rounding.plain.logits_len().max(rounding.frozen.logits_len());
        assert!(rounding.memory.len() <= longest && rounding.plain.piece < rounding.plain.columns);
        let (fewest, plain) = (Scratch::fewest_rounding(), rounding.plain);
        assert!(if fewest == ROWS { plain == rounding.frozen } else { plain.rows == 256 }, "{plain:?}");
        let narrow = [Scratch::new(1024, 768, 32_768), Scratch::rounding(1024, 768, 32_768)];
        assert!(narrow[1].memory.len() < narrow[0].memory.len() * 3 / 5);
        let small = Scratch::new(2048, 256, 4096).plain;
        assert_eq!((small.rows, small.columns), (ROWS, 4096));
    }

    #[test]
    fn a_larger_vocabulary_still_goes_through_in_parts() {
        for (most, tokens, vocab_size) in [(1000, 700, 100), (1, 5, 3), (LOGITS, 8192, 1 << 20)] {
            let cut = Cut::new(most, FEWEST_ROWS, None, tokens, vocab_size);
            assert!(
                cut.rows == tokens.min(MOST_ROWS)
                    && cut.columns == vocab_size.min(64.max(most / cut.rows / 64 * 64))
            );
        }
        let cut = Cut::new(100 * 64, FEWEST_ROWS, None, 700, 100);
        assert_eq!((cut.rows, cut.columns), (64, 100));
    }
}
