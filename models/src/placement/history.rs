//! Demand history: what was counted of keys and regions so far, updated and read in constant time per request.
//!
//! This is the one definition of the placement head's counts: training walks a log with it, serving keeps it online.

use lru::LruCache;
use nearcast_datasets::{KeyId, RegionId, Timestamp};
use serde::{Deserialize, Serialize};

/// Half-lives of the decayed counts, in seconds: a quarter of an hour, an hour, four hours, a day, a week, thirty days.
pub const HALF_LIVES_SECONDS: [f64; DECAYS] = [900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0, 2_592_000.0];

/// Number of decayed counts of one thing.
pub const DECAYS: usize = 6;

/// Number of [`HourMoments`]: the count, sine and cosine of three daily and two weekly harmonics.
pub const MOMENTS: usize = 1 + 2 * (DAILY + WEEKLY);

/// Harmonics of the day.
pub(super) const DAILY: usize = 3;
/// Harmonics of the week.
pub(super) const WEEKLY: usize = 2;

/// Requests counted with each of the [`HALF_LIVES_SECONDS`].
pub type DecayedCounts = [f32; DECAYS];

/// At what times of day and week something was asked for: Fourier moments of its requests, the count first. They give
/// a smooth density over the day and the week in constant space, whatever the time zone.
pub type HourMoments = [f32; MOMENTS];

/// What was counted before some instant of one key, one region, and the key in the region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentCounts {
    /// Requests for the key in the region.
    pub key_region: DecayedCounts,
    /// Requests for the key in all regions.
    pub key: DecayedCounts,
    /// Requests for all keys in the region.
    pub region: DecayedCounts,
    /// When the key is asked for, in all regions.
    pub key_hours: HourMoments,
    /// When the region asks.
    pub region_hours: HourMoments,
    /// Seconds since the first request for the key.
    pub key_age_seconds: f32,
    /// Seconds since the last request for the key in any region.
    pub key_idle_seconds: f32,
    /// Seconds since the last request for the key in the region; `None` when there was none.
    pub key_region_idle_seconds: Option<f32>,
    /// Regions that have asked for the key.
    pub regions_asking: u16,
}

/// Decayed counts of keys, regions and keys in regions.
///
/// A request costs constant time whatever the number of keys. A key takes about 100 bytes and 40 per region that asks
/// for it; beyond `keys_max` keys the one longest not asked for is forgotten and counted in
/// [`keys_forgotten`](Self::keys_forgotten).
#[derive(Clone, Debug)]
pub struct DemandHistory {
    keys: LruCache<KeyId, KeyHistory>,
    keys_max: usize,
    keys_forgotten: u64,
    regions: Vec<RegionHistory>,
}

impl DemandHistory {
    /// A history of nothing yet, bounded to `keys_max` keys (at least one).
    pub fn new(keys_max: usize) -> Self {
        Self { keys: LruCache::unbounded(), keys_max: keys_max.max(1), keys_forgotten: 0, regions: Vec::new() }
    }

