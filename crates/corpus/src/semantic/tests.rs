//! Each part beside its plainest form.

use ledger::progress::Silent;
use ledger::seed::{Rng, Seed};
use proptest::prelude::*;

use super::kmeans::Centres;
use super::pairs::{BLOCK, most_similar_before};
use super::prune::{Prune, draw};
use super::store::Store;
use super::*;
use crate::settings::{KeepSimilar, Semantic};
use crate::spill::Sorter;
use ledger::digest::Digest;

/// Vectors around some directions, as rows of length 1.
fn vectors(count: usize, width: usize, directions: usize, spread: f32, seed: u64) -> Vec<f32> {
    let mut rng = Seed(seed).stream("vectors", 0);
    let mut normal = |many: usize| (0..many).map(|_| rng.normal()).collect::<Vec<f32>>();
    let around = normal(directions * width);
    let mut rows = Vec::new();
    for row in 0..count {
        let own = normal(width);
        let centre = &around[row * 7 % directions * width..][..width];
        let sum: Vec<f32> = own.iter().zip(centre).map(|(a, b)| a * spread + b).collect();
        rows.extend(normalised(&sum, None).unwrap());
    }
    rows
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// k-means as a textbook has it, in f64.
fn plain_kmeans(rows: &[f32], width: usize, first: &[usize], rounds: usize) -> Vec<Vec<f64>> {
    let rows: Vec<Vec<f64>> =
        rows.chunks(width).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
    let mut centres: Vec<Vec<f64>> = first.iter().map(|&at| rows[at].clone()).collect();
    for _ in 0..rounds {
        let mut sums = vec![vec![0.0; width]; centres.len()];
        for row in &rows {
            let cosines =
                centres.iter().map(|centre| centre.iter().zip(row).map(|(a, b)| a * b).sum::<f64>());
            let best = cosines.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
            sums[best].iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        for (centre, sum) in centres.iter_mut().zip(sums) {
            let length = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
            *centre = sum.iter().map(|v| v / length).collect();
        }
    }
    centres
}

fn learned(rows: &[f32], width: usize, first: &[usize], rounds: usize) -> (Centres, usize) {
    let mut read = |range: std::ops::Range<usize>, out: &mut [f32]| {
        out.copy_from_slice(&rows[range.start * width..range.end * width]);
        Ok(())
    };
    let mut done = 0;
    let mut round = |number, cosine: f64| {
        assert!((-1.0..=1.0001).contains(&cosine));
        done = number;
        Ok(())
    };
    let learned = Centres::learn((rows.len() / width, width), first, rounds, &mut read, &mut round);
    (learned.unwrap(), done)
}

#[test]
fn centres_are_those_of_plain_k_means() {
    // More rows than a block holds.
    let (count, width) = (10_000, 24);
    let rows = vectors(count, width, 12, 0.3, 1);
    let first: Vec<usize> = (0..12).map(|at| at * 811).collect();
    let (centres, _) = learned(&rows, width, &first, 5);
    for (own, plain) in centres.values().chunks(width).zip(plain_kmeans(&rows, width, &first, 5)) {
        let cosine: f64 = own.iter().zip(&plain).map(|(a, b)| f64::from(*a) * b).sum();
        assert!(cosine > 1.0 - 1e-5, "{cosine}");
    }
    let (_, rounds) = learned(&rows, width, &first, 500);
    assert!(rounds < 500, "it ends where nothing changes");
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (again, _) = pool.install(|| learned(&rows, width, &first, 5));
        assert_eq!(again.values(), centres.values(), "{threads} threads");
    }
}

#[test]
fn a_centre_without_vectors_takes_half_of_the_largest_cluster() {
    let (count, width) = (400, 8);
    let rows = vectors(count, width, 4, 0.2, 2);
    // Three of the four begin at the same place; of equal ones the first takes all.
    let (centres, _) = learned(&rows, width, &[5, 5, 5, 6], 30);
    let mut members = vec![0; 4];
    centres.nearest(&rows).iter().for_each(|(centre, _)| members[*centre as usize] += 1);
    assert!(members.iter().all(|&count| count > 0), "{members:?}");
}

#[test]
fn the_most_similar_before_is_that_of_all_pairs() {
    for (count, width) in [(1, 3), (2, 5), (300, 16), (2 * BLOCK + 77, 8)] {
        let mut rows = vectors(count, width, count.div_ceil(5), 0.1, 3);
        if count > BLOCK {
            // The same vector thrice: the first one is meant.
            let copy = rows[..width].to_vec();
            rows[BLOCK * width..][..width].copy_from_slice(&copy);
            rows[(2 * BLOCK + 5) * width..][..width].copy_from_slice(&copy);
        }
        let run = || {
            let mut read = |range: std::ops::Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&rows[range.start * width..range.end * width]);
                Ok(())
            };
            most_similar_before(count, width, &mut read, &mut || Ok(())).unwrap()
        };
        let found = run();
        assert_eq!((found.len(), found[0]), (count, None));
        let row = |at: usize| &rows[at * width..(at + 1) * width];
        for (at, found) in found.iter().enumerate().skip(1) {
            let (similarity, before) = found.unwrap();
            let best = (0..at).map(|before| cosine(row(at), row(before))).fold(-2.0, f64::max);
            assert!((f64::from(similarity) - best).abs() < 1e-5, "{at}: {similarity} and {best}");
            assert!((cosine(row(at), row(before as usize)) - best).abs() < 1e-5 && (before as usize) < at);
        }
        if count > BLOCK {
            assert_eq!((found[BLOCK].unwrap().1, found[2 * BLOCK + 5].unwrap().1), (0, 0));
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(run), found);
        }
    }
}

