//! From the blocks of a file to the lines of a panel ([`super::layout`]), and from lines to codes in plain loops.

use super::layout::{Halves, Kind, LINE, Q2KScales, Q4_1Scales, Q4KScales, Q6KScales};
use crate::quant::{q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};

/// Puts a row's blocks into a panel's lane, whose `codes` and `scales` hold all of its blocks.
pub(super) fn pack_lane(kind: Kind, lane: usize, row: &[u8], codes: &mut [u8], scales: &mut [u8]) {
    /// A row's blocks, each with its lines and scales.
    macro_rules! each {
        ($block:ty, $scales:ty, |$of:ident, $lines:ident, $to:ident| $put:block) => {{
            let blocks: &[$block] = bytemuck::cast_slice(row);
            let scales: &mut [$scales] = bytemuck::cast_slice_mut(scales);
            let codes = codes.chunks_exact_mut(kind.code_lines() * LINE);
            for (($of, $lines), $to) in blocks.iter().zip(codes).zip(scales) $put
        }};
    }
    match kind {
        Kind::Q8_0 => each!(q8_0::Block, Halves, |block, lines, scales| {
            scales[lane] = block.scale;
            // With the sign's bit turned, -128 to 127 is 0 to 255.
            words(lines, lane, bytemuck::cast_slice(&block.codes), 0x8080_8080);
        }),
        Kind::Q4_0 => each!(q4_0::Block, Halves, |block, lines, scales| {
            scales[lane] = block.scale;
            words(lines, lane, &block.codes, 0);
        }),
        Kind::Q4_1 => each!(q4_1::Block, Q4_1Scales, |block, lines, scales| {
            (scales.scale[lane], scales.minimum[lane]) = (block.scale, block.minimum);
            words(lines, lane, &block.codes, 0);
        }),
        Kind::Q5_0 => each!(q5_0::Block, Halves, |block, lines, scales| {
            scales[lane] = block.scale;
            let (high, low) = lines.split_at_mut(LINE);
            words(high, lane, &fifth_bits_of_32(block.high), 0);
            words(low, lane, &block.low, 0);
        }),
        Kind::Q5_1 => each!(q5_1::Block, Q4_1Scales, |block, lines, scales| {
            (scales.scale[lane], scales.minimum[lane]) = (block.scale, block.minimum);
            let (high, low) = lines.split_at_mut(LINE);
            words(high, lane, &fifth_bits_of_32(block.high), 0);
            words(low, lane, &block.low, 0);
        }),
        Kind::Q4K => each!(q4_k::Block, Q4KScales, |block, lines, scales| {
            (scales.scale[lane], scales.minimum[lane]) = (block.scale, block.minimum);
            parts_of_32(scales, lane, |part| block.part(part));
            words(lines, lane, &block.codes, 0);
        }),
        Kind::Q5K => each!(q5_k::Block, Q4KScales, |block, lines, scales| {
            (scales.scale[lane], scales.minimum[lane]) = (block.scale, block.minimum);
            parts_of_32(scales, lane, |part| block.part(part));
            let (high, low) = lines.split_at_mut(8 * LINE);
            words(high, lane, &block.high.map(fifth_bits_of_parts), 0);
            words(low, lane, &block.low, 0);
        }),
        Kind::Q2K => each!(q2_k::Block, Q2KScales, |block, lines, scales| {
            (scales.scale[lane], scales.minimum[lane]) = (block.scale, block.minimum);
            for (scales, both) in scales.scales.iter_mut().zip(block.parts) {
                scales[lane] = both;
            }
            words(lines, lane, quarters_of_parts(&block.codes).as_flattened(), 0);
        }),
        Kind::Q3K => each!(q3_k::Block, Q6KScales, |block, lines, scales| {
            scales.scale[lane] = block.scale;
            for (part, scales) in scales.scales.iter_mut().enumerate() {
                scales[lane] = block.part(part);
            }
            words(lines, lane, thirds_of_pairs(block).as_flattened(), 0);
        }),
        Kind::Q6K => each!(q6_k::Block, Q6KScales, |block, lines, scales| {
            scales.scale[lane] = block.scale;
            for (scales, scale) in scales.scales.iter_mut().zip(block.scales) {
                scales[lane] = scale;
            }
            // Each half of the block's values: eight times two lines of lower bits and the one of upper bits that completes
            // them, so that who reads them in this order reads memory in its order.
            for (half, lines) in lines.chunks_exact_mut(24 * LINE).enumerate() {
                let (first, second) = block.low[half * 64..][..64].split_at(32);
                let high = &block.high[half * 32..][..32];
                for (group, lines) in lines.chunks_exact_mut(3 * LINE).enumerate() {
                    for (line, bytes) in lines.chunks_exact_mut(LINE).zip([first, second, high]) {
                        words(line, lane, &bytes[4 * group..][..4], 0);
                    }
                }
            }
        }),
    }
}

