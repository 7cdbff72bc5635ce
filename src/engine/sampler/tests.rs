//! Ranges of parameters, and the distribution of drawn tokens, compared with an independent calculation in f64 that
//! follows Transformers' warpers.

use super::{Sampler, Sampling, Token};
use std::collections::BTreeSet;

#[test]
fn a_parameter_out_of_range_is_refused() {
    assert!(Sampling::model_card_defaults().check().is_ok());
    assert!(Sampling::greedy().check().is_ok());
    let wrong = [
        Sampling { temperature: f32::NAN, ..Sampling::model_card_defaults() },
        Sampling { temperature: f32::INFINITY, ..Sampling::model_card_defaults() },
        Sampling { temperature: -0.1, ..Sampling::model_card_defaults() },
        Sampling { top_p: 0.0, ..Sampling::model_card_defaults() },
        Sampling { top_p: 1.1, ..Sampling::model_card_defaults() },
        Sampling { min_p: -0.1, ..Sampling::model_card_defaults() },
        Sampling { repeat_penalty: 0.0, ..Sampling::model_card_defaults() },
        Sampling { repeat_penalty: 1e-37, ..Sampling::model_card_defaults() },
        Sampling { repeat_penalty: 1e9, ..Sampling::model_card_defaults() },
        Sampling { repeat_penalty: f32::NAN, ..Sampling::model_card_defaults() },
        Sampling { top_p: f32::NAN, ..Sampling::model_card_defaults() },
        Sampling { min_p: f32::NAN, ..Sampling::model_card_defaults() },
        Sampling { presence_penalty: f32::INFINITY, ..Sampling::model_card_defaults() },
        Sampling { presence_penalty: 2.5, ..Sampling::model_card_defaults() },
        Sampling { frequency_penalty: f32::NAN, ..Sampling::model_card_defaults() },
        Sampling { seed: u32::MAX, ..Sampling::model_card_defaults() },
    ];
    for sampling in wrong {
        assert!(sampling.clone().check().is_err(), "{sampling:?}");
    }
}

/// Returns 400 logits like those of a model: a few are large, most are much smaller. A linear congruential generator
/// makes them the same on every machine.
fn logits() -> Vec<f32> {
    let mut state = 12345_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    (0..400).map(|_| (4.0 * (next() + next() + next() + next() - 2.0)) as f32).collect()
}

/// Returns the probability of every token with Transformers' warpers: temperature, top-k, top-p, min-p.
fn reference(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|logit| f64::from(*logit) / f64::from(sampling.temperature)).collect();
    let mut order: Vec<usize> = (0..scaled.len()).collect();
    order.sort_by(|a, b| scaled[*b].total_cmp(&scaled[*a]));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    let softmax = |kept: &[usize]| -> Vec<f64> {
        let weights: Vec<f64> = kept.iter().map(|i| (scaled[*i] - scaled[kept[0]]).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    };
    if sampling.top_p < 1.0 {
        // A token is kept if the sum of the probabilities before it is less than top_p.
        let (mut before, mut n) = (0.0, 0);
        for p in softmax(&order) {
            if before >= f64::from(sampling.top_p) {
                break;
            }
            before += p;
            n += 1;
        }
        order.truncate(n);
    }
    let first = softmax(&order)[0];
    let n = softmax(&order).iter().filter(|p| **p >= f64::from(sampling.min_p) * first).count();
    order.truncate(n);
    let mut all = vec![0.0; logits.len()];
    for (i, p) in order.iter().zip(softmax(&order)) {
        all[*i] = p;
    }
    all
}

#[test]
fn tokens_are_drawn_from_the_distribution_of_transformers() {
    const DRAWS: u32 = 20_000;
    let logits = logits();
    let neutral =
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7, ..Sampling::model_card_defaults() };
    for (temperature, top_k, top_p, min_p) in [
        (1.0, 0, 1.0, 0.0),
        (0.5, 0, 0.9, 0.0),
        (3.0, 0, 0.5, 0.0),
        (0.7, 50, 0.95, 0.0),
        (2.0, 20, 0.9, 0.3),
        (0.3, 0, 1.0, 0.2),
        (2.5, 0, 0.8, 0.4),
        (0.05, 0, 0.99, 0.0),
    ] {
        let sampling = Sampling { temperature, top_k, top_p, min_p, ..neutral.clone() };
        let expected = reference(&logits, &sampling);
        let mut sampler = Sampler::new(&sampling, &[]);
        let mut counts = vec![0_u32; logits.len()];
        for _ in 0..DRAWS {
            counts[usize::try_from(sampler.choose(&logits).unwrap().0).unwrap()] += 1;
        }
        let support = |used: &dyn Fn(usize) -> bool| (0..logits.len()).filter(|i| used(*i)).collect::<BTreeSet<_>>();
        let drawn = support(&|i| counts[i] > 0);
        let possible = support(&|i| expected[i] > 0.0);
        // Every token with a sufficient probability is drawn, and no token with probability 0.
        let likely = support(&|i| expected[i] * f64::from(DRAWS) > 20.0);
        assert!(likely.is_subset(&drawn) && drawn.is_subset(&possible), "{sampling:?}");
        for i in possible {
            let mean = expected[i] * f64::from(DRAWS);
            let deviation = (mean * (1.0 - expected[i])).sqrt();
            let off = (f64::from(counts[i]) - mean).abs();
            assert!(off <= 5.0 * deviation + 3.0, "{sampling:?}: token {i} came {} times instead of {mean}", counts[i]);
        }
    }
}

