//! Decayed counts of keys by region, and each region's volume by the hour of the day.

use std::time::Duration;

use nearcast_datasets::{KeyId, RegionId, Timestamp};

/// Half-lives of the counts, in seconds: a quarter of an hour, an hour, four hours, a day, a week.
pub const HALF_LIVES_SECONDS: [f64; DECAYS] = [900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0];

pub(super) const DECAYS: usize = 5;

pub(super) type Counts = [f32; DECAYS];

/// What was asked for so far, by key and region. A request costs constant time per region.
#[derive(Clone, Debug)]
pub struct Counted {
    regions: usize,
    first_at: Option<Timestamp>,
    keys: Vec<Option<Box<KeyCounts>>>,
    all: Decayed,
    of_region: Vec<Decayed>,
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug)]
struct KeyCounts {
    first: Timestamp,
    last: Timestamp,
    all: Counts,
    regions: Box<[Counts]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Decayed {
    at: Timestamp,
    counts: Counts,
}

/// A region's requests per hour of the day, the latest days weighing most.
#[derive(Clone, Copy, Debug, Default)]
struct Volume {
    by_hour: [Option<f32>; 24],
    hour: i64,
    so_far: f32,
}

/// A key's counts at an instant.
#[derive(Clone, Debug)]
pub(super) struct KeyView {
    pub(super) age: Duration,
    pub(super) all: Counts,
    pub(super) regions: Vec<Counts>,
}

impl Counted {
    /// Nothing counted yet, for so many regions.
    pub fn new(regions: usize) -> Self {
        Self {
            regions,
            first_at: None,
            keys: Vec::new(),
            all: Decayed::default(),
            of_region: vec![Decayed::default(); regions],
            volumes: vec![Volume::default(); regions],
        }
    }

    /// Counts one request; requests of regions beyond the known ones are left out.
    pub fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId) {
        let (region, slot) = (usize::from(region.0), key.0 as usize);
        if region >= self.regions {
            return;
        }
        self.first_at.get_or_insert(now);
        self.all.add(now);
        self.of_region[region].add(now);
        self.volumes[region].add(now);
        if self.keys.len() <= slot {
            self.keys.resize(slot + 1, None);
        }
        let regions = self.regions;
        let new = || {
            let regions = vec![Counts::default(); regions].into_boxed_slice();
            Box::new(KeyCounts { first: now, last: now, all: Counts::default(), regions })
        };
        let counts = self.keys[slot].get_or_insert_with(new);
        let decay = decay(now, counts.last);
        counts.last = counts.last.max(now);
        for of in counts.regions.iter_mut().chain([&mut counts.all]) {
            of.iter_mut().zip(&decay).for_each(|(count, factor)| *count *= factor);
        }
        for of in [&mut counts.all, &mut counts.regions[region]] {
            of.iter_mut().for_each(|count| *count += 1.0);
        }
    }

    /// Forgets a key whose number is about to be given to another.
    pub fn forget(&mut self, key: KeyId) {
        if let Some(counts) = self.keys.get_mut(key.0 as usize) {
            *counts = None;
        }
    }

    pub(super) fn view(&self, now: Timestamp, key: KeyId) -> Option<KeyView> {
        let counts = self.keys.get(key.0 as usize)?.as_ref()?;
        let decay = decay(now, counts.last);
        let at = |of: &Counts| std::array::from_fn(|place| of[place] * decay[place]);
        let (all, regions) = (at(&counts.all), counts.regions.iter().map(at).collect());
        Some(KeyView { age: now.since(counts.first), all, regions })
    }

    /// Requests for all keys in all regions, and by region.
    pub(super) fn totals(&self, now: Timestamp) -> (Counts, Vec<Counts>) {
        (self.all.at(now), self.of_region.iter().map(|region| region.at(now)).collect())
    }