/// Scales and minima of a block's parts into a lane.
#[inline(always)]
fn parts_of_32(scales: &mut Q4KScales, lane: usize, part: impl Fn(usize) -> (u8, u8)) {
    for at in 0..8 {
        let (scale, minimum) = part(at);
        scales.scales[at][lane] = scale;
        scales.minima[at / 2][lane][at % 2] = minimum;
    }
}

/// The fifth bits of 32 codes, of which four are a word: bit `g` of byte `b` belongs to code `4 g + b`. So a shift by `g`
/// brings near each other those of a byte's lower half and, four bits above, of its upper half.
#[inline(always)]
fn fifth_bits_of_32(high: [u8; 4]) -> [u8; 4] {
    let high = u32::from_le_bytes(high);
    std::array::from_fn(|byte| {
        (0..8).fold(0, |bits, word| bits | ((high >> (4 * word + byte) & 1) as u8) << word)
    })
}

/// The fifth bits of a value of eight parts, those of odd parts above those of even ones: a shift by `p` brings near each
/// other those of parts `2 p` and `2 p + 1`, whose other bits share a byte.
#[inline(always)]
fn fifth_bits_of_parts(high: u8) -> u8 {
    (0..8).fold(0, |bits, part| bits | (high >> part & 1) << (part / 2 + part % 2 * 4))
}

/// Codes of two bits, a word for each part of 16: byte `b` holds codes `b`, `b + 4`, `b + 8` and `b + 12` of the part, the first
/// lowest.
#[inline(always)]
fn quarters_of_parts(codes: &[u8; 64]) -> [[u8; 4]; 16] {
    std::array::from_fn(|part| {
        let all = (0..4).fold(0, |all, word| all | two_bits(codes, 4 * part + word) << (2 * word));
        all.to_le_bytes()
    })
}

/// Codes of three bits, three words for each 32: six of their eight words lie in halves of bytes, whose fourth bits are the
/// other two, the first word's the lowest.
#[inline(always)]
fn thirds_of_pairs(block: &q3_k::Block) -> [[u8; 4]; 24] {
    std::array::from_fn(|place| {
        let (pair, third) = (place / 3, place % 3);
        let code = |word: usize| {
            let high = u32::from_le_bytes(block.high.as_chunks().0[word]) >> pair & 0x0101_0101;
            two_bits(&block.low, 8 * pair + word) | high << 2
        };
        let spare = |word: usize| (code(word) >> third & 0x0101_0101) << 3;
        let lower = code(2 * third) | spare(6);
        (lower | (code(2 * third + 1) | spare(7)) << 4).to_le_bytes()
    })
}

/// Four codes of two bits, one a byte, as the files of Q2_K and Q3_K have them.
#[inline(always)]
fn two_bits(codes: &[u8; 64], word: usize) -> u32 {
    let (half, quarter, group) = (word / 32, word % 32 / 8, word % 8);
    u32::from_le_bytes(codes.as_chunks().0[8 * half + group]) >> (2 * quarter) & 0x0303_0303
}

