//! Memory for keys and values that are kept: pages of a fixed number of tokens, each with all layers and heads.
//! Which sequence holds which page is the caller's to know; a sequence's page table may share pages with another's.
//!
//! A *part* of a page is one layer's keys and values of one key/value head, side by side. Where attention runs by tiles
//! (see [`super::amx`]) and values are kept in bf16, a part is packed as the products want it, so a generation step packs
//! nothing. Elsewhere keys lie channel by channel, `[C, page tokens]`, and values token by token, `[page tokens, C]`, as
//! the products' right operands.

use rayon::prelude::*;

use super::tile::Shared;
use super::{PagedQueries, Shape};
use crate::buffer::Buffer;
use crate::gemm::Precision;
use crate::isa;
use crate::math::max_lanes;

#[cfg(target_arch = "x86_64")]
use super::amx;

/// What kept keys and values are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvStorage {
    /// As they are.
    F32,
    /// Rounded to the nearest bf16. Products in [`Precision::Bf16`] round them in the same way, so there it changes
    /// no bit of a result.
    Bf16,
    /// Integers of 8 bits, and for each token and head the largest absolute value of its keys, and of its values.
    Q8,
}

/// How a part of a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// f32.
    Single,
    /// bf16.
    Half,
    /// Codes of keys, codes of values, then the scales of keys and of values, `[page tokens]` each.
    Codes,
    /// bf16, packed: keys as [`amx`]'s rows of keys, then values as its columns of values.
    Packed,
}

/// The pages of one model, numbered from 0. A page takes memory when it is first written, and keeps it.
pub struct Pages {
    pub(super) shape: Shape,
    pub(super) precision: Precision,
    pub(super) form: Form,
    tokens: usize,
    layers: usize,
    memory: Vec<Buffer>,
}

impl Pages {
    /// A page's tokens are a multiple of this and divide [`Pages::MOST_TOKENS`].
    pub const FEWEST_TOKENS: usize = 32;
    /// See [`Pages::FEWEST_TOKENS`].
    pub const MOST_TOKENS: usize = 128;

    /// `count` pages of `tokens` tokens, for `layers` layers whose attention runs in `precision` on the instruction set
    /// that is now in use.
    ///
    /// # Panics
    /// When a page cannot have so many tokens.
    pub fn new(
        shape: Shape,
        layers: usize,
        precision: Precision,
        storage: KvStorage,
        tokens: usize,
        count: usize,
    ) -> Self {
        assert!(
            tokens.is_multiple_of(Self::FEWEST_TOKENS) && Self::MOST_TOKENS.is_multiple_of(tokens),
            "pages of {tokens} tokens"
        );
        let form = match storage {
            KvStorage::F32 => Form::Single,
            KvStorage::Bf16 if tiles(precision) => Form::Packed,
            KvStorage::Bf16 => Form::Half,
            KvStorage::Q8 => Form::Codes,
        };
        let memory = (0..count).map(|_| Buffer::default()).collect();
        Self { shape, precision, form, tokens, layers, memory }
    }

