use super::*;

#[derive(Deserialize)]
struct Golden {
    seed: u64,
    name: String,
    index: u64,
    next_u64: Vec<u64>,
    below_1000: Vec<u64>,
    below_2_63_plus_1: Vec<u64>,
    uniform: Vec<f64>,
    normal: Vec<f32>,
    shuffle_10: Vec<usize>,
}

/// The frozen algorithm, from an independent program (`tests/golden/seed_streams.py`). Were a value to
/// change, no run could be repeated: the code is adjusted to them, never they to the code.
#[test]
fn golden_streams() {
    let cases: Vec<Golden> =
        serde_json::from_str(include_str!("../../tests/data/seed_streams.json")).unwrap();
    for case in &cases {
        let stream = || Seed(case.seed).stream(&case.name, case.index);
        fn check<T: PartialEq + std::fmt::Debug>(mut rng: Rng, expected: &[T], draw: impl Fn(&mut Rng) -> T) {
            let drawn: Vec<T> = expected.iter().map(|_| draw(&mut rng)).collect();
            assert_eq!(drawn, expected);
        }
        check(stream(), &case.next_u64, Rng::next_u64);
        check(stream(), &case.below_1000, |rng| rng.below(1000));
        check(stream(), &case.below_2_63_plus_1, |rng| rng.below((1 << 63) + 1));
        check(stream(), &case.uniform, Rng::uniform);
        check(stream(), &case.normal, Rng::normal);
        let mut items: Vec<usize> = (0..10).collect();
        stream().shuffle(&mut items);
        assert_eq!(items, case.shuffle_10);
        assert_eq!(*stream().pick(&[0, 1, 2, 3]), stream().below(4));
    }
    assert_eq!(cases.len(), 5);
}

#[test]
fn logarithm_agrees_with_the_system() {
    for step in 1..=2000 {
        for x in [f64::from(step) / 2000.0, f64::from(step) * 1e-13, 2f64.powi(-step / 2)] {
            let error = (ln(x) - x.ln()).abs() / x.ln().abs().max(1e-3);
            assert!(error < 4e-16, "ln {x}: {error}");
        }
    }
}

#[test]
fn quantiles_agree_with_tables() {
    // R 4 qnorm, 15 digits.
    for (p, expected) in [
        (0.5, 0.0),
        (0.75, 0.674_489_750_196_082),
        (0.925, 1.439_531_470_938_46),
        (0.975, 1.959_963_984_540_05),
        (0.999, 3.090_232_306_167_81),
        (1e-10, -6.361_340_902_404_06),
        (1e-15, -7.941_345_326_170_997),
    ] {
        assert!((normal_quantile(p) - expected).abs() < 2e-14 * expected.abs().max(1.0), "{p}");
    }
}

#[test]
fn distributions_have_their_moments() {
    let mut rng = Seed(7).stream("moments", 0);
    let count = 200_000;
    let moments = |draws: &[f64]| {
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, variance)
    };
    let normal: Vec<f64> = (0..count).map(|_| f64::from(rng.normal())).collect();
    let (mean, variance) = moments(&normal);
    // Four standard errors of each.
    assert!(mean.abs() < 0.009 && (variance - 1.0).abs() < 0.0127, "{mean} {variance}");
    let beyond = normal.iter().filter(|x| x.abs() > 1.959_964).count() as f64 / f64::from(count);
    assert!((beyond - 0.05).abs() < 0.002, "{beyond}");
    let uniform: Vec<f64> = (0..count).map(|_| rng.uniform()).collect();
    let (mean, variance) = moments(&uniform);
    assert!((mean - 0.5).abs() < 0.0026 && (variance - 1.0 / 12.0).abs() < 0.0007, "{mean} {variance}");
    let mut counts = [0u32; 6];
    (0..60_000).for_each(|_| counts[rng.below(6) as usize] += 1);
    assert!(counts.iter().all(|&n| (9_600..10_400).contains(&n)), "{counts:?}");
}

#[test]
fn shuffling_is_fair_and_streams_differ() {
    let mut counts = std::collections::BTreeMap::new();
    for index in 0..6_000 {
        let mut items = [0, 1, 2];
        Seed(3).stream("shuffle", index).shuffle(&mut items);
        *counts.entry(items).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|&n| (870..1_130).contains(&n)), "{counts:?}");
    let mut nothing: [u8; 0] = [];
    Seed(3).stream("shuffle", 0).shuffle(&mut nothing);
}