fn identity(name: &str) -> Digest {
    Digest::of_bytes(name.as_bytes())
}

#[test]
fn what_is_stored_survives_kills_and_is_another_models_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let rows = vectors(50, 33, 50, 1.0, 4);
    let row = |at: usize| &rows[at * 33..(at + 1) * 33];
    let open = |name: &str| Store::open(folder.path(), identity(name)).unwrap();
    let keys = |store: &Store| {
        let mut keys = Vec::new();
        store
            .keys(|key, number| {
                keys.push((key, number));
                Ok(())
            })
            .unwrap();
        keys
    };
    let mut store = open("a");
    assert_eq!((store.width(), store.len(), keys(&store)), (None, 0, vec![]));
    for at in 0..20 {
        store.append(at as u128 * 3, row(at)).unwrap();
    }
    store.flush().unwrap();
    // A kill: without any ado at the end, and in the middle of a record.
    drop(store);
    let path = folder.path().read_dir().unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let mut store = open("a");
    assert_eq!((store.width(), store.len()), (Some(33), 19));
    for at in 19..50 {
        store.append(at as u128 * 3, row(at)).unwrap();
    }
    store.sync().unwrap();
    assert_eq!(keys(&store), (0..50).map(|at| (at * 3, at as u32)).collect::<Vec<_>>());
    // In any order, neighbours or not.
    let numbers = [7, 8, 9, 3, 49, 0, 1, 1];
    let mut read = vec![0.0; numbers.len() * 33];
    store.read(&numbers, &mut read).unwrap();
    for (read, number) in read.chunks(33).zip(numbers) {
        assert!(cosine(read, row(number as usize)) > 1.0 - 1e-3);
        assert!(read.iter().zip(row(number as usize)).all(|(a, b)| (a - b).abs() <= b.abs() / 1024.0 + 1e-7));
    }

    assert_eq!(open("b").len(), 0);
    // One that was spoiled is not there, the others are.
    let mut bytes = std::fs::read(&path).unwrap();
    let record = (bytes.len() - 84) / 50;
    bytes[84 + 10 * record + 20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let found = keys(&open("a"));
    assert!(found.len() == 49 && found.iter().all(|(key, _)| *key != 30));
    // Of a spoiled head nothing is believed.
    bytes[9] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let mut store = open("a");
    assert_eq!((store.width(), store.len()), (None, 0));
    store.append(1, &rows[..12]).unwrap();
    store.sync().unwrap();
    assert_eq!((open("a").width(), open("a").len()), (Some(12), 1));
}

