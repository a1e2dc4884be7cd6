//! The statistics against gbstats and the published formulas, as `bench/oracle/experiment.py` wrote them down.

use nearcast_experiment::{
    Alpha, Moments, Result, ShareCheck, Summary,
    sequence::{Asymptotic, DesignSequence, NormalMixture, Unit},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    /// By unit: metric, the same unit's past, requests, hits.
    control: Vec<[f64; 4]>,
    treated: Vec<[f64; 4]>,
    theta: f64,
    asymptotic: Vec<AsymptoticCase>,
    shares: Vec<ShareCase>,
    mixtures: Vec<MixtureCase>,
    designs: Vec<DesignCase>,
}

#[derive(Deserialize)]
struct AsymptoticCase {
    summary: String,
    relative: bool,
    alpha: Alpha,
    units_planned: f64,
    effect: f64,
    variance: f64,
    low: f64,
    high: f64,
    p_value: f64,
}

#[derive(Deserialize)]
struct ShareCase {
    shares: Vec<f64>,
    concentration: f64,
    looks: Vec<Vec<u64>>,
    log_evidence: Vec<f64>,
}

#[derive(Deserialize)]
struct MixtureCase {
    optimum: f64,
    alpha: Alpha,
    variance: f64,
    sum: f64,
    bound: f64,
    log_evidence: f64,
}

#[derive(Deserialize)]
struct DesignCase {
    /// Outcome, and whether it was treated.
    outcomes: Vec<(f64, u8)>,
    share: f64,
    planned: f64,
    alpha: Alpha,
    estimate: f64,
    half_width: f64,
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("data/oracle.json")).expect("the script writes this shape")
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} is not {expected}");
}

fn moments(units: &[[f64; 4]], first: usize, second: usize) -> Moments {
    let mut moments = Moments::default();
    units.iter().for_each(|unit| moments.add(unit[first], unit[second]));
    moments
}

#[test]
fn asymptotic_sequences_of_means_ratios_and_adjusted_means_are_those_of_gbstats() -> Result<()> {
    let oracle = oracle();
    let mut both = moments(&oracle.control, 0, 1);
    both.merge(&moments(&oracle.treated, 0, 1));
    close(both.slope(), oracle.theta);
    let summary = |units: &[[f64; 4]], name: &str| -> Summary {
        match name {
            "mean" => moments(units, 0, 1).mean(),
            "ratio" => moments(units, 3, 2).ratio(),
            _ => moments(units, 0, 1).adjusted(oracle.theta),
        }
    };
    assert_eq!(oracle.asymptotic.len(), 18);
    for case in &oracle.asymptotic {
        let control = summary(&oracle.control, &case.summary);
        let treated = summary(&oracle.treated, &case.summary);
        let estimate = if case.relative { treated.lift_over(&control) } else { treated.less(&control) };
        close(estimate.effect, case.effect);
        close(estimate.variance, case.variance);
        let sequence = Asymptotic::new(case.units_planned, case.alpha)?;
        let interval = sequence.interval(&estimate);
        close(interval.low, case.low);
        close(interval.high, case.high);
        close(sequence.p_value(&estimate, 0.0), case.p_value);
    }
    Ok(())
}

#[test]
fn the_share_check_is_the_published_bayes_factor_at_every_look() -> Result<()> {
    for case in oracle().shares {
        let mut check = ShareCheck::new(&case.shares, case.concentration)?;
        for (counts, expected) in case.looks.iter().zip(&case.log_evidence) {
            check.handle_counts(counts)?;
            close(check.log_evidence(), *expected);
        }
        let most = case.log_evidence.iter().copied().fold(0.0, f64::max);
        close(check.p_value(), (-most).exp());
    }
    Ok(())
}

#[test]
fn the_mixture_is_the_published_boundary() -> Result<()> {
    for case in oracle().mixtures {
        let mixture = NormalMixture::tightest_at(case.optimum, case.alpha)?;
        close(mixture.bound(case.variance, case.alpha), case.bound);
        close(mixture.log_evidence(case.sum, case.variance), case.log_evidence);
    }
    Ok(())
}

/// Without predictions and with all units in one block, nothing is subtracted: the published interval.
#[test]
fn the_design_sequence_without_predictions_is_the_published_interval() -> Result<()> {
    for case in oracle().designs {
        let unit = |(outcome, treated): &(f64, u8)| Unit::of_cell(1.0, *outcome, *treated == 1, case.share, [0.0, 0.0]);
        let units = case.outcomes.iter().map(unit).collect::<Result<Vec<_>>>()?;
        let mut sequence = DesignSequence::new(case.planned, case.alpha)?;
        sequence.handle_block(&units);
        close(sequence.interval().estimate, case.estimate);
        close(sequence.interval().half_width(), case.half_width);
    }
    Ok(())
}
