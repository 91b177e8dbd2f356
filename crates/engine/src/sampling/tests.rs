//! The sampler against plain definitions: Meta's top-p written out, penalties by hand, frequencies over many draws.

use proptest::prelude::*;

use super::*;

fn sampler(settings: Sampling) -> Sampler {
    Sampler::new(settings, None, &[], 7)
}

/// `temperature` 1 and nothing cut off, so that the other settings show.
fn plain() -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, seed: Some(1), ..Sampling::default() }
}

fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

/// Share of each token in `draws` draws.
fn shares(settings: Sampling, probabilities: &[f32], draws: usize) -> Vec<f64> {
    let mut sampler = sampler(settings);
    let mut counts = vec![0usize; probabilities.len()];
    for _ in 0..draws {
        counts[sampler.choose(&mut logits_of(probabilities)).unwrap().id as usize] += 1;
    }
    counts.iter().map(|&count| count as f64 / draws as f64).collect()
}

/// Shares after `settings` agree with `expected` within five standard errors; a token expected never is never drawn.
#[track_caller]
fn check(settings: Sampling, probabilities: &[f32], expected: &[f64]) {
    let draws = 20_000;
    for (token, (share, expected)) in shares(settings, probabilities, draws).iter().zip(expected).enumerate()
    {
        let error = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
        assert!(
            (share - expected).abs() <= error,
            "token {token}: drawn {share}, expected {expected} ± {error}"
        );
    }
}

