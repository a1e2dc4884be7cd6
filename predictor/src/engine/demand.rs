//! Demand: how often each key is asked for, overall and per region, with old requests counting less.

use std::time::Duration;

use nearcast_datasets::{KeyId, RegionId, Timestamp};

/// Two decayed counts of the same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Over about the last `short` requests.
    pub short: f32,
    /// Over about the last `long` requests.
    pub long: f32,
}

/// Decayed request counts by key and by key and region.
///
/// Decay runs in requests, not in time, so that a log counts the same at whatever speed it is played. Later requests
/// get larger weights instead of earlier ones smaller, so that a count is one number that nothing has to touch.
#[derive(Debug)]
pub(super) struct Demand {
    short: Decay,
    long: Decay,
    global: Vec<Global>,
    regional: Vec<Regional>,
    first_at: Option<Timestamp>,
    region_stride: usize,
    regions_max: usize,
}

/// One key, all regions together.
#[derive(Clone, Copy, Debug, Default)]
struct Global {
    counts: Counts,
    /// How many regions ever asked for it.
    regions: u16,
}

/// One key and one region. What is asked for together lies together: memory is what it costs.
#[derive(Clone, Copy, Debug, Default)]
struct Regional {
    counts: Counts,
    /// When the region last asked for the key, in seconds since the first request, plus one; zero for never.
    asked: u32,
}

impl Demand {
    pub(super) fn new(short_requests: f64, long_requests: f64, regions_max: usize) -> Self {
        Self {
            short: Decay::new(short_requests),
            long: Decay::new(long_requests),
            global: Vec::new(),
            regional: Vec::new(),
            first_at: None,
            region_stride: 1,
            regions_max,
        }
    }

    pub(super) fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId) {
        self.advance();
        let region = self.region_slot(region);
        let (key, weight) = (key.0 as usize, Counts { short: self.short.weight, long: self.long.weight });
        if self.global.len() <= key {
            self.global.resize(key + 1, Global::default());
            self.regional.resize((key + 1) * self.region_stride, Regional::default());
        }
        let (global, regional) = (&mut self.global[key], &mut self.regional[key * self.region_stride + region]);
        for counts in [&mut global.counts, &mut regional.counts] {
            counts.short += weight.short;
            counts.long += weight.long;
        }
        global.regions += u16::from(regional.asked == 0);
        let first_at = *self.first_at.get_or_insert(now);
        let seconds = u32::try_from(now.since(first_at).as_secs()).unwrap_or(u32::MAX - 1);
        regional.asked = seconds.saturating_add(1);
    }

    pub(super) fn global(&self, key: KeyId) -> Counts {
        self.global.get(key.0 as usize).map_or_else(Counts::default, |cell| self.normal(&cell.counts))
    }

    pub(super) fn regional(&self, key: KeyId, region: RegionId) -> Counts {
        let region = usize::from(region.0);
        if region >= self.region_stride {
            return Counts::default();
        }
        let cell = self.regional.get(key.0 as usize * self.region_stride + region);
        cell.map_or_else(Counts::default, |cell| self.normal(&cell.counts))
    }

    /// When a region last asked for a key, to the second.
    pub(super) fn asked_at(&self, key: KeyId, region: RegionId) -> Option<Timestamp> {
        let region = usize::from(region.0);
        let position = (region < self.region_stride).then_some(key.0 as usize * self.region_stride + region)?;
        let seconds = self.regional.get(position)?.asked.checked_sub(1)?;
        Some(self.first_at?.after(Duration::from_secs(u64::from(seconds))))
    }

    /// How many regions ever asked for a key.
    pub(super) fn regions_asking(&self, key: KeyId) -> usize {
        self.global.get(key.0 as usize).map_or(0, |cell| usize::from(cell.regions))
    }

    /// Requests for a key per request for anything, lately.
    pub(super) fn pace(&self, counts: Counts) -> f32 {
        counts.short / self.short.window
    }

    pub(super) fn clear_key(&mut self, key: KeyId) {
        let key = key.0 as usize;
        if let Some(cell) = self.global.get_mut(key) {
            *cell = Global::default();
            self.regional[key * self.region_stride..(key + 1) * self.region_stride].fill(Regional::default());
        }
    }

    fn normal(&self, cell: &Counts) -> Counts {
        Counts { short: cell.short * self.short.normal, long: cell.long * self.long.normal }
    }

    fn advance(&mut self) {
        if let Some(factor) = self.short.advance() {
            self.counts_mut().for_each(|counts| counts.short *= factor);
        }
        if let Some(factor) = self.long.advance() {
            self.counts_mut().for_each(|counts| counts.long *= factor);
        }
    }

    fn counts_mut(&mut self) -> impl Iterator<Item = &mut Counts> {
        let global = self.global.iter_mut().map(|cell| &mut cell.counts);
        global.chain(self.regional.iter_mut().map(|cell| &mut cell.counts))
    }

    /// The region's column; makes rows wide enough for it, which happens a few times in a run.
    fn region_slot(&mut self, region: RegionId) -> usize {
        let region = usize::from(region.0).min(self.regions_max - 1);
        if region >= self.region_stride {
            let stride = (region + 1).next_power_of_two();
            self.regional = widened(&self.regional, self.region_stride, stride);
            self.region_stride = stride;
        }
        region
    }
}

