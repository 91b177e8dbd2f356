//! Random shapes of every operation, for as long as there is time.
//!
//! `cargo test` takes the same few of each. `FUZZ_SECONDS=30 cargo test -p kernels --test it random_shapes` takes new ones
//! until the time is up, and `FUZZ_CASE=attention:17` one of them again, as a failure says. A case that ends the process
//! is found in `target/tmp/fuzz-case`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{adamw, attention, cross_entropy, dropout, embedding, gemm, int8, quant, rms_norm, rope, swiglu};

/// A name, and what makes a case from its seed and checks it.
type Operation = (&'static str, fn(u64));

const OPERATIONS: [Operation; 11] = [
    ("gemm", gemm::random),
    ("quant", quant::random),
    ("int8", int8::random),
    ("attention", attention::random),
    ("cross_entropy", cross_entropy::random),
    ("rms_norm", rms_norm::random),
    ("rope", rope::random),
    ("swiglu", swiglu::random),
    ("embedding", embedding::random),
    ("adamw", adamw::random),
    ("dropout", dropout::random),
];

/// Cases of each operation where no time is given.
const FEW: u64 = 8;

fn check(name: &str, operation: fn(u64), seed: u64) {
    let case = format!("{name}:{seed}");
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-case");
    std::fs::write(&note, &case).unwrap();
    if catch_unwind(AssertUnwindSafe(|| operation(seed))).is_err() {
        panic!(
            "the case {case} failed, as said above; to repeat it: \
             FUZZ_CASE={case} cargo test -p kernels --test it random_shapes"
        );
    }
    std::fs::remove_file(note).unwrap();
}

#[test]
fn random_shapes() {
    if let Ok(case) = std::env::var("FUZZ_CASE") {
        let (name, seed) = case.split_once(':').expect("FUZZ_CASE is operation:seed");
        let (_, operation) = OPERATIONS.into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| {
            panic!("there is no operation {name}; there are {:?}", OPERATIONS.map(|(name, _)| name))
        });
        return check(name, operation, seed.parse().expect("the seed is a whole number"));
    }
    let Ok(seconds) = std::env::var("FUZZ_SECONDS") else {
        for (name, operation) in OPERATIONS {
            (0..FEW).for_each(|seed| check(name, operation, seed));
        }
        return;
    };
    let budget = Duration::from_secs_f64(seconds.parse().expect("FUZZ_SECONDS is a number"));
    let first = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as u64;
    // Each operation gets an equal share: the one that had least time comes next.
    let (begin, mut spent, mut cases) =
        (Instant::now(), [Duration::ZERO; OPERATIONS.len()], [0u64; OPERATIONS.len()]);
    while begin.elapsed() < budget {
        let next = (0..OPERATIONS.len()).min_by_key(|&index| spent[index]).unwrap_or(0);
        let (name, operation) = OPERATIONS[next];
        let clock = Instant::now();
        check(name, operation, first + cases[next]);
        spent[next] += clock.elapsed();
        cases[next] += 1;
    }
    #[expect(clippy::print_stdout, reason = "how much was tried is for the person who asked")]
    for ((name, _), cases) in OPERATIONS.iter().zip(cases) {
        println!("{name}: {cases} cases from {first} on");
    }
}