    /// Counts one request; `now` never runs backwards. Returns whether the key is new.
    pub fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId) -> bool {
        let index = usize::from(region.0);
        if self.regions.len() <= index {
            self.regions.resize(index + 1, RegionHistory::default());
        }
        let waves = waves(now);
        let of_region = &mut self.regions[index];
        of_region.counts.add(now);
        of_region.hours.add(now, &waves, REGION_HOURS_SECONDS);
        let new = !self.keys.contains(&key);
        if new && self.keys.len() >= self.keys_max {
            self.keys.pop_lru();
            self.keys_forgotten += 1;
        }
        let of_key = self.keys.get_or_insert_mut(key, || KeyHistory::new(now));
        of_key.counts.add(now);
        of_key.hours.add(now, &waves, KEY_HOURS_SECONDS);
        match of_key.regions.iter_mut().find(|(asking, _)| *asking == region) {
            Some((_, counts)) => counts.add(now),
            None => of_key.regions.push((region, Decayed { at: now, counts: [1.0; DECAYS] })),
        }
        new
    }

    /// What is known at `now` of `key` in `region`; `None` for keys without a history.
    pub fn counts(&self, now: Timestamp, key: KeyId, region: RegionId) -> Option<RecentCounts> {
        let of_key = self.keys.peek(&key)?;
        let seconds = |since: Timestamp| now.since(since).as_secs_f64() as f32;
        let pair = of_key.regions.iter().find(|(asking, _)| *asking == region).map(|(_, counts)| counts);
        let of_region = self.regions.get(usize::from(region.0)).copied().unwrap_or_default();
        Some(RecentCounts {
            key_region: pair.map_or([0.0; DECAYS], |counts| counts.at(now)),
            key: of_key.counts.at(now),
            region: of_region.counts.at(now),
            key_hours: of_key.hours.at(now, KEY_HOURS_SECONDS),
            region_hours: of_region.hours.at(now, REGION_HOURS_SECONDS),
            key_age_seconds: seconds(of_key.first),
            key_idle_seconds: seconds(of_key.counts.at),
            key_region_idle_seconds: pair.map(|counts| seconds(counts.at)),
            regions_asking: u16::try_from(of_key.regions.len()).unwrap_or(u16::MAX),
        })
    }

    /// When `key` was first asked for, as far as the history remembers.
    pub fn first_request(&self, key: KeyId) -> Option<Timestamp> {
        self.keys.peek(&key).map(|history| history.first)
    }

    /// Forgets a key, for when its number is about to be given to another key.
    pub fn forget(&mut self, key: KeyId) {
        self.keys.pop(&key);
    }

    /// Keys that made room because the bound was reached.
    pub fn keys_forgotten(&self) -> u64 {
        self.keys_forgotten
    }
}

/// Counts decayed to `at`, the instant of the last request.
#[derive(Clone, Copy, Debug, Default)]
struct Decayed {
    at: Timestamp,
    counts: DecayedCounts,
}

impl Decayed {
    fn add(&mut self, now: Timestamp) {
        self.counts = self.at(now);
        self.counts.iter_mut().for_each(|count| *count += 1.0);
        self.at = self.at.max(now);
    }

    fn at(&self, now: Timestamp) -> DecayedCounts {
        let age = now.since(self.at).as_secs_f64();
        std::array::from_fn(|place| self.counts[place] * (-age / HALF_LIVES_SECONDS[place]).exp2() as f32)
    }
}

/// Moments decayed to `at`, the instant of the last request.
#[derive(Clone, Copy, Debug, Default)]
struct Hours {
    at: Timestamp,
    moments: HourMoments,
}

impl Hours {
    fn add(&mut self, now: Timestamp, waves: &HourMoments, half_life_seconds: f64) {
        self.moments = self.at(now, half_life_seconds);
        self.moments.iter_mut().zip(waves).for_each(|(moment, wave)| *moment += wave);
        self.at = self.at.max(now);
    }

    fn at(&self, now: Timestamp, half_life_seconds: f64) -> HourMoments {
        let decay = (-now.since(self.at).as_secs_f64() / half_life_seconds).exp2() as f32;
        self.moments.map(|moment| decay * moment)
    }
}

#[derive(Clone, Debug)]
struct KeyHistory {
    first: Timestamp,
    counts: Decayed,
    hours: Hours,
    /// In the order of their first request: few regions ask for most keys.
    regions: Vec<(RegionId, Decayed)>,
}

