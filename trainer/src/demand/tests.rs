//! What the sampler and the baselines promise.

use nearcast_datasets::ClientId;

use super::*;
use crate::features::Request;

const QUARTER: Duration = Duration::from_secs(900);
const HOUR: Duration = Duration::from_secs(3_600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn plan(asked_from: i64, end: i64, samples_max: usize, requests: u64) -> DemandPlan {
    DemandPlan {
        asked_from: at(asked_from),
        end: at(end),
        grid: DemandGrid::new(&[QUARTER, HOUR], Duration::ZERO),
        regions: 3,
        samples_max,
        requests,
        newborn_from: at(50_000),
        keys_max: 1_000,
        seed: 1,
    }
}

/// Requests as (second, key, region), by time.
fn samples(plan: DemandPlan, requests: &[(i64, u32, u16)]) -> Vec<DemandSample> {
    let mut sampler = DemandSampler::new(plan);
    for (second, key, region) in requests {
        let (client, key, region) = (ClientId(0), KeyId(*key), RegionId(*region));
        sampler.push(Request { at: at(*second), client, region, key });
    }
    sampler.finish()
}

/// A day and a half of three keys in three regions, of which one never asks, then silence.
fn traffic() -> Vec<(i64, u32, u16)> {
    let mut requests: Vec<(i64, u32, u16)> = (0..130_000_i64)
        .step_by(50)
        .map(|second| (second, (second / 50 % 3) as u32, u16::from(second / 50 % 7 == 0)))
        .collect();
    requests.push((60_001, 9, 0));
    requests.sort_unstable();
    requests
}

#[test]
fn a_grid_spreads_what_the_logs_precision_hides() {
    let fine = DemandGrid::new(&[QUARTER, HOUR], Duration::from_secs(60));
    assert_eq!((fine.step, fine.steps_ahead(), fine.steps_a_day()), (QUARTER, 4, 96));
    assert!(fine.horizons.iter().all(GridHorizon::measurable));
    let coarse = DemandGrid::new(&[QUARTER, HOUR], HOUR);
    assert_eq!((coarse.step, coarse.steps_ahead()), (HOUR, 1));
    let [short, long] = [coarse.horizons[0], coarse.horizons[1]];
    assert!(!short.measurable() && long.measurable());
    assert!((short.share - 0.25).abs() < 1e-6);
    assert_eq!(coarse.align(at(7_199)), at(3_600));
}

#[test]
fn questions_hold_what_came_before_and_answers_what_came_after() {
    let requests = [(100, 1, 0), (3_500, 1, 0), (3_599, 1, 1), (3_600, 1, 0), (4_400, 1, 0), (4_600, 1, 0)];
    let found = samples(plan(3_600, 7_200, 10_000, 3), &requests);
    let asked = |region: u16| found.iter().find(|s| s.at == at(3_600) && s.region == RegionId(region)).unwrap();
    let here = asked(0);
    assert_eq!((here.requests[0], here.requests[1]), (2.0, 3.0), "the instant itself belongs to the horizon");
    assert_eq!((here.last_window[0], here.last_window[1]), (1.0, 2.0));
    assert!((here.counts.key_age_seconds - 3_500.0).abs() < 1.0 && here.counts.regions_asking == 2);
    assert!(found.iter().all(|sample| sample.at == at(3_600)), "later instants have no whole horizon ahead");
    assert!(!here.newborn);
}

#[test]
fn weighted_sums_estimate_those_over_all_cells() {
    let requests = traffic();
    let (from, end) = (90_000, 140_400);
    let asked = requests.iter().filter(|(second, ..)| *second >= from).count() as u64;
    // An instant each quarter of an hour until an hour before the end; four keys in three regions.
    let instants = (end - from - 3_600) / 900 + 1;
    let cells = instants as f64 * 12.0;
    let ahead = |start: i64| requests.iter().filter(|(at, ..)| (start..start + 3_600).contains(at)).count() as f64;
    let answers: f64 = (0..instants).map(|instant| ahead(from + 900 * instant)).sum();
    for (samples_max, draws) in [(400, 40), (100_000, 1)] {
        let drawn =
            (0..draws).map(|seed| samples(DemandPlan { seed, ..plan(from, end, samples_max, asked) }, &requests));
        let drawn: Vec<Vec<DemandSample>> = drawn.collect();
        assert!(drawn.iter().all(|found| found.len() <= samples_max));
        let mean = |of: &dyn Fn(&DemandSample) -> f64| {
            drawn.iter().flatten().map(|sample| f64::from(sample.weight) * of(sample)).sum::<f64>()
                / f64::from(draws as u32)
        };
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.06, "{found} {expected}");
        near(mean(&|_| 1.0), cells);
        near(mean(&|sample| f64::from(sample.requests[1])), answers);
        near(mean(&|sample| f64::from(u8::from(sample.region == RegionId(2)))), cells / 3.0);
        near(mean(&|sample| f64::from(u8::from(sample.newborn))), cells / 4.0);
    }
}