#[test]
fn only_what_has_a_direction_is_a_vector() {
    let check = |vector: &[f32], width: Option<usize>, wanted: &str| {
        let said = normalised(vector, width).unwrap_err();
        assert!(said.contains(wanted), "{said}");
    };
    check(&[], None, "has 0 numbers where some");
    check(&[1.0, 2.0], Some(3), "has 2 numbers where 3");
    check(&[1.0, f32::NAN], None, "number 2 of its vector is NaN");
    check(&[f32::NEG_INFINITY, 1.0], Some(2), "number 1 of its vector is -inf");
    check(&[0.0, -0.0], Some(2), "all zeros");
    assert_eq!(normalised(&[3.0, 0.0, -4.0], Some(3)).unwrap(), [0.6, 0.0, -0.8]);
    let extreme = normalised(&[f32::MAX, f32::MAX], None).unwrap();
    assert!((cosine(&extreme, &extreme) - 1.0).abs() < 1e-6);
}

/// What goes, by the ordinal, with the identity of what stays; and how many each stands for.
type Found = (Vec<(u64, f32, u128)>, Vec<(u64, u32)>);

fn pruned(rows: &[f32], width: usize, settings: &Semantic, memory: u64) -> Found {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), identity("x")).unwrap();
    let mut placed = Sorter::new(folder.path(), "placed", memory);
    let mut drawn = Sorter::new(folder.path(), "drawn", memory);
    let count = rows.len() / width;
    // The store's order is that of some other day.
    for (number, at) in (0..count).map(|at| at * 7 % count).enumerate() {
        store.append(at as u128, &rows[at * width..(at + 1) * width]).unwrap();
        let bytes = (at * 31 % 17) as u32;
        placed.push((at as u64 * 2, number as u32, (at as u128, bytes))).unwrap();
        drawn.push((draw(at as u128, Seed(9)), at as u64 * 2, number as u32)).unwrap();
    }
    store.flush().unwrap();
    let (folder, go_on) = (folder.path(), &|| Ok(()));
    let prune = Prune { store: &store, settings, folder, memory, progress: &Silent, go_on };
    let found = prune.run(count as u64, placed.finish().unwrap(), drawn.finish().unwrap()).unwrap();
    let gone = found.gone.map(|gone| {
        let (ordinal, similarity, kept) = gone.unwrap();
        (ordinal, f32::from_bits(similarity), kept)
    });
    (gone.collect(), found.stand_for.map(Result::unwrap).collect())
}

/// The paper's rule on one cluster of all, as it says it.
fn plain(rows: &[f32], width: usize, least: f64, order: &[usize]) -> Vec<u64> {
    let row = |at: usize| &rows[at * width..(at + 1) * width];
    let is_gone =
        |place: usize| (0..place).any(|before| cosine(row(order[place]), row(order[before])) >= least);
    let mut gone: Vec<u64> =
        (0..order.len()).filter(|&place| is_gone(place)).map(|place| order[place] as u64 * 2).collect();
    gone.sort_unstable();
    gone
}

#[test]
fn in_one_cluster_the_papers_rule_holds_for_each_choice() {
    // As many as a centre is learned from, so that it is the mean.
    let (count, width) = (256, 16);
    let rows = vectors(count, width, 60, 0.25, 5);
    let mean: Vec<f32> =
        (0..width).map(|column| rows.iter().skip(column).step_by(width).sum::<f32>()).collect();
    let from_mean = |at: usize| cosine(&rows[at * width..(at + 1) * width], &mean);
    let bytes = |at: usize| at * 31 % 17;
    for keep in [KeepSimilar::Farthest, KeepSimilar::Nearest, KeepSimilar::Longest, KeepSimilar::First] {
        let mut order: Vec<usize> = (0..count).collect();
        match keep {
            KeepSimilar::Farthest => order.sort_by(|a, b| from_mean(*a).total_cmp(&from_mean(*b))),
            KeepSimilar::Nearest => order.sort_by(|a, b| from_mean(*b).total_cmp(&from_mean(*a))),
            KeepSimilar::Longest => order.sort_by_key(|&at| std::cmp::Reverse(bytes(at))),
            KeepSimilar::First => {}
        }
        let settings = Semantic { clusters: Some(1), min_similarity: 0.8, keep, ..Semantic::default() };
        let (gone, stand_for) = pruned(&rows, width, &settings, 1 << 30);
        let ordinals: Vec<u64> = gone.iter().map(|gone| gone.0).collect();
        assert!(ordinals.len() > 50);
        assert_eq!(ordinals, plain(&rows, width, 0.8, &order), "{keep:?}");
        // Who stands for others stays, and each that goes is counted once.
        assert_eq!(stand_for.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(), gone.len() as u64);
        assert!(stand_for.iter().all(|(kept, _)| !ordinals.contains(kept)));
        for (_, similarity, kept) in &gone {
            assert!((0.8..=1.0).contains(similarity));
            assert!(stand_for.iter().any(|(ordinal, _)| *ordinal == *kept as u64 * 2));
        }
    }
}

