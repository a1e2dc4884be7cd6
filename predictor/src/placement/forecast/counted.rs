//! Decayed counts of keys by region and by the part of the day, and each region's volume by the hour of the day.
//!
//! Regions in different time zones ask for the same things at the same local time. Nobody tells their time zones, but
//! their volumes do: a region's day is taken to begin at the peak of its volume's first harmonic, and parts of the day
//! are counted from there, so that what one region asks for in its evening is known when another's evening comes.

use std::time::Duration;

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use serde::{Deserialize, Serialize};

use super::saved::{SavedCounts, SavedKey};

/// Half-lives of the counts, in seconds: a quarter of an hour, an hour, four hours, a day, a week, six weeks, a year.
pub const HALF_LIVES_SECONDS: [f64; DECAYS] =
    [900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0, 3_628_800.0, 31_536_000.0];

pub(super) const DECAYS: usize = 7;

/// Parts of the day, two hours each.
pub(super) const DAYPARTS: usize = 12;

pub(super) type Counts = [f32; DECAYS];

/// What was asked for so far, by key and region. A request costs constant time per region.
#[derive(Clone, Debug)]
pub struct Counted {
    regions: usize,
    first_at: Option<Timestamp>,
    keys: Vec<Option<Box<KeyCounts>>>,
    all: Decayed,
    of_region: Vec<Decayed>,
    of_daypart: [f32; DAYPARTS],
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug)]
struct KeyCounts {
    first: Timestamp,
    last: Timestamp,
    all: Counts,
    /// Of all regions together, by the part of the day that each was in.
    dayparts: [f32; DAYPARTS],
    regions: Box<[Counts]>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Decayed {
    at: Timestamp,
    counts: Counts,
}

/// A region's requests per hour of the day, the latest days weighing most.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Volume {
    by_hour: [Option<f32>; 24],
    hour: i64,
    so_far: f32,
    /// The hour, UTC, of the peak.
    peak_hour: f32,
}

/// A key's counts at an instant.
#[derive(Clone, Debug)]
pub(super) struct KeyView {
    pub(super) age: Duration,
    pub(super) all: Counts,
    pub(super) dayparts: [f32; DAYPARTS],
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
            of_daypart: [0.0; DAYPARTS],
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
        let faded = decay(now, self.all.at)[WEEK];
        self.all.add(now);
        self.of_region[region].add(now);
        self.volumes[region].add(now);
        let daypart = self.volumes[region].daypart(now);
        self.of_daypart.iter_mut().for_each(|count| *count *= faded);
        self.of_daypart[daypart] += 1.0;
        if self.keys.len() <= slot {
            self.keys.resize(slot + 1, None);
        }
        let regions = self.regions;
        let new = || {
            let regions = vec![Counts::default(); regions].into_boxed_slice();
            let dayparts = [0.0; DAYPARTS];
            Box::new(KeyCounts { first: now, last: now, all: Counts::default(), dayparts, regions })
        };
        let counts = self.keys[slot].get_or_insert_with(new);
        let decay = decay(now, counts.last);
        counts.last = counts.last.max(now);
        for of in counts.regions.iter_mut().chain([&mut counts.all]) {
            of.iter_mut().zip(&decay).for_each(|(count, factor)| *count *= factor);
        }
        counts.dayparts.iter_mut().for_each(|count| *count *= decay[WEEK]);
        counts.dayparts[daypart] += 1.0;
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

    pub(super) fn save(&self) -> SavedCounts {
        let of = |(slot, counts): (usize, &Option<Box<KeyCounts>>)| {
            let counts = counts.as_ref()?;
            let regions = (0..).zip(counts.regions.iter().copied());
            let regions = regions.filter(|(_, counts)| counts.iter().any(|count| *count > 0.0)).collect();
            let KeyCounts { first, last, all, dayparts, .. } = **counts;
            Some((KeyId(slot as u32), SavedKey { first, last, all, dayparts, regions }))
        };
        SavedCounts {
            first_at: self.first_at,
            keys: self.keys.iter().enumerate().filter_map(of).collect(),
            all: self.all,
            of_region: self.of_region.clone(),
            of_daypart: self.of_daypart,
            volumes: self.volumes.clone(),
        }
    }

    /// Goes on from other counts; those for another number of regions are left.
    pub(super) fn restore(&mut self, saved: SavedCounts) {
        if saved.of_region.len() != self.regions || saved.volumes.len() != self.regions {
            return;
        }
        self.keys.clear();
        for (key, SavedKey { first, last, all, dayparts, regions: sparse }) in saved.keys {
            let slot = key.0 as usize;
            if self.keys.len() <= slot {
                self.keys.resize(slot + 1, None);
            }
            let mut regions = vec![Counts::default(); self.regions].into_boxed_slice();
            for (region, counts) in sparse {
                regions.get_mut(usize::from(region)).into_iter().for_each(|own| *own = counts);
            }
            self.keys[slot] = Some(Box::new(KeyCounts { first, last, all, dayparts, regions }));
        }
        (self.first_at, self.all, self.of_region) = (saved.first_at, saved.all, saved.of_region);
        (self.of_daypart, self.volumes) = (saved.of_daypart, saved.volumes);
    }