impl KeyHistory {
    fn new(now: Timestamp) -> Self {
        Self { first: now, counts: Decayed::default(), hours: Hours::default(), regions: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct RegionHistory {
    counts: Decayed,
    hours: Hours,
}

/// One, then sine and cosine of each harmonic of the day and the week at an instant.
pub(super) fn waves(at: Timestamp) -> HourMoments {
    let mut waves = [1.0; MOMENTS];
    let daily = (1..=DAILY).map(|harmonic| (harmonic, DAY_MICROS));
    let weekly = (1..=WEEKLY).map(|harmonic| (harmonic, 7 * DAY_MICROS));
    for (pair, (harmonic, period)) in waves[1..].as_chunks_mut::<2>().0.iter_mut().zip(daily.chain(weekly)) {
        let angle = at.micros().rem_euclid(period) as f64 / period as f64 * std::f64::consts::TAU;
        let (sine, cosine) = (angle * harmonic as f64).sin_cos();
        *pair = [sine as f32, cosine as f32];
    }
    waves
}

const DAY_MICROS: i64 = 86_400_000_000;
/// Habits last: half-life of a key's hours, 120 days.
const KEY_HOURS_SECONDS: f64 = 10_368_000.0;
/// Half-life of a region's hours, thirty days.
const REGION_HOURS_SECONDS: f64 = 2_592_000.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_secs(seconds))
    }

    #[test]
    fn counts_halve_per_half_life_and_only_regions_that_asked_have_their_own() {
        let mut history = DemandHistory::new(10);
        assert!(history.record(at(0), KeyId(1), RegionId(0)));
        assert!(!history.record(at(3_600), KeyId(1), RegionId(1)));
        history.record(at(3_600), KeyId(2), RegionId(0));
        let counts = history.counts(at(7_200), KeyId(1), RegionId(0)).unwrap();
        let near = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        near(counts.key_region[1], 0.25);
        near(counts.key[1], 0.75);
        near(counts.region[1], 0.75);
        near(counts.key_region[0], 1.0 / 256.0);
        assert_eq!((counts.key_age_seconds, counts.key_idle_seconds), (7_200.0, 3_600.0));
        assert_eq!((counts.key_region_idle_seconds, counts.regions_asking), (Some(7_200.0), 2));
        let elsewhere = history.counts(at(7_200), KeyId(1), RegionId(7)).unwrap();
        assert_eq!((elsewhere.key_region, elsewhere.region), ([0.0; DECAYS], [0.0; DECAYS]));
        assert_eq!(elsewhere.key_region_idle_seconds, None);
        assert!(history.counts(at(7_200), KeyId(3), RegionId(0)).is_none());
    }

    #[test]
    fn moments_tell_a_morning_key_from_an_evening_key() {
        let mut history = DemandHistory::new(10);
        for day in 0..20 {
            history.record(at(86_400 * day + 8 * 3_600), KeyId(1), RegionId(0));
            history.record(at(86_400 * day + 20 * 3_600), KeyId(2), RegionId(0));
        }
        let affinity = |key, hour: u64| {
            let when = at(86_400 * 20 + hour * 3_600);
            let moments = history.counts(when, KeyId(key), RegionId(0)).unwrap().key_hours;
            let waves = waves(when);
            (moments[1] * waves[1] + moments[2] * waves[2]) / moments[0]
        };
        assert!(affinity(1, 8) > 0.99 && affinity(1, 20) < -0.99);
        assert!(affinity(2, 20) > 0.99 && affinity(2, 8) < -0.99);
    }

    #[test]
    fn beyond_the_bound_the_key_longest_not_asked_for_is_forgotten() {
        let mut history = DemandHistory::new(2);
        for (second, key) in [(0, 1), (1, 2), (2, 1)] {
            history.record(at(second), KeyId(key), RegionId(0));
        }
        assert_eq!(history.keys_forgotten(), 0, "two of two places are no overflow");
        history.record(at(3), KeyId(3), RegionId(0));
        assert_eq!(history.keys_forgotten(), 1);
        assert!(history.counts(at(3), KeyId(2), RegionId(0)).is_none());
        assert_eq!(history.first_request(KeyId(1)), Some(at(0)));
        history.forget(KeyId(1));
        assert!(history.record(at(4), KeyId(1), RegionId(0)), "its number starts anew");
    }
}