    /// Tokens of a page.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.memory.len()
    }

    /// Bytes that a page takes once it was written.
    pub fn page_bytes(&self) -> usize {
        self.page_words() * size_of::<f32>()
    }

    /// Bytes that are taken now.
    pub fn held_bytes(&self) -> usize {
        self.memory.iter().map(|page| page.len() * size_of::<f32>()).sum()
    }

    fn page_words(&self) -> usize {
        self.layers * self.shape.kv_heads * self.part_words()
    }

    /// Words of a part, a multiple of a cache line.
    fn part_words(&self) -> usize {
        let values = self.tokens * self.shape.head_dim;
        match self.form {
            Form::Single => 2 * values,
            Form::Half => values,
            Form::Codes => values / 2 + 2 * self.tokens,
            Form::Packed => self.tokens * self.padded_channels(),
        }
    }

    /// Width of a head as tiles want it.
    fn padded_channels(&self) -> usize {
        self.shape.head_dim.next_multiple_of(Self::FEWEST_TOKENS)
    }

    /// Whether anything was ever written to a page.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn is_written(&self, page: u32) -> bool {
        !self.memory[page as usize].is_empty()
    }

    /// A part of a page that was written.
    pub(super) fn part(&self, page: u32, layer: usize, kv_head: usize) -> &[f32] {
        let words = self.part_words();
        &self.memory[page as usize][(layer * self.shape.kv_heads + kv_head) * words..][..words]
    }

    /// Keeps the keys and values of a layer's new tokens.
    ///
    /// # Panics
    /// When a page table is too short or names a page that does not exist, or two sequences would write to one page.
    pub(super) fn write(&mut self, layer: usize, sequences: &[PagedQueries]) {
        let Shape { heads, kv_heads, head_dim } = self.shape;
        let (width, words) = (self.shape.width(), self.part_words());
        let page_words = self.page_words();
        let mut runs = Vec::new();
        let mut targets = Vec::new();
        for sequence in sequences {
            let tokens = sequence.qkv.len() / width;
            let mut token = 0;
            while token < tokens {
                let (place, slot) =
                    ((sequence.first + token) / self.tokens, (sequence.first + token) % self.tokens);
                let count = (self.tokens - slot).min(tokens - token);
                let page = sequence.pages[place];
                let memory = &mut self.memory[page as usize];
                if memory.is_empty() {
                    *memory = Buffer::zeros(page_words);
                }
                targets.push(page);
                let rows = &sequence.qkv[token * width..(token + count) * width];
                runs.push((Shared::new(memory), slot, rows));
                token += count;
            }
        }
        targets.sort_unstable();
        assert!(targets.windows(2).all(|pair| pair[0] != pair[1]), "two sequences write to one page");
        let pages = &*self;
        let write = |task: usize| {
            let ((memory, slot, rows), kv_head) = (runs[task / kv_heads], task % kv_heads);
            let run = Run {
                keys: &rows[(heads + kv_head) * head_dim..],
                values: &rows[(heads + kv_heads + kv_head) * head_dim..],
                stride: width,
                count: rows.len() / width,
                slot,
            };
            // SAFETY: the page has this part, as long as the slice; no page is in two runs, and each head has a part.
            let part = unsafe {
                let start = memory.at((layer * kv_heads + kv_head) * words);
                std::slice::from_raw_parts_mut(start, words)
            };
            pages.keep(part, &run);
        };
        let tasks = runs.len() * kv_heads;
        // A few tokens are written sooner than threads are woken.
        if tasks * sequences.iter().map(|sequence| sequence.qkv.len() / width).sum::<usize>() < 1024 {
            (0..tasks).for_each(write);
        } else {
            (0..tasks).into_par_iter().for_each(write);
        }
    }

    /// Keeps tokens that follow one another in a part.
    fn keep(&self, part: &mut [f32], run: &Run) {
        let (tokens, head_dim) = (self.tokens, self.shape.head_dim);
        let places = tokens * head_dim;
        match self.form {
            Form::Single => {
                let (keys, values) = part.split_at_mut(places);
                run.spread(keys, tokens, head_dim, |value| value);
                run.copy(values, head_dim, |value| value);
            }
            Form::Half => {
                let (keys, values) = bytemuck::cast_slice_mut::<f32, u16>(part).split_at_mut(places);
                run.spread(keys, tokens, head_dim, bf16_bits);
                run.copy(values, head_dim, bf16_bits);
            }
            Form::Codes => {
                let (codes, scales) = part.split_at_mut(places / 2);
                let (keys, values) = bytemuck::cast_slice_mut::<f32, i8>(codes).split_at_mut(places);
                let (key_scales, value_scales) = scales.split_at_mut(tokens);
                let mut row = vec![0; head_dim];
                for token in 0..run.count {
                    let slot = run.slot + token;
                    key_scales[slot] = quantise(&mut row, run.key(token, head_dim));
                    row.iter().enumerate().for_each(|(c, &code)| keys[c * tokens + slot] = code);
                    let to = &mut values[slot * head_dim..][..head_dim];
                    value_scales[slot] = quantise(to, run.value(token, head_dim));
                }
            }
            #[cfg(target_arch = "x86_64")]
            Form::Packed => amx::keep(part, run, tokens, head_dim),
            #[cfg(not(target_arch = "x86_64"))]
            Form::Packed => unreachable!("only where there are tiles"),
        }
    }

    /// Writes `count` kept keys and values from `first` on, as products read them: keys `[C, count]` with rows `stride`
    /// apart, values `[count, C]`.
    pub(super) fn gather(
        &self,
        table: &[u32],
        (layer, kv_head): (usize, usize),
        (first, count): (usize, usize),
        (keys, stride): (&mut [f32], usize),
        values: &mut [f32],
    ) {
        let (tokens, head_dim) = (self.tokens, self.shape.head_dim);
        let places = tokens * head_dim;
        let mut done = 0;
        while done < count {
            let (place, slot) = ((first + done) / tokens, (first + done) % tokens);
            let run = (tokens - slot).min(count - done);
            let part = self.part(table[place], layer, kv_head);
            let values = &mut values[done * head_dim..(done + run) * head_dim];
            let kept = slot * head_dim..(slot + run) * head_dim;
            let key_rows = keys.chunks_mut(stride).map(|row| &mut row[done..done + run]);
            match self.form {
                Form::Single => {
                    for (to, from) in key_rows.zip(part.chunks_exact(tokens)) {
                        to.copy_from_slice(&from[slot..slot + run]);
                    }
                    values.copy_from_slice(&part[places..][kept]);
                }
                Form::Half => {
                    let (from_keys, from_values) = bytemuck::cast_slice::<f32, u16>(part).split_at(places);
                    for (to, from) in key_rows.zip(from_keys.chunks_exact(tokens)) {
                        widen(to, &from[slot..slot + run]);
                    }
                    widen(values, &from_values[kept]);
                }
                Form::Codes => {
                    let (codes, scales) = part.split_at(places / 2);
                    let (from_keys, from_values) = bytemuck::cast_slice::<f32, i8>(codes).split_at(places);
                    let (key_scales, value_scales) = scales.split_at(tokens);
                    for (to, from) in key_rows.zip(from_keys.chunks_exact(tokens)) {
                        dequantise_lanes(to, &from[slot..slot + run], &key_scales[slot..slot + run]);
                    }
                    let scales = &value_scales[slot..slot + run];
                    dequantise_rows(values, &from_values[kept], scales, head_dim);
                }
                Form::Packed => unreachable!("packed pages are read where they lie"),
            }
            done += run;
        }
    }
}