    /// By half-life, what turns a decayed count at `now` into requests per second. Right after the start too, when a
    /// count has not yet had time to fill.
    pub(super) fn per_second(&self, now: Timestamp) -> Counts {
        let age = self.first_at.map_or(0.0, |first| now.since(first).as_secs_f64()).max(60.0);
        HALF_LIVES_SECONDS
            .map(|half_life| (std::f64::consts::LN_2 / half_life / (1.0 - (-age / half_life).exp2())) as f32)
    }

    /// Requests expected of a region within `horizon` from `now` on: those of the last hour, more or fewer as the
    /// hours of the days before were.
    pub(super) fn volume(&self, now: Timestamp, region: usize, horizon: Duration) -> f32 {
        let seconds = horizon.as_secs_f64();
        let lately = self.of_region[region].at(now)[HOUR] * self.per_second(now)[HOUR];
        let by_hour = &self.volumes[region].by_hour;
        let of = |at: Timestamp| by_hour[hour(at).rem_euclid(24) as usize];
        let coming = of(now.after(Duration::from_secs_f64(seconds.min(86_400.0) / 2.0)));
        let ratio = match (of(now.before(Duration::from_secs(2_700))), coming) {
            (Some(before), Some(coming)) if seconds < 43_200.0 => ((coming + 1.0) / (before + 1.0)).clamp(0.2, 5.0),
            _ => 1.0,
        };
        lately * ratio * seconds as f32
    }
}

impl Decayed {
    fn add(&mut self, now: Timestamp) {
        self.counts = self.at(now).map(|count| count + 1.0);
        self.at = self.at.max(now);
    }

    fn at(&self, now: Timestamp) -> Counts {
        let decay = decay(now, self.at);
        std::array::from_fn(|place| self.counts[place] * decay[place])
    }
}

impl Volume {
    fn add(&mut self, now: Timestamp) {
        let hour = hour(now);
        if hour != self.hour {
            // Hours without a request count as such, up to a day of them.
            let silent = (hour - self.hour).clamp(0, 24);
            if self.so_far > 0.0 {
                self.end(self.hour, self.so_far);
                (1..silent).for_each(|later| self.end(self.hour + later, 0.0));
            }
            (self.hour, self.so_far) = (hour, 0.0);
        }
        self.so_far += 1.0;
    }

    fn end(&mut self, hour: i64, requests: f32) {
        let slot = &mut self.by_hour[hour.rem_euclid(24) as usize];
        *slot = Some(slot.map_or(requests, |known| 0.5 * (known + requests)));
    }
}

fn decay(now: Timestamp, then: Timestamp) -> Counts {
    let age = now.since(then).as_secs_f64();
    if age <= 0.0 {
        return [1.0; DECAYS];
    }
    HALF_LIVES_SECONDS.map(|half_life| (-age / half_life).exp2() as f32)
}

fn hour(at: Timestamp) -> i64 {
    at.micros().div_euclid(3_600_000_000)
}

const HOUR: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn counts_halve_and_early_rates_are_not_too_low() {
        let mut counted = Counted::new(2);
        for second in 0..600 {
            counted.record(at(second), KeyId(3), RegionId(0));
        }
        let view = counted.view(at(600), KeyId(3)).unwrap();
        let per_second = counted.per_second(at(600));
        for (count, per_second) in view.regions[0].iter().zip(per_second) {
            let rate = count * per_second;
            assert!((rate - 1.0).abs() < 0.01, "{rate}");
        }
        let later = counted.view(at(600 + 3_600), KeyId(3)).unwrap();
        assert!((later.all[1] / view.all[1] - 0.5).abs() < 1e-3);
        assert!(counted.view(at(0), KeyId(2)).is_none());
    }

    #[test]
    fn volumes_follow_the_hour_of_the_day_before() {
        let mut counted = Counted::new(1);
        let mut second = 0;
        while second < 86_400 + 8 * 3_600 {
            counted.record(at(second), KeyId(0), RegionId(0));
            second += if second / 3_600 % 24 == 8 { 4 } else { 40 };
        }
        let (calm, rush) = (90.0, counted.volume(at(86_400 + 8 * 3_600), 0, Duration::from_secs(3_600)));
        assert!(rush > 4.0 * calm, "{rush}");
    }
}
