//! How the weights of a panel lie: sixteen rows of the matrix side by side, so that a vector holds four consecutive values
//! of K of each, as `vpdpbusd` and the tiles of AMX multiply them.
//!
//! Four codes of a row are a word, and the words of the sixteen rows lie beside each other. So packing
//! ([`super::pack`]) is a transposition of words and no bit is added. What a word means is what the file's blocks say, but for
//! the codes of Q2_K and Q3_K and the fifth bits of others, which are put where few shifts take them apart.

use crate::quant::Encoding;

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
    Q5_1,
    Q5_0,
    Q4_1,
    Q4_0,
    Q6K,
    Q5K,
    Q4K,
    Q3K,
    Q2K,
}

impl Kind {
    pub fn of(encoding: Encoding) -> Option<Self> {
        match encoding {
            Encoding::Q8_0 => Some(Self::Q8_0),
            Encoding::Q5_1 => Some(Self::Q5_1),
            Encoding::Q5_0 => Some(Self::Q5_0),
            Encoding::Q4_1 => Some(Self::Q4_1),
            Encoding::Q4_0 => Some(Self::Q4_0),
            Encoding::Q6K => Some(Self::Q6K),
            Encoding::Q5K => Some(Self::Q5K),
            Encoding::Q4K => Some(Self::Q4K),
            Encoding::Q3K => Some(Self::Q3K),
            Encoding::Q2K => Some(Self::Q2K),
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => None,
        }
    }

    pub fn encoding(self) -> Encoding {
        match self {
            Self::Q8_0 => Encoding::Q8_0,
            Self::Q5_1 => Encoding::Q5_1,
            Self::Q5_0 => Encoding::Q5_0,
            Self::Q4_1 => Encoding::Q4_1,
            Self::Q4_0 => Encoding::Q4_0,
            Self::Q6K => Encoding::Q6K,
            Self::Q5K => Encoding::Q5K,
            Self::Q4K => Encoding::Q4K,
            Self::Q3K => Encoding::Q3K,
            Self::Q2K => Encoding::Q2K,
        }
    }

    /// Values of a block.
    pub fn block(self) -> usize {
        self.encoding().block_values()
    }

    /// What is added to a value's integer to make its code, which is not negative.
    pub const fn offset(self) -> i32 {
        match self {
            Self::Q8_0 => 128,
            Self::Q6K => 32,
            Self::Q5_0 => 16,
            Self::Q4_0 => 8,
            Self::Q3K => 4,
            Self::Q5_1 | Self::Q4_1 | Self::Q5K | Self::Q4K | Self::Q2K => 0,
        }
    }

    /// Lines of the codes of a panel's block.
    pub fn code_lines(self) -> usize {
        match self {
            Self::Q8_0 => 8,
            Self::Q5_1 | Self::Q5_0 => 5,
            Self::Q4_1 | Self::Q4_0 => 4,
            Self::Q6K => 48,
            Self::Q5K => 40,
            Self::Q4K => 32,
            Self::Q3K => 24,
            Self::Q2K => 16,
        }
    }

    /// Bytes of the scales of a panel's block.
    pub fn scale_bytes(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q5_0 | Self::Q4_0 => size_of::<Halves>(),
            Self::Q5_1 | Self::Q4_1 => size_of::<Q4_1Scales>(),
            Self::Q5K | Self::Q4K => size_of::<Q4KScales>(),
            Self::Q6K | Self::Q3K => size_of::<Q6KScales>(),
            Self::Q2K => size_of::<Q2KScales>(),
        }
    }
}

/// f16 of each lane.
pub(super) type Halves = [[u8; 2]; LANES];

/// The scales of a panel's block of Q4_1 or Q5_1.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Q4_1Scales {
    pub scale: Halves,
    pub minimum: Halves,
}

/// The scales of a panel's block of Q4_K or Q5_K.
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

/// The scales of a panel's block of Q6_K or Q3_K.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Q6KScales {
    /// Of each part.
    pub scales: [[i8; LANES]; 16],
    pub scale: Halves,
}

/// The scales of a panel's block of Q2_K.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Q2KScales {
    /// Of each part the scale in the lower half, the minimum in the upper one.
    pub scales: [[u8; LANES]; 16],
    pub scale: Halves,
    pub minimum: Halves,
}

macro_rules! bytes {
    ($($scales:ty),*) => {
        $(
            // SAFETY: arrays of bytes, without padding.
            unsafe impl bytemuck::Zeroable for $scales {}
            // SAFETY: as above; every pattern of bits is a value.
            unsafe impl bytemuck::Pod for $scales {}
        )*
    };
}
bytes!(Q4_1Scales, Q4KScales, Q6KScales, Q2KScales);
