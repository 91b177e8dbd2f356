//! The shapes that `bench/README.md` measures, by name.

use std::fmt;
use std::str::FromStr;

use model::Config;

use crate::{Error, Plan, Size};

/// A model with its micro-batch, of one micro-batch a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// For tests: almost nothing.
    Nano,
    /// 6.6M parameters, 8 rows of 256 tokens.
    Small,
    /// 126M parameters, 2 rows of 512 tokens.
    Big,
    /// Two layers of Llama 3.2 1B with its vocabulary, one row of 2,048 tokens.
    Wide,
}

impl Shape {
    /// All of them, from small to large.
    pub const ALL: [Self; 4] = [Self::Nano, Self::Small, Self::Big, Self::Wide];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 4] = ["nano", "small", "big", "wide"];

    /// The model, rows and tokens; the rest of the plan is that of the size whose model it takes.
    pub fn plan(self) -> Plan {
        let (size, rows, seq_len) = match self {
            Self::Nano => (Size::Nano, 2, 32),
            Self::Small => (Size::Tiny, 8, 256),
            Self::Big => (Size::Small, 2, 512),
            Self::Wide => (Size::B1, 1, 2048),
        };
        let plan = size.plan();
        let model = match self {
            Self::Nano => Config { vocab_size: 256, ffn_dim: 128, ..plan.model },
            Self::Wide => Config { layers: 2, rope_scaling: None, ..plan.model },
            Self::Small | Self::Big => plan.model,
        };
        Plan { model, rows, seq_len, accumulation: 1, ..plan }
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let place = Self::NAMES.iter().position(|known| *known == name);
        place.map(|place| Self::ALL[place]).ok_or_else(|| Error::UnknownShape(name.to_owned()))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(Self::NAMES[*self as usize])
    }
}
