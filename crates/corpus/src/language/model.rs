//! The model: for each language, how likely a letter is after the two before it. Read once from a packed table that
//! `bench/curate/language` makes from the n-gram counts of the lingua project (Apache-2.0).

use std::sync::OnceLock;

use rustc_hash::FxHashMap;

use super::Detected;
use super::script::{self, Script};

/// The table. Its layout is written down in [`unpack`].
static PACKED: &[u8] = include_bytes!("model.bin");

/// What stands between words.
const GAP: char = ' ';

/// Natural logarithms are kept as so many steps each, so that 8 bits reach to e^-15.9.
const STEPS: f32 = 16.0;

/// The cost of a letter that a language was never seen to have, in steps.
const NEVER: u8 = 255;

/// What is added to the cost of a shorter run for each letter that it is shorter: a run that was not seen is rarer
/// than its end says.
const BACK_OFF: u8 = 12;

/// Letters count as this many times fewer than they are, for the score: those of a word are not independent.
const TEMPER: f64 = 6.0;

/// Letters looked at: more change nothing for a text in one language.
const MAX_LETTERS: usize = 4000;

/// A script's languages and their costs.
struct Group {
    languages: Vec<&'static str>,
    /// Row of each run of one to three letters.
    rows: FxHashMap<u64, u32>,
    /// Costs in steps, one byte a language, `languages.len()` to a row.
    costs: Vec<u8>,
}

/// All languages.
pub struct Model {
    groups: [Option<Group>; 4],
}

/// The codes of all languages that can be detected, sorted.
pub fn languages() -> Vec<&'static str> {
    let model = Model::get();
    let by_letters = model.groups.iter().flatten().flat_map(|group| group.languages.iter().copied());
    let mut all: Vec<_> =
        by_letters.chain(script::ALL.iter().filter_map(|script| script.language())).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Model {
    /// The model that is built in.
    pub fn get() -> &'static Model {
        static MODEL: OnceLock<Model> = OnceLock::new();
        MODEL.get_or_init(|| unpack(PACKED).expect("the table that is built in was made by its own packer"))
    }

    /// See [`super::detect`].
    pub fn detect(&self, text: &str) -> Option<Detected> {
        let mut counts = [0usize; script::COUNT];
        for character in text.chars() {
            if character.is_ascii() && !character.is_ascii_alphabetic() {
                continue;
            }
            if let Some(script) = Script::of(character) {
                counts[script as usize] += script.weight();
            }
        }
        let total: usize = counts.iter().sum();
        // Japanese is written in both: a tenth of the characters is enough, as they are weighted.
        let (han, kana) = (counts[Script::Han as usize], counts[Script::Kana as usize]);
        if kana * 20 > han {
            counts[Script::Kana as usize] += std::mem::take(&mut counts[Script::Han as usize]);
        }
        let best =
            *script::ALL.iter().max_by_key(|&&script| (counts[script as usize], u8::MAX - script as u8))?;
        if counts[best as usize] == 0 {
            return None;
        }
        let share = counts[best as usize] as f64 / total as f64;
        if let Some(language) = best.language() {
            return Some(Detected { language, score: share });
        }
        let group = self.groups.get(best as usize)?.as_ref()?;
        let (language, score) = group.detect(text, best);
        Some(Detected { language, score: score * share })
    }
}

impl Group {
    fn detect(&self, text: &str, script: Script) -> (&'static str, f64) {
        let width = self.languages.len();
        let mut costs = vec![0u32; width];
        let mut run = [GAP; 3];
        let mut take = |letter: char| {
            run = [run[1], run[2], letter];
            if letter == GAP {
                return;
            }
            // The longest run that is known and does not reach over a gap. That it could be longer costs all
            // languages the same, and decides nothing.
            let found = [&run[..], &run[1..], &run[2..]]
                .into_iter()
                .filter(|run| !run.contains(&GAP))
                .find_map(|run| self.rows.get(&key(run)).copied());
            if let Some(row) = found {
                let start = row as usize * width;
                for (cost, step) in costs.iter_mut().zip(&self.costs[start..start + width]) {
                    *cost += u32::from(*step);
                }
            }
        };
        let mut taken = 0;
        for character in text.chars() {
            match Script::of(character) {
                Some(found) if found == script => {
                    taken += 1;
                    character.to_lowercase().for_each(&mut take);
                }
                // Signs over a letter stand between letters without parting them.
                None if matches!(character as u32, 0x300..=0x36F | 0x200C | 0x200D) => {}
                _ => take(GAP),
            }
            if taken >= MAX_LETTERS {
                break;
            }
        }
        let least = costs.iter().copied().min().unwrap_or(0);
        let scale = 1.0 / (f64::from(STEPS) * TEMPER);
        let weights = costs.iter().map(|&cost| (-(f64::from(cost - least)) * scale).exp());
        let sum: f64 = weights.sum();
        let best = costs.iter().position(|&cost| cost == least).unwrap_or(0);
        (self.languages[best], 1.0 / sum)
    }
}

/// Up to three letters in one number: 21 bits each.
fn key(run: &[char]) -> u64 {
    run.iter().fold(0, |key, &letter| (key << 21) | letter as u64)
}

/// Reads the packed table (zstd): for each of the four scripts the number of languages, their codes (a byte for the
/// length, then the letters), the number of runs of one, two and three letters, and of each run, sorted, the
/// letters' difference to the run before and which languages have it at which cost. See `bench/curate/language`.
fn unpack(packed: &[u8]) -> Option<Model> {
    let bytes = zstd::decode_all(packed).ok()?;
    let mut rest = Bytes(&bytes);
    let mut groups = [None, None, None, None];
    for group in &mut groups {
        *group = Some(unpack_group(&mut rest)?);
    }
    Some(Model { groups })
}

fn unpack_group(rest: &mut Bytes<'_>) -> Option<Group> {
    let width = rest.number()? as usize;
    let mut languages = Vec::with_capacity(width);
    for _ in 0..width {
        let length = rest.number()? as usize;
        let code = String::from_utf8(rest.take(length)?.to_vec()).ok()?;
        languages.push(&*Box::leak(code.into_boxed_str()));
    }
    let mut group = Group { languages, rows: FxHashMap::default(), costs: Vec::new() };
    for length in 1..=3u32 {
        let runs = rest.number()?;
        let mut known = 0u64;
        for _ in 0..runs {
            known += rest.number()?;
            // What is not listed costs what the shorter run costs, and a little more.
            let shorter = known & ((1 << (21 * (length - 1))) - 1);
            let mut costs: Vec<u8> = match group.rows.get(&shorter) {
                Some(&row) if length > 1 => {
                    let start = row as usize * width;
                    group.costs[start..start + width]
                        .iter()
                        .map(|cost| cost.saturating_add(BACK_OFF))
                        .collect()
                }
                _ => vec![NEVER; width],
            };
            for _ in 0..rest.number()? {
                let language = rest.number()? as usize;
                *costs.get_mut(language)? = rest.take(1)?[0];
            }
            let row = group.costs.len() / width;
            group.costs.extend(costs);
            group.rows.insert(known, row as u32);
        }
    }
    Some(group)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// LEB128.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}
