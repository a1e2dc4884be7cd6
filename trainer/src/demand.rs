//! Turns the demand table into questions and answers for the placement head: what was known before a bucket began, and
//! how often the key was then requested in it.

use std::{collections::VecDeque, time::Duration};

use nearcast_datasets::{KeyId, Map, RegionId, Timestamp};
use nearcast_models::RecentCounts;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::features::DemandCell;

/// One question with its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DemandSample {
    /// The key.
    pub(crate) key: KeyId,
    /// The region.
    pub(crate) region: RegionId,
    /// When the bucket began.
    pub(crate) at: Timestamp,
    /// What was counted before.
    pub(crate) counts: RecentCounts,
    /// Requests per bucket for the key in the region, averaged over the day before with a half-life of three buckets.
    pub(crate) decayed_average: f32,
    /// Requests in the bucket.
    pub(crate) requests: f32,
    /// How many such samples this one stands for.
    pub(crate) weight: f32,
}

/// What came, on average, where the bucket before had no request: what a baseline forecasts then instead of zero.
pub(crate) fn zero_forecast(samples: &[DemandSample]) -> f64 {
    let silent = samples.iter().filter(|sample| sample.counts.key_region_last <= 0.0);
    let (requests, weight) = silent.fold((0.0, 0.0), |(requests, weight), sample| {
        (requests + f64::from(sample.requests * sample.weight), weight + f64::from(sample.weight))
    });
    if requests > 0.0 { requests / weight } else { ZERO_FORECAST_MIN }
}

/// What is sampled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemandPlan {
    /// Start of bucket zero.
    pub(crate) start: Timestamp,
    /// Width of a bucket.
    pub(crate) bucket: Duration,
    /// The first bucket to ask about; earlier ones only fill the counts.
    pub(crate) asked_from: u32,
    /// Regions numbered from zero.
    pub(crate) regions: u16,
    /// Most samples; with more, a uniform draw.
    pub(crate) samples_max: usize,
    /// Seed of the draw.
    pub(crate) seed: u64,
}

/// Walks over the demand table bucket by bucket and keeps a bounded uniform sample.
///
/// Every key that was requested anywhere during the day before a bucket is asked about in every region; most of the
/// answers are zero, so only one in [`ZEROS_PER_SAMPLE`] of those is kept and stands for the others.
#[derive(Debug)]
pub(crate) struct DemandSampler {
    plan: DemandPlan,
    day: u32,
    rng: ChaCha8Rng,
    bucket: u32,
    /// Cells of the current bucket, by key.
    current: Vec<DemandCell>,
    histories: Map<KeyId, VecDeque<DemandCell>>,
    region_last: Vec<f32>,
    seen: u64,
    samples: Vec<DemandSample>,
}

impl DemandSampler {
    /// A sampler that has seen nothing.
    pub(crate) fn new(plan: DemandPlan) -> Self {
        let day = (DAY.as_secs_f64() / plan.bucket.as_secs_f64()).round().max(3.0) as u32;
        Self {
            plan,
            day,
            rng: ChaCha8Rng::seed_from_u64(plan.seed),
            bucket: 0,
            current: Vec::new(),
            histories: Map::default(),
            region_last: vec![0.0; usize::from(plan.regions)],
            seen: 0,
            samples: Vec::new(),
        }
    }

    /// Takes the next cell; cells come by bucket.
    pub(crate) fn push(&mut self, cell: DemandCell) {
        while self.bucket < cell.bucket {
            // Past the last remembered bucket nothing can be asked, so a long silence is jumped over.
            if self.current.is_empty() && self.histories.is_empty() {
                self.bucket = cell.bucket;
                break;
            }
            self.close_bucket();
        }
        self.current.push(cell);
    }

    /// The samples, in the order of time, and how many there were to draw from.
    pub(crate) fn finish(mut self) -> (Vec<DemandSample>, u64) {
        self.close_bucket();
        self.samples.sort_by_key(|sample| (sample.at, sample.key, sample.region));
        (self.samples, self.seen)
    }

    /// Asks about the current bucket, then lets its cells become history.
    fn close_bucket(&mut self) {
        if self.bucket >= self.plan.asked_from {
            self.ask();
        }
        self.region_last.fill(0.0);
        let oldest = (self.bucket + 1).saturating_sub(self.day);
        for cell in self.current.drain(..) {
            if let Some(total) = self.region_last.get_mut(usize::from(cell.region.0)) {
                *total += cell.requests as f32;
            }
            self.histories.entry(cell.key).or_default().push_back(cell);
        }
        self.histories.retain(|_, cells| {
            while cells.front().is_some_and(|cell| cell.bucket < oldest) {
                cells.pop_front();
            }
            !cells.is_empty()
        });
        self.bucket += 1;
    }

    fn ask(&mut self) {
        let mut keys: Vec<KeyId> = self.histories.keys().copied().collect();
        keys.sort_unstable();
        let mut known = vec![Known::default(); usize::from(self.plan.regions)];
        for key in keys {
            known.fill(Known::default());
            let key_last = self.recall(key, &mut known);
            let first = self.current.partition_point(|cell| cell.key < key);
            for cell in self.current[first..].iter().take_while(|cell| cell.key == key) {
                if let Some(known) = known.get_mut(usize::from(cell.region.0)) {
                    known.answer = cell.requests as f32;
                }
            }
            for (region, known) in (0..).zip(&known) {
                self.offer(key, RegionId(region), key_last, known);
            }
        }
    }

