//! Experiments in which both arms are the same.

use nearcast_experiment::{
    Alpha, CONCENTRATION, Estimate, Moments, ShareCheck, Summary,
    design::{Analysis, Assignment, CellHistory, Claim, Measured, Plan, PlanRequest, plan},
    sequence::Asymptotic,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, Normal};
use std::time::Duration;

const LOOKS: usize = 50;
/// Units of both arms at the last look.
const UNITS: f64 = 10_000.0;

/// One run: whether it raised an alarm at any look.
type Run = fn(&mut ChaCha8Rng) -> bool;

/// Every method with the runs of `count` that raised an alarm, and how many may: all, where it is there to be compared
/// with.
pub(crate) fn all(count: u32, seed: u64) -> Vec<(&'static str, u32, u32)> {
    let methods: [(&'static str, Run, f64); 9] = [
        ("mean, asymptotic sequence", |rng| by_unit(rng, Moments::mean, false), 0.05),
        ("ratio by the delta method, asymptotic sequence", |rng| by_unit(rng, Moments::ratio, false), 0.05),
        ("mean adjusted by history (CUPED), asymptotic sequence", adjusted, 0.05),
        ("mean, tested anew at every look (not to be used)", |rng| by_unit(rng, Moments::mean, true), 1.0),
        ("switchback of 3 pairs, design sequence", |rng| switchback(rng, 6, 50), 0.05),
        ("switchback of 1 pair, design sequence", |rng| switchback(rng, 2, 50), 0.05),
        ("exposure, half and half", |rng| exposure(rng, &[0.5, 0.5]), 0.001),
        ("exposure, one in ten", |rng| exposure(rng, &[0.9, 0.1]), 0.001),
        ("exposure, three arms", |rng| exposure(rng, &[0.5, 0.3, 0.2]), 0.001),
    ];
    let of = |(method, (name, run, bar)): (usize, (&'static str, Run, f64))| {
        let alarms = (0..count).filter(|number| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(((method as u64) << 32) | u64::from(*number));
            run(&mut rng)
        });
        (name, alarms.count() as u32, (f64::from(count) * bar).floor() as u32)
    };
    methods.into_iter().enumerate().map(of).collect()
}

/// Sessions with a skewed number of requests and a hit ratio of their own.
fn by_unit(rng: &mut ChaCha8Rng, summary: fn(&Moments) -> Summary, anew: bool) -> bool {
    let requests = LogNormal::new(2.0, 1.0).expect("finite");
    let mut unit = |rng: &mut ChaCha8Rng| {
        let requests: f64 = requests.sample(rng);
        (requests * rng.random_range(0.2..0.9), requests)
    };
    any_look(rng, &mut unit, |arms| summary(&arms[1]).less(&summary(&arms[0])), anew)
}

/// Units whose past explains most of them.
fn adjusted(rng: &mut ChaCha8Rng) -> bool {
    let normal = Normal::new(0.0, 1.0).expect("finite");
    let mut unit = |rng: &mut ChaCha8Rng| {
        let past: f64 = normal.sample(rng);
        (0.9 * past + 0.4 * normal.sample(rng), past)
    };
    let estimate = |arms: &[Moments; 2]| {
        let mut both = arms[0];
        both.merge(&arms[1]);
        let theta = both.slope();
        arms[1].adjusted(theta).less(&arms[0].adjusted(theta))
    };
    any_look(rng, &mut unit, estimate, false)
}

fn any_look(
    rng: &mut ChaCha8Rng,
    unit: &mut dyn FnMut(&mut ChaCha8Rng) -> (f64, f64),
    estimate: impl Fn(&[Moments; 2]) -> Estimate,
    anew: bool,
) -> bool {
    let sequence = Asymptotic::new(UNITS / 2.0, Alpha::EFFECT).expect("positive");
    let mut arms = [Moments::default(); 2];
    (0..LOOKS).any(|_| {
        for arm in &mut arms {
            for _ in 0..(UNITS as usize / 2 / LOOKS) {
                let (first, second) = unit(rng);
                arm.add(first, second);
            }
        }
        let found = estimate(&arms);
        if anew { found.effect.abs() > 1.96 * found.variance.sqrt() } else { !sequence.interval(&found).covers(0.0) }
    })
}

/// Cells with tides, drift, unequal traffic and shocks, whose blocks are looked at one by one.
fn switchback(rng: &mut ChaCha8Rng, cells: usize, blocks: usize) -> bool {
    const HISTORY: usize = 40;
    let traffic: Vec<f64> = (0..cells).map(|_| rng.random_range(500.0..3_000.0)).collect();
    let levels: Vec<f64> = (0..cells).map(|_| rng.random_range(0.3..0.7)).collect();
    let normal = Normal::new(0.0, 1.0).expect("finite");
    let mut drift = vec![0.0; cells];
    let mut series: Vec<Vec<Measured>> = vec![Vec::new(); cells];
    for block in 0..HISTORY + blocks {
        let tide = 0.1 * (block as f64 / 8.0 * std::f64::consts::TAU).sin() + 0.02 * normal.sample(rng);
        for cell in 0..cells {
            drift[cell] += 0.003 * normal.sample(rng);
            let shock = if rng.random_bool(0.02) { rng.random_range(-0.2..0.2) } else { 0.0 };
            let mean = levels[cell] + tide + drift[cell] + shock + 0.01 * normal.sample(rng);
            series[cell].push(Measured { requests: traffic[cell] * rng.random_range(0.7..1.3), mean });
        }
    }
    let history = |(cell, series): (usize, &Vec<Measured>)| CellHistory {
        name: cell.to_string(),
        blocks: series[..HISTORY].to_vec(),
    };
    let histories: Vec<CellHistory> = series.iter().enumerate().map(history).collect();
    let plan = planned(&histories, blocks, rng.random());
    let mut analysis = Analysis::new(&plan, &histories).expect("cells vary");
    (0..blocks).any(|block| {
        let measured: Vec<_> = series.iter().map(|series| Some(series[HISTORY + block])).collect();
        analysis.handle_block(&plan, &measured);
        !analysis.interval().covers(0.0)
    })
}

fn planned(cells: &[CellHistory], blocks: usize, seed: u64) -> Plan {
    let hour = Duration::from_secs(3_600);
    let request = PlanRequest {
        assignment: Assignment::Cell,
        cells,
        turnover: Some(hour / 3),
        block: None,
        season_blocks: 8,
        start: hour,
        span: hour * 3 * blocks as u32,
        claim: Claim { effect: 1.0, alpha: Alpha::EFFECT, power: 0.8 },
        running: &[],
        seed,
    };
    plan(&request).expect("there is time, and anything would do")
}

fn exposure(rng: &mut ChaCha8Rng, shares: &[f64]) -> bool {
    let mut check = ShareCheck::new(shares, CONCENTRATION).expect("positive");
    (0..LOOKS).any(|_| {
        let mut counts = vec![0; shares.len()];
        for _ in 0..1_000 {
            let mut draw: f64 = rng.random();
            let arm = shares.iter().position(|share| {
                draw -= share;
                draw < 0.0
            });
            counts[arm.unwrap_or(0)] += 1;
        }
        check.handle_counts(&counts).expect("as many as shares");
        check.is_refuted(Alpha::EXPOSURE)
    })
}
