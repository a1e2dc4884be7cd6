//! What the placement head knows besides embeddings: the time, and how much was asked for lately.

use std::time::Duration;

use crate::{
    DemandQuery,
    placement::history::{DAILY, DECAYS, HourMoments, MOMENTS, RecentCounts, WEEKLY, waves},
};

/// Number of such features.
pub(super) const EXTRA_COUNT: usize = 2 * DECAYS + REGION_DECAYS + 5 + 1 + (DAILY + WEEKLY) + DAILY;

/// Logs of the decayed counts of the key in the region, of the key and of the region; logs of age and silence; how
/// well the hours of key and region fit the time asked about.
///
/// The hour itself is no feature: a head fitted on a few days would learn those days by heart. It enters through the
/// hours that regions and keys have shown so far, which also serve regions and keys that training never saw.
///
/// Everything is a logarithm, so that the log rate can be any product of powers of counts: a region's share times a
/// key's popularity, a trend as the quotient of a short and a long count.
pub(super) fn extras(query: &DemandQuery) -> [f32; EXTRA_COUNT] {
    let counts = &query.counts;
    // The middle of an hour stands for what is asked within it.
    let waves = waves(query.at.after(MIDDLE));
    let mut features = [0.0; EXTRA_COUNT];
    let values = counts
        .key_region
        .iter()
        .chain(&counts.key)
        .map(|count| log(*count, COUNT_FLOOR))
        .chain(counts.region[..REGION_DECAYS].iter().map(|count| log(*count, 1.0)))
        .chain(silences(counts))
        .chain([log(counts.key_hours[0], 0.1)])
        .chain(affinities::<{ DAILY + WEEKLY }>(&counts.key_hours, &waves))
        .chain(affinities::<DAILY>(&counts.region_hours, &waves));
    features.iter_mut().zip(values).for_each(|(feature, value)| *feature = value);
    features
}

/// Age of the key, silence of the key and of the key in the region, whether the region never asked, and regions asking.
fn silences(counts: &RecentCounts) -> [f32; 5] {
    let quarter_hours = |seconds: f32, most: f32| seconds.max(0.0).min(most) / 900.0;
    let never = counts.key_region_idle_seconds.is_none();
    let region_idle = counts.key_region_idle_seconds.unwrap_or(IDLE_SECONDS_MAX);
    [
        log(quarter_hours(counts.key_age_seconds, f32::MAX), 1.0),
        log(quarter_hours(counts.key_idle_seconds, IDLE_SECONDS_MAX), 0.3),
        log(quarter_hours(region_idle, IDLE_SECONDS_MAX), 0.3),
        f32::from(u8::from(never)),
        f32::from(counts.regions_asking.max(1)).ln(),
    ]
}

/// Per harmonic, the correlation of what was asked with the time asked about, shrunk towards zero for few requests.
fn affinities<const HARMONICS: usize>(moments: &HourMoments, waves: &HourMoments) -> [f32; HARMONICS] {
    const { assert!(2 * HARMONICS < MOMENTS) };
    let scale = 1.0 / (moments[0].max(0.0) + MOMENT_PRIOR);
    std::array::from_fn(|harmonic| {
        let (sine, cosine) = (2 * harmonic + 1, 2 * harmonic + 2);
        scale * (moments[sine] * waves[sine] + moments[cosine] * waves[cosine])
    })
}

fn log(count: f32, floor: f32) -> f32 {
    (count.max(0.0) + floor).ln()
}

/// A region's decayed counts up to a day; over longer ones it is the level of one month that a head would learn.
const REGION_DECAYS: usize = 4;
const MIDDLE: Duration = Duration::from_secs(1_800);
/// Far below one request, so that what has faded can still be told from what never was.
const COUNT_FLOOR: f32 = 0.02;
/// Longer silences are all alike: 60 days.
const IDLE_SECONDS_MAX: f32 = 5_184_000.0;
/// Requests that the prior of even hours is worth.
const MOMENT_PRIOR: f32 = 2.0;
