//! Packs the trigram model of languages that `corpus` detects by: `cargo run -- [RUNS] [OUT]`. It reads the relative
//! frequencies of letters after one and two others that the lingua project (Apache-2.0) counted in its training
//! corpora, keeps the RUNS most frequent runs of three letters of each language, and writes them with 8 bits each.
//! Lingua's test data, which the project measures itself with, is no part of those corpora.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use fst::{Map, Streamer};

/// As in `corpus::language::model`.
const STEPS: f64 = 16.0;

/// The languages whose scripts are not enough to tell them, by script: lingua's name and the code.
const GROUPS: [&[(&str, &str)]; 4] = [
    // Latin
    &[
        ("afrikaans", "af"), ("albanian", "sq"), ("azerbaijani", "az"), ("basque", "eu"), ("bokmal", "nb"),
        ("bosnian", "bs"), ("catalan", "ca"), ("croatian", "hr"), ("czech", "cs"), ("danish", "da"), ("dutch", "nl"),
        ("english", "en"), ("esperanto", "eo"), ("estonian", "et"), ("finnish", "fi"), ("french", "fr"),
        ("ganda", "lg"), ("german", "de"), ("hungarian", "hu"), ("icelandic", "is"), ("indonesian", "id"),
        ("irish", "ga"), ("italian", "it"), ("latin", "la"), ("latvian", "lv"), ("lithuanian", "lt"),
        ("malay", "ms"), ("maori", "mi"), ("nynorsk", "nn"), ("polish", "pl"), ("portuguese", "pt"),
        ("romanian", "ro"), ("shona", "sn"), ("slovak", "sk"), ("slovene", "sl"), ("somali", "so"), ("sotho", "st"),
        ("spanish", "es"), ("swahili", "sw"), ("swedish", "sv"), ("tagalog", "tl"), ("tsonga", "ts"),
        ("tswana", "tn"), ("turkish", "tr"), ("vietnamese", "vi"), ("welsh", "cy"), ("xhosa", "xh"),
        ("yoruba", "yo"), ("zulu", "zu"),
    ],
    // Cyrillic
    &[
        ("belarusian", "be"), ("bulgarian", "bg"), ("kazakh", "kk"), ("macedonian", "mk"), ("mongolian", "mn"),
        ("russian", "ru"), ("serbian", "sr"), ("ukrainian", "uk"),
    ],
    // Arabic
    &[("arabic", "ar"), ("persian", "fa"), ("urdu", "ur")],
    // Devanagari
    &[("hindi", "hi"), ("marathi", "mr")],
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().map_or(Ok(6000), |text| text.parse())?;
    let out = arguments.next().unwrap_or_else(|| "../../../crates/corpus/src/language/model.bin".into());
    let mut bytes = Vec::new();
    for group in GROUPS {
        number(&mut bytes, group.len() as u64);
        for (_, code) in group {
            number(&mut bytes, code.len() as u64);
            bytes.extend(code.bytes());
        }
        let mut tables: [BTreeMap<u64, Vec<(u64, u8)>>; 3] = Default::default();
        for (language, (name, _)) in group.iter().enumerate() {
            let kept = read(name, runs)?;
            for (table, kept) in tables.iter_mut().zip(kept) {
                for (run, logarithm) in kept {
                    let cost = (-logarithm * STEPS).round().clamp(0.0, 254.0) as u8;
                    table.entry(run).or_default().push((language as u64, cost));
                }
            }
        }
        for table in &tables {
            number(&mut bytes, table.len() as u64);
            let mut last = 0;
            for (run, costs) in table {
                number(&mut bytes, run - last);
                last = *run;
                number(&mut bytes, costs.len() as u64);
                for (language, cost) in costs {
                    number(&mut bytes, *language);
                    bytes.push(*cost);
                }
            }
            eprintln!("{} runs", table.len());
        }
    }
    let packed = zstd::encode_all(&bytes[..], 19)?;
    eprintln!("{} bytes, packed {}", bytes.len(), packed.len());
    std::fs::write(out, packed)?;
    Ok(())
}

type Runs = Vec<(u64, f64)>;

/// The runs of one, two and three letters that are kept, each with the logarithm of its last letter's frequency
/// after the others.
fn read(name: &str, most: usize) -> Result<[Runs; 3], Box<dyn std::error::Error>> {
    let bytes = std::fs::read(folder(name)?.join("models/ngrams.fst"))?;
    let map = Map::new(bytes)?;
    let mut by_length: [HashMap<Vec<char>, f64>; 3] = Default::default();
    let mut stream = map.stream();
    while let Some((run, value)) = stream.next() {
        let run: Vec<char> = std::str::from_utf8(run)?.chars().collect();
        if run.len() <= 3 {
            by_length[run.len() - 1].insert(run, f64::from_bits(value));
        }
    }
    let mut kept: [Runs; 3] = Default::default();
    for length in 1..=3 {
        let mut all: Vec<(f64, &Vec<char>, f64)> = by_length[length - 1]
            .iter()
            .map(|(run, &last)| {
                let before: f64 = (1..length).map(|n| by_length[n - 1].get(&run[..n]).copied().unwrap_or(-12.0)).sum();
                (before + last, run, last)
            })
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let most = match length {
            1 => 300,
            2 => most / 2,
            _ => most,
        };
        kept[length - 1] = all.into_iter().take(most).map(|(_, run, last)| (key(run), last)).collect();
    }
    Ok(kept)
}

/// Where cargo keeps the crate of a language's counts; that it is there, the dependencies see to.
fn folder(name: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let home = std::env::var("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|_| std::env::var("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    for index in std::fs::read_dir(home.join("registry/src"))? {
        for entry in std::fs::read_dir(index?.path())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("lingua-{name}-language-model-1.3"))) {
                return Ok(path);
            }
        }
    }
    Err(format!("the crate of {name} is not in cargo's registry").into())
}

fn key(run: &[char]) -> u64 {
    run.iter().fold(0, |key, &letter| (key << 21) | letter as u64)
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}