/// Each word of `bytes`, some of its bits turned, into the lane's place of a line.
#[inline(always)]
fn words(lines: &mut [u8], lane: usize, bytes: &[u8], turned: u32) {
    let (lines, _) = lines.as_chunks_mut::<LINE>();
    let (words, _) = bytes.as_chunks::<4>();
    for (line, word) in lines.iter_mut().zip(words) {
        let word = u32::from_ne_bytes(*word) ^ turned;
        line[4 * lane..4 * lane + 4].copy_from_slice(&word.to_ne_bytes());
    }
}

/// The codes of a panel's block, a byte each: a line for each four values of K.
#[inline(always)]
pub(super) fn unpack(kind: Kind, codes: &[u8], out: &mut [[u8; LINE]]) {
    let (lines, _) = codes.as_chunks::<LINE>();
    match kind {
        Kind::Q8_0 => out[..8].copy_from_slice(&lines[..8]),
        Kind::Q4_0 | Kind::Q4_1 => nibbles(lines, out, 4),
        Kind::Q5_0 | Kind::Q5_1 => {
            nibbles(&lines[1..], out, 4);
            for (word, out) in out[..8].iter_mut().enumerate() {
                add_bit(out, &lines[0], word, 4);
            }
        }
        Kind::Q4K | Kind::Q5K => {
            let high = kind.code_lines() - 32;
            for (lines, out) in lines[high..].chunks_exact(8).zip(out.chunks_exact_mut(16)) {
                nibbles(lines, out, 8);
            }
            if kind == Kind::Q5K {
                for (part, out) in out.chunks_exact_mut(8).enumerate() {
                    for (out, high) in out.iter_mut().zip(lines) {
                        add_bit(out, high, part / 2 + part % 2 * 4, 4);
                    }
                }
            }
        }
        Kind::Q2K => {
            for (line, out) in lines.iter().zip(out.chunks_exact_mut(4)) {
                for (word, out) in out.iter_mut().enumerate() {
                    for (out, byte) in out.iter_mut().zip(line) {
                        *out = byte >> (2 * word) & 3;
                    }
                }
            }
        }
        Kind::Q3K => {
            for (lines, out) in lines.chunks_exact(3).zip(out.chunks_exact_mut(8)) {
                for (word, out) in out.iter_mut().enumerate() {
                    let shift = 4 * (word % 2);
                    if word < 6 {
                        for (out, byte) in out.iter_mut().zip(&lines[word / 2]) {
                            *out = byte >> shift & 7;
                        }
                    } else {
                        *out = [0; LINE];
                        for (third, line) in lines.iter().enumerate() {
                            add_bit(out, line, 3 + shift, third);
                        }
                    }
                }
            }
        }
        Kind::Q6K => {
            for (lines, out) in lines.chunks_exact(24).zip(out.chunks_exact_mut(32)) {
                for (group, out) in out.iter_mut().enumerate() {
                    let (quarter, group) = (group / 8, group % 8);
                    let (low, high) = (&lines[3 * group + quarter % 2], &lines[3 * group + 2]);
                    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                        *out = (low >> (quarter / 2 * 4) & 15) | (high >> (quarter * 2) & 3) << 4;
                    }
                }
            }
        }
    }
}

/// Lower halves of `count` lines, then their upper ones.
#[inline(always)]
fn nibbles(lines: &[[u8; LINE]], out: &mut [[u8; LINE]], count: usize) {
    let (low, high) = out.split_at_mut(count);
    for ((line, low), high) in lines.iter().zip(low).zip(high) {
        for ((byte, low), high) in line.iter().zip(low).zip(high) {
            (*low, *high) = (byte & 15, byte >> 4);
        }
    }
}

/// Bit `from` of each byte of a line of upper bits, as bit `to`.
#[inline(always)]
fn add_bit(out: &mut [u8; LINE], high: &[u8; LINE], from: usize, to: usize) {
    for (out, high) in out.iter_mut().zip(high) {
        *out |= (high >> from & 1) << to;
    }
}