#[test]
fn what_is_the_same_goes_whatever_the_clusters() {
    let width = 12;
    let mut rows = vectors(200, width, 200, 1.0, 6);
    rows.extend(rows[..50 * width].to_vec());
    for clusters in [None, Some(1), Some(40), Some(10_000)] {
        let settings = Semantic { clusters, min_similarity: 0.9999, ..Semantic::default() };
        let (gone, _) = pruned(&rows, width, &settings, 1 << 30);
        assert_eq!(gone.len(), 50, "{clusters:?}");
        assert!(gone.iter().all(|(ordinal, _, kept)| (ordinal / 2) % 200 == *kept as u64 % 200));
    }
}

fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn memory_and_threads_change_nothing(
        count in 1usize..3000,
        clusters in proptest::option::of(1u64..40),
        spread in 0.05f32..1.0,
        (seed, threads, memory) in (0u64..1000, 1usize..4, prop_oneof![Just(0u64), 1_000u64..1_000_000]),
    ) {
        let rows = vectors(count, 10, count.div_ceil(4), spread, seed);
        let settings = Semantic { clusters, min_similarity: 0.9, ..Semantic::default() };
        let whole = in_pool(2, || pruned(&rows, 10, &settings, 1 << 30));
        let other = in_pool(threads, || pruned(&rows, 10, &settings, memory));
        prop_assert!(whole == other);
    }
}

/// Not a test of what is right but of what it takes: `cargo test -p corpus a_million -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes and 2 GB of disk"]
#[allow(clippy::print_stdout)]
fn a_million_embeddings() {
    let (count, width) = (1_000_000usize, 1024);
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), identity("x")).unwrap();
    let mut placed = Sorter::new(folder.path(), "placed", 1 << 28);
    let mut drawn = Sorter::new(folder.path(), "drawn", 1 << 28);
    let mut rng: Rng = Seed(1).stream("million", 0);
    let topics = vectors(500, width, 500, 1.0, 1);
    for at in 0..count {
        // A cheap noise: the same numbers, turned.
        let (topic, turn) = (rng.below(500) as usize, rng.below(width as u64) as usize);
        let noise = &topics[rng.below(500) as usize * width..][..width];
        let own = &topics[topic * width..][..width];
        let row: Vec<f32> =
            own.iter().enumerate().map(|(i, v)| v + 0.7 * noise[(i + turn) % width]).collect();
        store.append(at as u128, &normalised(&row, None).unwrap()).unwrap();
        if at % 4096 == 0 {
            store.flush().unwrap();
        }
        placed.push((at as u64, at as u32, (at as u128, 1))).unwrap();
        drawn.push((draw(at as u128, Seed(9)), at as u64, at as u32)).unwrap();
    }
    store.sync().unwrap();
    let (folder, go_on, settings) = (folder.path(), &|| Ok(()), &Semantic::default());
    struct Timed(std::time::Instant);
    impl ledger::progress::Progress for Timed {
        fn begin(
            &self,
            label: &str,
            _: Option<u64>,
            _: ledger::progress::Unit,
        ) -> Box<dyn ledger::progress::Task> {
            println!("{:6.1} s: {label}", self.0.elapsed().as_secs_f64());
            Box::new(Silent)
        }
        fn note(&self, _: &str) {}
        fn warn(&self, _: &str) {}
    }
    let timed = Timed(std::time::Instant::now());
    let prune = Prune { store: &store, settings, folder, memory: 1 << 30, progress: &timed, go_on };
    let found = prune.run(count as u64, placed.finish().unwrap(), drawn.finish().unwrap()).unwrap();
    println!("{:6.1} s: {} go", timed.0.elapsed().as_secs_f64(), found.gone.count());
}
