//! The last requests of a log, for drawing cells that are likely to matter.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map, RegionId};
use rand::Rng;

/// The last [`RECENT_MAX`] requests with their counts by key and by key and region.
#[derive(Debug, Default)]
pub(super) struct RecentRequests {
    requests: VecDeque<(KeyId, RegionId)>,
    keys: Map<KeyId, u32>,
    pairs: Map<(KeyId, RegionId), u32>,
}

impl RecentRequests {
    pub(super) fn push(&mut self, key: KeyId, region: RegionId) {
        self.requests.push_back((key, region));
        *self.keys.entry(key).or_default() += 1;
        *self.pairs.entry((key, region)).or_default() += 1;
        if self.requests.len() > RECENT_MAX
            && let Some((key, region)) = self.requests.pop_front()
        {
            decrement(&mut self.keys, &key);
            decrement(&mut self.pairs, &(key, region));
        }
    }

    /// A key asked for lately, in the region that asked or, half the time, in any.
    pub(super) fn draw(&self, regions: usize, rng: &mut impl Rng) -> Option<(KeyId, RegionId)> {
        let count = self.requests.len();
        let (key, region) = *self.requests.get(if count > 0 { rng.random_range(0..count) } else { 0 })?;
        let region = if rng.random_bool(0.5) { region } else { draw_region(regions, rng) };
        Some((key, region))
    }

    /// How likely [`draw`](Self::draw) returns this cell.
    pub(super) fn probability(&self, key: KeyId, region: RegionId, regions: usize) -> f64 {
        let of = |count: Option<&u32>| f64::from(count.copied().unwrap_or_default());
        let pair = of(self.pairs.get(&(key, region)));
        let key = of(self.keys.get(&key)) / regions.max(1) as f64;
        (0.5 * pair + 0.5 * key) / self.requests.len().max(1) as f64
    }
}

/// Any region, all alike.
pub(super) fn draw_region(regions: usize, rng: &mut impl Rng) -> RegionId {
    RegionId(u16::try_from(rng.random_range(0..regions.max(1))).unwrap_or(u16::MAX))
}

fn decrement<K: std::hash::Hash + Eq>(counts: &mut Map<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Enough to hold what a region is busy with: hours of a busy log, weeks of a quiet one.
const RECENT_MAX: usize = 20_000;