/// The same rows, `stride` wide.
fn widened<T: Copy + Default>(rows: &[T], old_stride: usize, stride: usize) -> Vec<T> {
    let mut wider = vec![T::default(); rows.len() / old_stride * stride];
    for (to, from) in wider.chunks_mut(stride).zip(rows.chunks(old_stride)) {
        to[..old_stride].copy_from_slice(from);
    }
    wider
}

/// The weight of a request that happens now, and its inverse.
#[derive(Debug)]
struct Decay {
    factor: f32,
    /// What a key that every request is for counts.
    window: f32,
    weight: f32,
    normal: f32,
}

impl Decay {
    fn new(half_life_requests: f64) -> Self {
        let factor = (std::f64::consts::LN_2 / half_life_requests).exp() as f32;
        let window = (half_life_requests / std::f64::consts::LN_2) as f32;
        Self { factor, window, weight: 1.0, normal: 1.0 }
    }

    /// One request later; what to multiply every count by when weights have grown too large.
    fn advance(&mut self) -> Option<f32> {
        self.weight *= self.factor;
        if self.weight < WEIGHT_MAX {
            self.normal = 1.0 / self.weight;
            return None;
        }
        let factor = 1.0 / self.weight;
        (self.weight, self.normal) = (1.0, 1.0);
        Some(factor)
    }
}

const WEIGHT_MAX: f32 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_halve_per_half_life_and_survive_rescaling_and_new_regions() {
        let mut demand = Demand::new(100.0, 1_000.0, 8);
        for _ in 0..10 {
            demand.record(Timestamp::default(), KeyId(0), RegionId(0));
        }
        for step in 0..5_000_u32 {
            demand.record(
                Timestamp::from_micros(i64::from(step) * 1_000_000),
                KeyId(1),
                RegionId(u16::from(step % 4 == 0) * 5),
            );
        }
        let old = demand.global(KeyId(0));
        assert!(old.short < 1e-6 && (old.long - 10.0 / 32.0).abs() < 0.02, "{old:?}");
        let busy = demand.global(KeyId(1)).short;
        assert!((busy - 100.0 / std::f32::consts::LN_2).abs() < 2.0, "a steady key counts one window: {busy}");
        let share = demand.regional(KeyId(1), RegionId(5)).long / demand.global(KeyId(1)).long;
        assert!((share - 0.25).abs() < 0.01, "{share}");
        assert_eq!(demand.asked_at(KeyId(1), RegionId(5)), Some(Timestamp::from_micros(4_996_000_000)));
        assert_eq!(demand.asked_at(KeyId(0), RegionId(5)), None);
    }
}
