//! How the weights of a panel lie: sixteen rows of the matrix side by side, so that a vector holds four consecutive values
//! of K of each, as `vpdpbusd` and the tiles of AMX multiply them.
//!
//! The codes of a block keep the bytes of the file, four of them a word, with the words of the sixteen rows beside each
//! other. So packing is a transposition of words, no bit is added, and what a word means is what the file's blocks say.

use crate::quant::{Encoding, q4_0, q4_k, q6_k, q8_0};

/// Rows of the matrix in a panel.
pub(super) const LANES: usize = 16;
/// Bytes of a row of a panel: a word of each lane, a cache line.
pub(super) const LINE: usize = 4 * LANES;
/// Values of K in the longest block, and words of them.
pub(super) const LONGEST: usize = 256;

/// Encodings whose blocks are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Q8_0,
    Q4_0,
    Q4K,
    Q6K,
}

impl Kind {
    pub fn of(encoding: Encoding) -> Option<Self> {
        match encoding {
            Encoding::Q8_0 => Some(Self::Q8_0),
            Encoding::Q4_0 => Some(Self::Q4_0),
            Encoding::Q4K => Some(Self::Q4K),
            Encoding::Q6K => Some(Self::Q6K),
            _ => None,
        }
    }

    pub fn encoding(self) -> Encoding {
        match self {
            Self::Q8_0 => Encoding::Q8_0,
            Self::Q4_0 => Encoding::Q4_0,
            Self::Q4K => Encoding::Q4K,
            Self::Q6K => Encoding::Q6K,
        }
    }

    /// Values of a block.
    pub fn block(self) -> usize {
        self.encoding().block_values()
    }

    /// What is added to a value's integer to make its code, which is not negative.
    pub fn offset(self) -> i32 {
        match self {
            Self::Q8_0 => 128,
            Self::Q4_0 => 8,
            Self::Q4K => 0,
            Self::Q6K => 32,
        }
    }

    /// Lines of the codes of a panel's block.
    pub fn code_lines(self) -> usize {
        match self {
            Self::Q8_0 => 8,
            Self::Q4_0 => 4,
            Self::Q4K => 32,
            Self::Q6K => 48,
        }
    }

    /// Bytes of the scales of a panel's block.
    pub fn scale_bytes(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => 2 * LANES,
            Self::Q4K => size_of::<Q4KScales>(),
            Self::Q6K => size_of::<Q6KScales>(),
        }
    }
}

/// f16 of each lane.
pub(super) type Halves = [[u8; 2]; LANES];

/// The scales of a panel's block of Q4_K.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Q4KScales {
    /// Of each part.
    pub scales: [[u8; LANES]; 8],
    /// Of each two parts, those of a lane beside each other.
    pub minima: [[[u8; 2]; LANES]; 4],
    pub scale: Halves,
    pub minimum: Halves,
}

/// The scales of a panel's block of Q6_K.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Q6KScales {
    /// Of each part.
    pub scales: [[i8; LANES]; 16],
    pub scale: Halves,
}

// SAFETY: arrays of bytes, without padding.
unsafe impl bytemuck::Zeroable for Q4KScales {}
// SAFETY: as above; every pattern of bits is a value.
unsafe impl bytemuck::Pod for Q4KScales {}
// SAFETY: as above.
unsafe impl bytemuck::Zeroable for Q6KScales {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Q6KScales {}

/// Puts a row's blocks into a panel's lane, whose `codes` and `scales` hold all of its blocks.
pub(super) fn pack_lane(kind: Kind, lane: usize, row: &[u8], codes: &mut [u8], scales: &mut [u8]) {
    match kind {
        Kind::Q8_0 => {
            let scales: &mut [Halves] = bytemuck::cast_slice_mut(scales);
            let blocks: &[q8_0::Block] = bytemuck::cast_slice(row);
            for ((block, lines), scales) in blocks.iter().zip(codes.chunks_exact_mut(8 * LINE)).zip(scales) {
                scales[lane] = block.scale;
                // With the sign's bit turned, -128 to 127 is 0 to 255.
                words(lines, lane, bytemuck::cast_slice(&block.codes), 0x8080_8080);
            }
        }
        Kind::Q4_0 => {
            let scales: &mut [Halves] = bytemuck::cast_slice_mut(scales);
            let blocks: &[q4_0::Block] = bytemuck::cast_slice(row);
            for ((block, lines), scales) in blocks.iter().zip(codes.chunks_exact_mut(4 * LINE)).zip(scales) {
                scales[lane] = block.scale;
                words(lines, lane, &block.codes, 0);
            }
        }
        Kind::Q4K => {
            let scales: &mut [Q4KScales] = bytemuck::cast_slice_mut(scales);
            let blocks: &[q4_k::Block] = bytemuck::cast_slice(row);
            for ((block, lines), scales) in blocks.iter().zip(codes.chunks_exact_mut(32 * LINE)).zip(scales) {
                (scales.scale[lane], scales.minimum[lane]) = (block.scale, block.minimum);
                for part in 0..8 {
                    let (scale, minimum) = block.part(part);
                    scales.scales[part][lane] = scale;
                    scales.minima[part / 2][lane][part % 2] = minimum;
                }
                words(lines, lane, &block.codes, 0);
            }
        }
        Kind::Q6K => {
            let scales: &mut [Q6KScales] = bytemuck::cast_slice_mut(scales);
            let blocks: &[q6_k::Block] = bytemuck::cast_slice(row);
            for ((block, lines), scales) in blocks.iter().zip(codes.chunks_exact_mut(48 * LINE)).zip(scales) {
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
            }
        }
    }
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
        Kind::Q4_0 => nibbles(lines, out, 4),
        Kind::Q4K => {
            for (lines, out) in lines.chunks_exact(8).zip(out.chunks_exact_mut(16)) {
                nibbles(lines, out, 8);
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
