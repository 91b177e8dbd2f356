//! Conversions from a larger unit to a smaller one, with whole answers.
//! Factors of ten are applied at once; other factors are counted up, so that a product never seen is reached in
//! steps that were.

use super::{Check, Item, Kind, Split, side, worded};
use ledger::seed::Rng;

/// Larger unit, smaller unit, how many of the smaller make one of the larger.
const UNITS: [(&str, &str, u32); 16] = [
    ("weeks", "days", 7),
    ("days", "hours", 24),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("years", "months", 12),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("gallons", "quarts", 4),
    ("dozens", "pieces", 12),
    ("decades", "years", 10),
    ("centimetres", "millimetres", 10),
    ("metres", "centimetres", 100),
    ("centuries", "years", 100),
    ("kilometres", "metres", 1000),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
];

/// A conversion: `How many hours are in 3 days?`, `1:24 2:48 3:72: 72 hours`.
pub(super) fn draw(split: Split, rng: &mut Rng) -> Item {
    let (larger, smaller, factor, number) = loop {
        let &(larger, smaller, factor) = rng.pick(&UNITS);
        let by_tens = matches!(factor, 10 | 100 | 1000);
        let number = 2 + rng.below(if by_tens { 98 } else { 11 }) as u32;
        // The longest count is always in training: it holds the last step of every other.
        let may_be_held_out = by_tens || number < 12;
        let on = if may_be_held_out { side(&fact(larger, smaller, number)) } else { Split::Train };
        if on == split {
            break (larger, smaller, factor, number);
        }
    };
    let question = match rng.below(7) {
        0 => format!("How many {smaller} are in {number} {larger}?"),
        1 => format!("How many {smaller} are there in {number} {larger}?"),
        2 => format!("Convert {number} {larger} to {smaller}."),
        3 => format!("{number} {larger} in {smaller}?"),
        4 => format!("What is {number} {larger} in {smaller}?"),
        5 => format!("How many {smaller} make {number} {larger}?"),
        _ => worded(rng, &["Please turn {} into "], &format!("{number} {larger}")) + smaller + ".",
    };
    let answer = format!("{} {smaller}", number * factor);
    let working = match factor {
        10 | 100 | 1000 => format!("{number}*{factor}"),
        _ => counted(number, factor),
    };
    Item::new(
        Kind::Units,
        fact(larger, smaller, number),
        question,
        format!("{working}: {answer}"),
        answer,
        Check::Final,
    )
}

fn fact(larger: &str, smaller: &str, number: u32) -> String {
    format!("convert {number} {larger} {smaller}")
}

/// The multiples of `step`, numbered up to `count`: `1:24 2:48 3:72`.
pub(super) fn counted(count: u32, step: u32) -> String {
    (1..=count).map(|index| format!("{index}:{}", index * step)).collect::<Vec<_>>().join(" ")
}