#[test]
fn tokens_are_drawn_with_their_probabilities() {
    let four = [0.1, 0.4, 0.2, 0.3];
    check(plain(), &four, &[0.1, 0.4, 0.2, 0.3]);
    // Squared and renormalised: 0.01, 0.16, 0.04, 0.09 of 0.30.
    check(
        Sampling { temperature: 0.5, ..plain() },
        &four,
        &[1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0],
    );
    check(Sampling { top_k: Some(2), ..plain() }, &four, &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
    check(Sampling { top_k: Some(9), ..plain() }, &four, &[0.1, 0.4, 0.2, 0.3]);
    check(Sampling { min_p: 0.6, ..plain() }, &four, &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
    // 0.4 does not reach 0.5; 0.3 crosses it and stays.
    check(Sampling { top_p: 0.5, ..plain() }, &four, &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
    check(Sampling { top_p: 0.8, ..plain() }, &four, &[0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
    check(Sampling { top_p: 0.0, ..plain() }, &four, &[0.0, 1.0, 0.0, 0.0]);
    // Top-p applies to what top-k leaves: of 4/7 and 3/7 the first alone does not reach 0.5 + 1/14.
    check(Sampling { top_k: Some(2), top_p: 0.5, ..plain() }, &four, &[0.0, 1.0, 0.0, 0.0]);
    check(Sampling { temperature: 1e-6, ..plain() }, &four, &[0.0, 1.0, 0.0, 0.0]);
    check(Sampling::greedy(), &four, &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn greedy_takes_the_first_of_equals() {
    assert_eq!(sampler(Sampling::greedy()).choose(&mut [0.0, 2.0, 2.0, 1.0]).unwrap().id, 1);
}

#[test]
fn penalties_and_bias_change_the_scores_of_their_tokens() {
    let adjusted = |settings: Sampling, prompt: &[u32], answer: &[u32]| {
        let mut sampler = Sampler::new(settings, None, prompt, 0);
        for &token in answer {
            *sampler.seen.entry(token).or_insert(0) += 1;
        }
        let mut logits = [2.0, -2.0, 1.0, 1.0];
        sampler.adjust(&mut logits);
        logits
    };
    let repetition = Sampling { repetition_penalty: 2.0, ..plain() };
    assert_eq!(adjusted(repetition, &[0, 1], &[2, 2]), [1.0, -4.0, 0.5, 1.0]);
    // These two look at the answer alone.
    let presence = Sampling { presence_penalty: 0.5, ..plain() };
    assert_eq!(adjusted(presence, &[0, 1], &[2, 2]), [2.0, -2.0, 0.5, 1.0]);
    let frequency = Sampling { frequency_penalty: 0.5, ..plain() };
    assert_eq!(adjusted(frequency, &[0, 1], &[2, 2]), [2.0, -2.0, 0.0, 1.0]);
    let bias = Sampling { logit_bias: [(3, 5.0), (0, -100.0)].into(), ..plain() };
    assert_eq!(adjusted(bias, &[], &[]), [-98.0, -2.0, 1.0, 6.0]);
}

#[test]
fn a_penalised_token_gives_way_to_the_next() {
    let mut sampler = sampler(Sampling { presence_penalty: 1.5, ..Sampling::greedy() });
    let ids: Vec<u32> = (0..3).map(|_| sampler.choose(&mut [3.0, 2.0, 1.0]).unwrap().id).collect();
    assert_eq!(ids, [0, 1, 0]);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let settings = Sampling { logit_bias: [(0, 100.0)].into(), ..Sampling::greedy() };
    let mut sampler = Sampler::new(settings, Some(2), &[], 0);
    let choice = sampler.choose(&mut logits_of(&[0.1, 0.4, 0.2, 0.3])).unwrap();
    let near = |a: f32, b: f32| (a - b.ln()).abs() < 1e-6;
    assert_eq!(choice.id, 0);
    assert!(near(choice.logprob.unwrap(), 0.1), "{choice:?}");
    let ids: Vec<u32> = choice.alternatives.iter().map(|alternative| alternative.id).collect();
    assert_eq!(ids, [1, 3]);
    assert!(
        near(choice.alternatives[0].logprob, 0.4) && near(choice.alternatives[1].logprob, 0.3),
        "{choice:?}"
    );
}

#[test]
fn scores_that_are_not_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(sampler(plain()).choose(&mut [0.0, bad]).is_err());
    }
    assert!(sampler(plain()).choose(&mut [f32::NEG_INFINITY; 2]).is_err());
    assert_eq!(sampler(plain()).choose(&mut [f32::NEG_INFINITY, 0.0]).unwrap().id, 1);
}

#[test]
fn seeds_and_streams_decide_the_draws() {
    let draws = |seed: Option<u64>, stream: u64, default: u64| -> Vec<u32> {
        let mut sampler = Sampler::new(Sampling { seed, stream, ..plain() }, None, &[], default);
        (0..32).map(|_| sampler.choose(&mut [0.0; 50]).unwrap().id).collect()
    };
    assert_eq!(draws(Some(3), 0, 1), draws(Some(3), 0, 2));
    assert_ne!(draws(Some(3), 0, 1), draws(Some(4), 0, 1));
    assert_ne!(draws(Some(3), 0, 1), draws(Some(3), 1, 1));
    assert_ne!(draws(None, 0, 1), draws(None, 0, 2));
}

#[test]
fn every_fault_is_named() {
    let settings = Sampling {
        temperature: -1.0,
        top_p: 1.5,
        min_p: f32::NAN,
        top_k: Some(0),
        repetition_penalty: 0.0,
        logit_bias: [(10, 0.0), (1, f32::NAN)].into(),
        ..Sampling::default()
    };
    let faults = settings.faults(10).join("\n");
    for name in ["temperature", "top_p", "min_p", "top_k", "repetition_penalty", "token 10", "token 1 "] {
        assert!(faults.contains(name), "{name} is missing in\n{faults}");
    }
    assert_eq!(Sampling::default().faults(10), Vec::<String>::new());
}

/// `sample_top_p` of Meta's `generation.py`, as it stands there: sort, cumulate, drop where `cumsum - p > top_p`.
fn nucleus_by_definition(weights: &[f32], top_p: f64) -> Vec<u32> {
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    order.sort_by(|&a, &b| weights[b as usize].total_cmp(&weights[a as usize]).then(a.cmp(&b)));
    let mut cumulated = 0.0;
    order.retain(|&token| {
        let p = f64::from(weights[token as usize]);
        cumulated += p;
        cumulated - p <= top_p * total
    });
    order
}

proptest! {
    #[test]
    fn the_nucleus_is_metas(
        weights in prop::collection::vec(prop_oneof![0.0f32..1.0, Just(0.25f32), 0.0f32..1e-4], 1..200),
        top_p in 0.0f64..1.0,
    ) {
        let mut weights = weights;
        weights[0] = 1.0;
        let mut candidates: Vec<(u32, f32)> = weights.iter().enumerate().map(|(id, &w)| (id as u32, w)).collect();
        keep_nucleus(&mut candidates, top_p);
        let kept: Vec<u32> = candidates.iter().map(|&(id, _)| id).collect();
        let expected = nucleus_by_definition(&weights, top_p);
        // The totals are added in two orders, so the one token at the crossing may differ by rounding.
        let common = kept.len().min(expected.len());
        prop_assert_eq!(&kept[..common], &expected[..common]);
        prop_assert!(kept.len().abs_diff(expected.len()) <= 1, "{} and {}", kept.len(), expected.len());
    }
}