    /// Fills in what is known of `key` per region; returns its requests everywhere in the bucket that just ended.
    fn recall(&self, key: KeyId, known: &mut [Known]) -> f32 {
        let mut key_last = 0.0;
        for cell in self.histories.get(&key).into_iter().flatten() {
            let Some(known) = known.get_mut(usize::from(cell.region.0)) else { continue };
            let (age, requests) = (self.bucket - cell.bucket, cell.requests as f32);
            match age {
                1 => {
                    known.last = requests;
                    key_last += requests;
                }
                2 => known.previous = requests,
                _ if age == self.day => known.day_ago = requests,
                _ => {}
            }
            known.decayed += requests * DECAY.powi(age as i32 - 1) * (1.0 - DECAY);
        }
        key_last
    }

    /// Draws: zeros one in many, and of everything a uniform reservoir.
    fn offer(&mut self, key: KeyId, region: RegionId, key_last: f32, known: &Known) {
        let zero = known.answer <= 0.0;
        if zero && self.rng.random_range(0..ZEROS_PER_SAMPLE) != 0 {
            return;
        }
        let sample = DemandSample {
            key,
            region,
            at: self.plan.start.after(self.plan.bucket * self.bucket),
            counts: RecentCounts {
                key_region_last: known.last,
                key_region_previous: known.previous,
                key_region_day_ago: known.day_ago,
                key_last,
                region_last: self.region_last[usize::from(region.0)],
            },
            decayed_average: known.decayed,
            requests: known.answer,
            weight: if zero { ZEROS_PER_SAMPLE as f32 } else { 1.0 },
        };
        self.seen += 1;
        if self.samples.len() < self.plan.samples_max {
            self.samples.push(sample);
            return;
        }
        let place = self.rng.random_range(0..self.seen);
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| self.samples.get_mut(place)) {
            *slot = sample;
        }
    }
}

/// What is known of one key in one region, and the answer.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    last: f32,
    previous: f32,
    day_ago: f32,
    decayed: f32,
    answer: f32,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Forecast instead of zero where no sample tells better.
const ZERO_FORECAST_MIN: f64 = 1e-3;
/// Of so many samples with no request, one is kept.
const ZEROS_PER_SAMPLE: u32 = 8;
/// What one bucket of age leaves of a count: half in three buckets.
const DECAY: f32 = 0.793_700_5;

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(cells: &[(u32, u32, u16, u32)], asked_from: u32, samples_max: usize) -> Vec<DemandSample> {
        let plan = DemandPlan {
            start: Timestamp::from_micros(0),
            bucket: Duration::from_secs(3_600),
            asked_from,
            regions: 2,
            samples_max,
            seed: 1,
        };
        let mut sampler = DemandSampler::new(plan);
        for (bucket, key, region, requests) in cells {
            sampler.push(DemandCell {
                bucket: *bucket,
                key: KeyId(*key),
                region: RegionId(*region),
                requests: *requests,
            });
        }
        sampler.finish().0
    }

    #[test]
    fn counts_come_from_before_the_bucket_and_the_answer_from_within() {
        // Bucket, key, region, requests; a day has 24 buckets.
        let cells = [(0, 1, 0, 5), (22, 1, 0, 2), (23, 1, 0, 3), (23, 1, 1, 4), (23, 2, 0, 1), (24, 1, 0, 9)];
        let found = samples(&cells, 24, 100);
        let first = found.iter().find(|sample| (sample.requests - 9.0).abs() < 1e-6).unwrap();
        assert_eq!((first.key, first.region, first.at.micros()), (KeyId(1), RegionId(0), 24 * 3_600_000_000));
        let expected = RecentCounts {
            key_region_last: 3.0,
            key_region_previous: 2.0,
            key_region_day_ago: 5.0,
            key_last: 7.0,
            region_last: 4.0,
        };
        assert_eq!((first.counts, first.weight), (expected, 1.0));
    }

    #[test]
    fn asks_about_regions_that_never_saw_the_key_and_weighs_kept_zeros() {
        let cells: Vec<_> = (0..200).map(|bucket| (bucket, 1, 0, 2)).collect();
        let found = samples(&cells, 1, 1_000);
        let (mut busy, mut silent) = (0.0, 0.0);
        for sample in &found {
            assert_eq!(sample.requests > 0.0, sample.region == RegionId(0));
            if sample.region == RegionId(0) { busy += sample.weight } else { silent += sample.weight }
        }
        assert!((busy - 199.0).abs() < 1e-6, "{busy}");
        assert!((100.0..300.0).contains(&silent), "{silent}");
    }

    #[test]
    fn keeps_a_bounded_uniform_draw() {
        let cells: Vec<_> = (0..500).map(|bucket| (bucket, 1, 0, 1)).collect();
        let found = samples(&cells, 1, 50);
        assert_eq!(found.len(), 50);
        let late = found.iter().filter(|sample| sample.at.micros() > 250 * 3_600_000_000).count();
        assert!((10..40).contains(&late), "{late}");
    }
}
