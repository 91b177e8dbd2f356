//! The scales of 4-bit blocks: as they are, or quantised to 8 bits once more, less their mean and in blocks of 256
//! (Dettmers et al. 2023, "Double Quantization"; bitsandbytes' `compress_statistics`).

/// Scales that share one second scale.
const BLOCK: usize = 256;

/// One scale for each block of weights.
#[derive(Clone, Debug)]
pub(super) enum Scales {
    Plain(Vec<f32>),
    Double {
        /// Places in [`MAP`].
        codes: Vec<u8>,
        /// The largest difference from the mean within each block.
        absmax: Vec<f32>,
        mean: f32,
    },
}

impl Scales {
    /// The scale of a block of weights.
    #[inline(always)]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[block],
            Self::Double { codes, absmax, mean } => {
                MAP[usize::from(codes[block])] * absmax[block / BLOCK] + mean
            }
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(scales) => size_of_val(&scales[..]),
            Self::Double { codes, absmax, .. } => codes.len() + size_of_val(&absmax[..]) + size_of::<f32>(),
        }
    }

    /// The scales before they are quantised.
    pub fn plain_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Plain(scales) => scales,
            Self::Double { .. } => unreachable!("scales are quantised once all of them are known"),
        }
    }

    pub fn quantise(&mut self) {
        let scales = self.plain_mut();
        let mean =
            (scales.iter().map(|&scale| f64::from(scale)).sum::<f64>() / scales.len().max(1) as f64) as f32;
        let mut codes = Vec::with_capacity(scales.len());
        let mut absmax = Vec::with_capacity(scales.len().div_ceil(BLOCK));
        for block in scales.chunks(BLOCK) {
            let most = block.iter().fold(0.0f32, |most, scale| most.max((scale - mean).abs()));
            absmax.push(most);
            codes.extend(
                block.iter().map(|scale| nearest(if most > 0.0 { (scale - mean) / most } else { 0.0 })),
            );
        }
        *self = Self::Double { codes, absmax, mean };
    }
}

/// The place in [`MAP`] of the value nearest to `value`, the lower one where two are.
fn nearest(value: f32) -> u8 {
    let above = MAP.partition_point(|&known| known < value).min(MAP.len() - 1);
    let below = above.saturating_sub(1);
    if value - MAP[below] <= MAP[above] - value { below as u8 } else { above as u8 }
}

/// The dynamic 8-bit type (Dettmers 2015, "8-Bit Approximations for Parallelism in Deep Learning"; bitsandbytes'
/// `create_dynamic_map`), in rising order: for each power of ten from 1e-6 to 1 evenly spaced values between a tenth of
/// it and all of it, twice as many as for the power before; their negatives; 0 and 1.
pub(super) static MAP: [f32; 256] = map();

const fn map() -> [f32; 256] {
    let mut map = [0.0; 256];
    let mut power = 1e-6;
    let (mut exponent, mut place) = (0, 128);
    while exponent < 7 {
        let count = 1 << exponent;
        let mut step = 0;
        while step < count {
            // The middle of the step-th of `count` equal parts of [0.1, 1].
            let value = (power * (0.1 + 0.9 * (step as f64 + 0.5) / count as f64)) as f32;
            map[place] = value;
            // Negatives mirror around 0 at place 127.
            map[254 - place] = -value;
            place += 1;
            step += 1;
        }
        power *= 10.0;
        exponent += 1;
    }
    map[255] = 1.0;
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some values of `create_dynamic_map()`; all of them rise, 0 is at 127 and 1 at the end.
    #[test]
    fn the_map_is_that_of_bitsandbytes() {
        assert!(MAP.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((MAP[127], MAP[255]), (0.0, 1.0));
        for (place, value) in
            [(0, -0.992_968_75), (128, 5.5e-7), (129, 3.25e-6), (130, 7.75e-6), (254, 0.992_968_75)]
        {
            let error: f32 = MAP[place] - value;
            assert!(error.abs() <= 1e-6 * value.abs(), "{place}: {}", MAP[place]);
        }
    }

    #[test]
    fn every_value_takes_the_nearest_place() {
        for step in -1000..=1000 {
            let value = step as f32 / 1000.0;
            let best = MAP.iter().map(|known| (known - value).abs()).fold(f32::MAX, f32::min);
            assert_eq!((MAP[usize::from(nearest(value))] - value).abs(), best, "{value}");
        }
    }
}