    pub(super) fn view(&self, now: Timestamp, key: KeyId) -> Option<KeyView> {
        let counts = self.keys.get(key.0 as usize)?.as_ref()?;
        let decay = decay(now, counts.last);
        let at = |of: &Counts| std::array::from_fn(|place| of[place] * decay[place]);
        let (all, regions) = (at(&counts.all), counts.regions.iter().map(at).collect());
        let dayparts = counts.dayparts.map(|count| count * decay[WEEK]);
        Some(KeyView { age: now.since(counts.first), all, dayparts, regions })
    }

    /// Adds a share of what a key was asked for lately, by region: of its count over an hour.
    pub(super) fn add_lately(&self, now: Timestamp, key: KeyId, share: f32, to: &mut [f32]) {
        let Some(counts) = self.keys.get(key.0 as usize).and_then(Option::as_ref) else { return };
        let share = share * decay(now, counts.last)[HOUR];
        to.iter_mut().zip(&counts.regions).for_each(|(to, counts)| *to += share * counts[HOUR]);
    }

    /// Requests for all keys in the part of the day that a region will be in at `at`, and which part that is; none before
    /// a day was seen.
    pub(super) fn daypart(&self, now: Timestamp, at: Timestamp, region: usize) -> Option<(usize, f32)> {
        let is_known = self.first_at.is_some_and(|first| now.since(first) >= DAY);
        let daypart = is_known.then(|| self.volumes[region].daypart(at))?;
        Some((daypart, self.of_daypart[daypart] * decay(now, self.all.at)[WEEK]))
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

    /// Requests expected of a region within `horizon` from `later` after `now` on: those of the last hour, more or fewer
    /// as the hours of the days before were.
    pub(super) fn volume(&self, now: Timestamp, region: usize, later: Duration, horizon: Duration) -> f32 {
        let seconds = horizon.as_secs_f64();
        let lately = self.of_region[region].at(now)[HOUR] * self.per_second(now)[HOUR];
        let by_hour = &self.volumes[region].by_hour;
        let of = |at: Timestamp| by_hour[hour(at).rem_euclid(24) as usize];
        let coming = of(now.after(later + Duration::from_secs_f64(seconds.min(86_400.0) / 2.0)));
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
        let (mut along, mut across) = (0.0, 0.0);
        for (hour, requests) in self.by_hour.iter().enumerate() {
            let angle = std::f32::consts::TAU * (hour as f32 + 0.5) / 24.0;
            along += requests.unwrap_or(0.0) * angle.cos();
            across += requests.unwrap_or(0.0) * angle.sin();
        }
        self.peak_hour = across.atan2(along) / std::f32::consts::TAU * 24.0;
    }

    /// The part of the day, counted from the peak.
    fn daypart(&self, at: Timestamp) -> usize {
        let hours = (at.micros().rem_euclid(86_400_000_000) as f64 / 3_600e6) as f32;
        let since_peak = (hours - self.peak_hour).rem_euclid(24.0);
        ((since_peak * DAYPARTS as f32 / 24.0) as usize).min(DAYPARTS - 1)
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

pub(super) const HOUR: usize = 1;
const WEEK: usize = 4;
const DAY: Duration = Duration::from_secs(86_400);

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
    fn what_one_evening_brings_is_known_when_another_evening_comes() {
        // Region 1 lives eight hours after region 0; key 1 is for the evening, key 0 for all other hours.
        let mut counted = Counted::new(2);
        for minute in 0..3 * 24 * 60 {
            for region in 0..2_i64 {
                let local_hour = (minute / 60 - 8 * region).rem_euclid(24);
                let is_evening = (18..22).contains(&local_hour);
                let requests = if is_evening { 6 } else { 2 };
                (0..requests).for_each(|_| {
                    counted.record(at(60 * minute), KeyId(u32::from(is_evening)), RegionId(region as u16));
                });
            }
        }
        let now = at(3 * 86_400);
        let view = counted.view(now, KeyId(1)).unwrap();
        let share = |hour: i64, region| {
            let (daypart, all) = counted.daypart(now, at(3 * 86_400 + 3_600 * hour), region).unwrap();
            view.dayparts[daypart] / all
        };
        assert!(share(20, 0) > 0.8 && share(28, 1) > 0.8, "{} {}", share(20, 0), share(28, 1));
        assert!(share(10, 0) < 0.1 && share(20, 1) < 0.1, "{} {}", share(10, 0), share(20, 1));
    }

    #[test]
    fn volumes_follow_the_hour_of_the_day_before() {
        let mut counted = Counted::new(1);
        let mut second = 0;
        while second < 86_400 + 8 * 3_600 {
            counted.record(at(second), KeyId(0), RegionId(0));
            second += if second / 3_600 % 24 == 8 { 4 } else { 40 };
        }
        let (calm, rush) =
            (90.0, counted.volume(at(86_400 + 8 * 3_600), 0, Duration::ZERO, Duration::from_secs(3_600)));
        assert!(rush > 4.0 * calm, "{rush}");
    }
}