#[test]
fn a_day_ago_is_the_same_window_of_the_day_before() {
    let requests: Vec<(i64, u32, u16)> = vec![(100, 1, 0), (200, 1, 0), (3_700, 1, 0), (86_400 + 50, 1, 0)];
    let found = samples(plan(86_400, 86_400 + 3_600, 1_000, 1), &requests);
    let sample = found.iter().find(|sample| sample.region == RegionId(0)).unwrap();
    assert_eq!((sample.day_ago[0], sample.day_ago[1], sample.last_window[1]), (2.0, 2.0, 0.0));
}

#[test]
fn the_same_seed_draws_the_same_samples() {
    let requests = traffic();
    let draw = |seed| samples(DemandPlan { seed, ..plan(90_000, 140_400, 500, 800) }, &requests);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

fn sample(last: f32, requests: f32) -> DemandSample {
    DemandSample {
        key: KeyId(0),
        region: RegionId(0),
        at: at(0),
        counts: RecentCounts::default(),
        last_window: [last, last, 0.0, 0.0],
        day_ago: PerHorizon::default(),
        requests: [requests; HORIZONS_MAX],
        weight: 2.0,
        newborn: false,
    }
}

#[test]
fn deviance_is_zero_for_a_perfect_forecast_and_matches_the_formula_otherwise() {
    assert!(deviance(3.0, 3.0).abs() < 1e-12);
    // scipy: 2 * (3 * log(3 / 1.5) - (3 - 1.5)) = 1.1588830833596715
    assert!((deviance(3.0, 1.5) - 1.158_883_083_359_671_5).abs() < 1e-9);
    assert!((deviance(0.0, 1.5) - 3.0).abs() < 1e-12);
}

#[test]
fn baselines_get_the_factor_and_the_constant_that_fit_best() {
    let grid = DemandGrid::new(&[QUARTER, HOUR], Duration::ZERO);
    // Half of what was counted comes again, and a quarter of a request out of nothing.
    let rows: Vec<DemandSample> =
        (0..400_u16).map(|n| f32::from(n % 20)).map(|last| sample(last, 0.5 * last + 0.25)).collect();
    let fits = fit_baselines(&rows, &grid);
    assert_eq!(fits.len(), 6);
    let last = fits.iter().find(|fit| fit.name == LAST_WINDOW && fit.horizon_seconds == 3_600).unwrap();
    assert!((last.factor - 0.5).abs() < 0.01 && (last.constant - 0.25).abs() < 0.03, "{last:?}");
    assert!((last.forecast(&sample(4.0, 0.0), 1) - 2.25).abs() < 0.03);
    let average = fits.iter().find(|fit| fit.name == DECAYED_AVERAGE).unwrap();
    assert!(average.half_life_seconds.is_some() && average.forecast(&rows[0], 0) > 0.0);
}
