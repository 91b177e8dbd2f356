//! What adapters cost a model that serves: passes with none, with one for all sequences and with one for each, interleaved.
//!
//!     cargo run --release -p model --example adapters -- MODEL [RANK]
//!
//! MODEL is whatever `alti chat` takes; the adapters are random, of rank 16 by default, on all modules. A line a kind of pass:
//! median milliseconds without adapters, and the medians of the others' ratios to the pass before them without.

// An example is its own command line.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use kernels::gemm::Precision;
use ledger::median;
use ledger::seed::Seed;
use model::infer::{Adapter, Llama, Pages, Scratch, Segment, Wanted};
use model::{AdapterSettings, Adapters, formats};

/// Tokens of a page, as the engine has them.
const PAGE: usize = 64;
/// Sequences of the largest batch.
const MOST: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, rank) = match arguments.as_slice() {
        [path] => (path, 16),
        [path, rank] => (path, rank.parse()?),
        _ => return Err("usage: adapters MODEL [RANK]".into()),
    };
    let llama = Llama::open(&formats::open(Path::new(path))?, Precision::F32, 4096)?;
    let settings = AdapterSettings { rank, ..AdapterSettings::default() };
    let mut rng = Seed(1).stream("adapters", 0);
    let mut random = Adapters::init(llama.config(), &settings, &mut rng)?;
    random.data.iter_mut().for_each(|value| *value = (rng.uniform() as f32 - 0.5) * 0.02);
    // The same values each time: they differ in where they lie, which is what counts.
    let adapters = (0..MOST).map(|_| llama.adapter(&random)).collect::<Result<Vec<_>, _>>()?;
    println!(
        "{:.1} MB an adapter, {:.0} MB of weights",
        megabytes(adapters[0].bytes()),
        megabytes(llama.pass_bytes())
    );

    let mut pages = llama.pages(llama.exact_storage(), PAGE, 16 * MOST);
    let mut scratch = Scratch::default();
    // What came before is the same for all.
    pass(&llama, &mut pages, &mut scratch, (MOST, PAGE), 0, |_| None)?;
    for (sequences, tokens, rounds) in [(1, 1, 40), (MOST, 1, 20), (1, 512, 3)] {
        let mut times: [Vec<f64>; 3] = Default::default();
        for round in 0..=rounds {
            for (kind, times) in times.iter_mut().enumerate() {
                let adapter = |sequence: usize| [None, Some(&adapters[0]), Some(&adapters[sequence])][kind];
                let time = pass(&llama, &mut pages, &mut scratch, (sequences, tokens), PAGE, adapter)?;
                // The first round finds its buffers untouched.
                if round > 0 {
                    times.push(time);
                }
            }
        }
        let ratio = |other: &[f64]| {
            let each = other.iter().zip(&times[0]).map(|(other, without)| other / without);
            median(&each.collect::<Vec<_>>())
        };
        let (one, each) = (ratio(&times[1]), ratio(&times[2]));
        let without = 1e3 * median(&times[0]);
        println!(
            "{sequences} x {tokens} tokens: {without:.2} ms without, one adapter for all {one:.3}, one for each {each:.3}"
        );
    }
    Ok(())
}

/// Seconds of one pass, after the `first` tokens that were read before.
fn pass<'a>(
    llama: &Llama,
    pages: &mut Pages,
    scratch: &mut Scratch,
    (sequences, tokens): (usize, usize),
    first: usize,
    adapter: impl Fn(usize) -> Option<&'a Adapter>,
) -> Result<f64, Box<dyn Error>> {
    let ids: Vec<u32> = (0..tokens as u32).map(|place| 17 + place * 31 % 1000).collect();
    let tables: Vec<Vec<u32>> =
        (0..sequences).map(|sequence| (0..16).map(|page| (16 * sequence + page) as u32).collect()).collect();
    let segments: Vec<Segment> = tables
        .iter()
        .enumerate()
        .map(|(sequence, pages)| Segment {
            tokens: &ids,
            first,
            pages,
            wanted: Wanted::LAST,
            adapter: adapter(sequence),
        })
        .collect();
    let begun = Instant::now();
    // In the pool, as the engine's steps are.
    rayon::scope(|_| llama.forward(pages, &segments, scratch).map(|_| ()))?;
    Ok(begun.elapsed().as_secs_f64())
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