#[test]
fn a_tiny_temperature_is_greedy() {
    let logits = logits();
    let best = (0..).zip(&logits).max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| Token::new(id));
    for temperature in [0.0, 1e-45, 1e-40, 1e-38, 1e-10, 9e-6, 1e-5, 1e-3] {
        let mut sampler = Sampler::new(&Sampling { temperature, ..Sampling::model_card_defaults() }, &[]);
        assert_eq!(sampler.choose(&logits), best, "{temperature}");
    }
}

#[test]
fn greedy_takes_the_first_of_equal_logits_and_refuses_nan() {
    let mut greedy = Sampler::new(&Sampling::greedy(), &[]);
    assert_eq!(greedy.choose(&[1.0, 3.0, 2.0, 3.0]), Some(Token::new(1)));
    assert_eq!(greedy.choose(&[1.0, f32::NAN]), None);
    assert_eq!(Sampler::new(&Sampling::model_card_defaults(), &[]).choose(&[f32::NAN, 1.0]), None);
    let penalised = Sampling { presence_penalty: 2.0, ..Sampling::greedy() };
    let mut sampler = Sampler::new(&penalised, &[]);
    let tokens: Vec<_> = (0..4).map(|_| sampler.choose(&[1.0, 3.0, 2.5, 0.5]).map(|token| token.0)).collect();
    assert_eq!(tokens, [Some(1), Some(2), Some(0), Some(1)]);
}

/// The statistic of Pearson's chi-squared test, and its degrees of freedom; tokens expected less than 5 times count as one.
fn chi_squared(counts: &[u32], expected: &[f64]) -> (f64, f64) {
    let (mut statistic, mut bins, mut rest) = (0.0, 0.0, (0.0, 0.0));
    for (count, expected) in counts.iter().map(|count| f64::from(*count)).zip(expected) {
        if *expected < 5.0 {
            rest = (rest.0 + count, rest.1 + expected);
        } else {
            statistic += (count - expected).powi(2) / expected;
            bins += 1.0;
        }
    }
    if rest.1 >= 5.0 {
        statistic += (rest.0 - rest.1).powi(2) / rest.1;
        bins += 1.0;
    }
    (statistic, bins - 1.0)
}

#[test]
fn proposals_do_not_change_the_distribution() {
    const DRAWS: u32 = 20_000;
    let logits = logits();
    // The other model is similar, or has nothing to do with this one.
    let near: Vec<f32> = logits.iter().enumerate().map(|(i, logit)| logit + (i % 7) as f32 * 0.3 - 1.0).collect();
    let far: Vec<f32> = logits.iter().rev().copied().collect();
    let card = Sampling { seed: 7, ..Sampling::model_card_defaults() };
    let penalized = Sampling { presence_penalty: 1.5, repeat_penalty: 1.3, ..card.clone() };
    let wide = Sampling { temperature: 1.2, top_k: 0, top_p: 1.0, min_p: 0.05, ..card.clone() };
    for (sampling, other) in
        [(&card, &near), (&card, &far), (&card, &logits), (&penalized, &near), (&wide, &near), (&wide, &far)]
    {
        let prompt: Vec<Token> = (0..40).map(Token::new).collect();
        let penalized: Vec<f32> = {
            let penalties = super::Penalties::new(sampling, &prompt);
            let mut all = logits.clone();
            penalties.apply(&logits).into_iter().for_each(|(id, logit)| all[id] = logit);
            all
        };
        let expected: Vec<f64> = reference(&penalized, sampling).into_iter().map(|p| p * f64::from(DRAWS)).collect();
        let (mut counts, mut accepted) = (vec![0_u32; logits.len()], 0);
        for seed in 0..DRAWS {
            let mut sampler = Sampler::new(&Sampling { seed, ..sampling.clone() }, &prompt);
            let (proposed, proposal) = sampler.proposer().propose(other, 0.0).unwrap();
            let token = sampler.choose_after(&logits, proposed, &proposal).unwrap();
            accepted += u32::from(token == proposed);
            counts[usize::try_from(token.0).unwrap()] += 1;
        }
        let (statistic, freedom) = chi_squared(&counts, &expected);
        // p = 0.01 (Wilson and Hilferty's approximation).
        let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 2.326 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(statistic < limit, "{sampling:?}: {statistic} with {freedom} degrees of freedom");
        let impossible = counts.iter().zip(&expected).any(|(count, expected)| *count > 0 && *expected == 0.0);
        assert!(!impossible, "{sampling:?}");
        assert!(std::ptr::eq(other, &logits) <= (accepted == DRAWS), "equal models accept everything: {accepted}");
    }
}
