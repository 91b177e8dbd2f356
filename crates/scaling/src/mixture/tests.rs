use proptest::prelude::*;

use super::*;

fn prior(concentration: f64) -> Prior {
    Prior { natural: vec![0.6, 0.3, 0.1], concentration, most: vec![1.0; 3] }
}

/// Runs on drawn mixtures, with losses from `truth` and noise of this size.
fn runs(count: usize, noise: f64, seed: u64, truth: impl Fn(&[f64]) -> f64) -> Vec<Run> {
    let mut rng = Seed(seed).stream("test", 0);
    let mixtures = prior(4.0).candidates(count, Seed(seed)).unwrap();
    mixtures
        .into_iter()
        .map(|mixture| Run { loss: truth(&mixture) + noise * f64::from(rng.normal()), mixture })
        .collect()
}

fn exponential(mixture: &[f64]) -> f64 {
    2.0 + (0.8 * mixture[0] - 1.5 * mixture[1] + 0.3 * mixture[2]).exp()
}

#[test]
fn known_laws_are_recovered() {
    let linear = |mixture: &[f64]| 3.0 * mixture[0] + 2.5 * mixture[1] + 4.0 * mixture[2];
    let found = fit_law(&runs(12, 0.0, 1, linear), Law::Linear).unwrap();
    for (found, truth) in found.coefficients.iter().zip([3.0, 2.5, 4.0]) {
        assert!((found - truth).abs() < 1e-6, "{found}");
    }
    assert!(found.error < 1e-6 && found.left_out_error < 1e-6 && found.left_out_correlation > 0.999);

    let found = fit(&runs(24, 0.0, 2, exponential)).unwrap();
    assert_eq!(found.law, Law::Exponential);
    assert!((found.floor - 2.0).abs() < 1e-3, "{found:?}");
    for (found, truth) in found.coefficients.iter().zip([0.8, -1.5, 0.3]) {
        assert!((found - truth).abs() < 2e-3, "{found}");
    }
    // What is linear is not taken for curved, nor the other way round, beneath a little noise.
    assert_eq!(fit(&runs(40, 0.003, 3, exponential)).unwrap().law, Law::Exponential);
}

#[test]
fn intervals_hold_what_they_promise() {
    // Over many searches nine of ten trainings on the proposal end within its interval.
    let (mut within, mut good) = (0, 0);
    for seed in 0..100 {
        let observed = runs(24, 0.02, seed, exponential);
        let found = fit(&observed).unwrap();
        let search = Search { draws: 2000, best: 16, resamples: 200 };
        let proposal = propose(&observed, &found, &prior(4.0), search, Seed(seed)).unwrap();
        let noise = 0.02 * f64::from(Seed(seed).stream("to come", 0).normal());
        let truth = exponential(&proposal.mixture);
        within += usize::from((proposal.low..=proposal.high).contains(&(truth + noise)));
        good += usize::from(truth < exponential(&[0.6, 0.3, 0.1]));
        assert!((proposal.mixture.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    assert!((82..=97).contains(&within), "{within} of 100 within");
    assert!(good >= 98, "{good} of 100 proposals are better than the natural mixture");
}

#[test]
fn a_proposal_keeps_to_what_the_sources_have() {
    let observed = runs(24, 0.001, 5, exponential);
    let found = fit(&observed).unwrap();
    let free = propose(&observed, &found, &prior(4.0), Search::default(), Seed(5)).unwrap();
    assert!(free.mixture[1] > 0.8, "{free:?}");
    let bound = Prior { most: vec![1.0, 0.4, 0.5], ..prior(4.0) };
    let kept = propose(&observed, &found, &bound, Search::default(), Seed(5)).unwrap();
    assert!(kept.mixture[1] <= 0.4 && kept.mixture[1] > 0.35 && kept.loss > free.loss, "{kept:?}");
    assert_eq!(kept, propose(&observed, &found, &bound, Search::default(), Seed(5)).unwrap());
    for most in [vec![0.3, 0.3, 0.3], vec![1.0; 2]] {
        let none = Prior { most, ..prior(4.0) };
        assert!(none.candidates(3, Seed(1)).is_err());
    }
}

#[test]
fn draws_have_the_mean_of_their_distribution() {
    for concentration in [0.5, 4.0, 50.0] {
        let prior = prior(concentration);
        let mut rng = Seed(9).stream("draws", 0);
        let mut means = [0.0; 3];
        let mut square = 0.0;
        for _ in 0..20_000 {
            let mixture = prior.draw(&mut rng).unwrap();
            means.iter_mut().zip(&mixture).for_each(|(mean, share)| *mean += share / 20_000.0);
            square += (mixture[0] - 0.6f64).powi(2) / 20_000.0;
        }
        for (mean, natural) in means.iter().zip(&prior.natural) {
            assert!((mean - natural).abs() < 0.015, "{means:?}");
        }
        let variance = 0.6 * 0.4 / (concentration + 1.0);
        assert!((square / variance - 1.0).abs() < 0.06, "{square} {variance}");
    }
}

#[test]
fn runs_that_are_none_are_named() {
    let mut observed = runs(8, 0.0, 1, exponential);
    assert_eq!(fit_law(&observed[..3], Law::Linear), Err(Error::TooFewRuns { runs: 3, parameters: 3 }));
    assert_eq!(fit(&[]), Err(Error::TooFewRuns { runs: 0, parameters: 0 }));
    observed[2].loss = f64::NAN;
    assert!(matches!(fit(&observed), Err(Error::Run { run: 2, .. })));
    observed[2] = Run { mixture: vec![0.5, 0.6, -0.1], loss: 1.0 };
    assert!(matches!(fit(&observed), Err(Error::Run { run: 2, .. })));
    // The same mixture again and again says nothing of others.
    let same = vec![Run { mixture: vec![0.5, 0.5], loss: 1.0 }; 6];
    let found = fit(&same);
    assert!(found.is_err() || found.unwrap().predict(&[0.5, 0.5]) - 1.0 < 1e-6);
}

proptest! {
    #[test]
    fn rank_correlations_see_order_alone(values in prop::collection::vec(-5.0..5.0f64, 2..20)) {
        let cubed: Vec<f64> = values.iter().map(|value| value.powi(3)).collect();
        let turned: Vec<f64> = values.iter().map(|value| -value).collect();
        let distinct = values.iter().any(|value| *value != values[0]);
        if distinct {
            prop_assert!((rank_correlation(&values, &cubed) - 1.0).abs() < 1e-9);
            prop_assert!((rank_correlation(&values, &turned) + 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn any_fit_foretells_finite_losses(losses in prop::collection::vec(0.1..9.0f64, 10), seed in 0..50u64) {
        let mut observed = runs(10, 0.0, seed, |_| 0.0);
        observed.iter_mut().zip(&losses).for_each(|(run, loss)| run.loss = *loss);
        if let Ok(found) = fit(&observed) {
            prop_assert!(found.left_out_error.is_finite());
            for run in &observed {
                prop_assert!(found.predict(&run.mixture).is_finite());
            }
        }
    }
}