/// Whether attention runs by tiles.
pub(super) fn tiles(precision: Precision) -> bool {
    #[cfg(target_arch = "x86_64")]
    return amx::serves(precision);
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// New tokens of one key/value head that go to one page, side by side.
pub(super) struct Run<'a> {
    /// Keys of the tokens, `stride` apart; values likewise.
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
    /// Place of the first in the page.
    pub(super) slot: usize,
}

impl Run<'_> {
    fn key(&self, token: usize, head_dim: usize) -> &[f32] {
        &self.keys[token * self.stride..][..head_dim]
    }

    pub(super) fn value(&self, token: usize, head_dim: usize) -> &[f32] {
        &self.values[token * self.stride..][..head_dim]
    }

    /// Keys, channel by channel.
    fn spread<T>(&self, to: &mut [T], tokens: usize, head_dim: usize, form: impl Fn(f32) -> T) {
        for token in 0..self.count {
            for (channel, &value) in self.key(token, head_dim).iter().enumerate() {
                to[channel * tokens + self.slot + token] = form(value);
            }
        }
    }

    /// Values, token by token.
    fn copy<T>(&self, to: &mut [T], head_dim: usize, form: impl Fn(f32) -> T) {
        for token in 0..self.count {
            let to = &mut to[(self.slot + token) * head_dim..][..head_dim];
            to.iter_mut().zip(self.value(token, head_dim)).for_each(|(to, &value)| *to = form(value));
        }
    }
}

/// The nearest bf16, ties to even.
pub(super) fn bf16_bits(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

/// The largest code.
const LARGEST: f32 = 127.0;

isa::dispatch! {
    /// Writes the codes of a token's head and returns what a code of 1 stands for.
    fn quantise<FMA>(codes: &mut [i8], from: &[f32]) -> f32 {
        let mut largest = 0.0f32;
        let mut sizes = [0.0; 32];
        for from in from.chunks(32) {
            for (size, value) in sizes.iter_mut().zip(from) {
                *size = value.abs();
            }
            largest = largest.max(max_lanes(&sizes[..from.len()]));
        }
        // A value that is not a number must be noticed where it is read, not become a quiet zero.
        if !from.iter().all(|value| value.is_finite()) {
            codes.fill(1);
            return f32::NAN;
        }
        let scale = if largest > 0.0 { LARGEST / largest } else { 0.0 };
        for (code, value) in codes.iter_mut().zip(from) {
            // A subnormal head has an infinite scale; the clamp keeps its codes in range.
            *code = (value * scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
        }
        largest / LARGEST
    }

    /// bf16 as f32.
    fn widen<FMA>(to: &mut [f32], from: &[u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(*from) << 16);
        }
    }

    /// Codes, each with a scale of its own.
    fn dequantise_lanes<FMA>(to: &mut [f32], codes: &[i8], scales: &[f32]) {
        for ((to, code), scale) in to.iter_mut().zip(codes).zip(scales) {
            *to = f32::from(*code) * scale;
        }
    }

    /// Rows of codes, each row with a scale.
    fn dequantise_rows<FMA>(to: &mut [f32], codes: &[i8], scales: &[f32], width: usize) {
        for ((to, codes), scale) in to.chunks_exact_mut(width).zip(codes.chunks_exact(width)).zip(scales) {
            for (to, code) in to.iter_mut().zip(codes) {
                *to = f32::from(*code) * scale;
            }
        }
    }
}
