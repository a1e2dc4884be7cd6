//! Ghosts: what a node would hold, and would have had to fetch, had nothing ever been prefetched.
//!
//! A ghost is the production index without payloads, fed with the very requests that its node answers. The difference
//! between what it misses and what the node misses is what prefetching saved, or cost: measured, not estimated.

use nearcast_cache_node::index::{Admission, Evicted, Index, IndexConfig, PolicyKind};
use nearcast_datasets::{KeyId, SegmentId, Timestamp};

use super::arrivals::Arrivals;

/// One node's cache as it would be without prefetching.
///
/// Only metadata is kept. A ghost that outgrows its bound drops every key but those whose hash falls into half of the
/// space, and half of its capacity with them, as often as needed: spatial sampling as in SHARDS (Waldspurger et al.,
/// FAST'15), whose error in the miss ratio at thousands of sampled entries is a fraction of a point.
#[derive(Debug)]
pub(super) struct Ghost {
    index: Index,
    config: IndexConfig,
    entries_max: usize,
    /// One key in `1 << shift` is followed.
    shift: u32,
    arrivals: Arrivals,
    evicted: Vec<Evicted>,
}

impl Ghost {
    /// An empty ghost of a node with such a capacity.
    pub(super) fn new(capacity_bytes: u64, policy: PolicyKind, entries_max: usize) -> Self {
        let config =
            IndexConfig { capacity_bytes: capacity_bytes.max(1), policy, pinned_share: 0.0, ..IndexConfig::default() };
        let index = build(&config);
        Self { index, config, entries_max, shift: 0, arrivals: Arrivals::default(), evicted: Vec::new() }
    }

    /// How many keys one followed key stands for; `None` when this one is not followed.
    pub(super) fn weight(&self, key: KeyId) -> Option<f64> {
        let mask = (1_u64 << self.shift) - 1;
        (mixed(key) & mask == 0).then(|| (mask + 1) as f64)
    }

    /// The node was asked for a segment. Whether it would have had it; a miss is fetched and lands at `lands_at`.
    pub(super) fn request(&mut self, now: Timestamp, segment: SegmentId, bytes: u64, lands_at: Timestamp) -> bool {
        let is_held = self.index.touch(now, segment).is_some();
        if is_held {
            return !self.arrivals.is_under_way(now, segment);
        }
        self.hold(now, segment, bytes);
        self.arrivals.start(now, segment, lands_at);
        false
    }

    /// The node holds a segment from before it was watched.
    pub(super) fn hold(&mut self, now: Timestamp, segment: SegmentId, bytes: u64) {
        self.index.insert(now, segment, bytes, Admission::Demand, &mut self.evicted);
        self.evicted.clear();
        if self.index.len() > self.entries_max {
            self.halve(now);
        }
    }

    /// A key's number is about to be given to another.
    pub(super) fn forget(&mut self, key: KeyId) {
        // Further segments of the key age out by themselves.
        self.index.remove(Timestamp::default(), SegmentId { key, index: 0 });
    }

    fn halve(&mut self, now: Timestamp) {
        self.shift += 1;
        self.config.capacity_bytes = (self.config.capacity_bytes / 2).max(1);
        let mut index = build(&self.config);
        let mut evicted = std::mem::take(&mut self.evicted);
        for (segment, bytes) in self.index.iter().filter(|(segment, _)| self.weight(segment.key).is_some()) {
            index.insert(now, segment, bytes, Admission::Demand, &mut evicted);
        }
        evicted.clear();
        self.evicted = evicted;
        self.index = index;
    }
}

fn build(config: &IndexConfig) -> Index {
    Index::new(config).expect("the capacity is at least one byte and every share lies between zero and one")
}

/// A well mixed number for a key.
fn mixed(key: KeyId) -> u64 {
    let mixed = (u64::from(key.0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn segment(key: u32) -> SegmentId {
        SegmentId { key: KeyId(key), index: 0 }
    }

    #[test]
    fn misses_what_a_cache_without_prefetching_misses() {
        let mut ghost = Ghost::new(2, PolicyKind::Lru, 100);
        let hits: Vec<bool> =
            [1, 2, 1, 3, 2, 1].into_iter().map(|key| ghost.request(at(0), segment(key), 1, at(0))).collect();
        assert_eq!(hits, [false, false, true, false, false, false]);
    }

    #[test]
    fn a_fetch_under_way_is_joined_and_counts_as_a_miss() {
        let mut ghost = Ghost::new(10, PolicyKind::Lru, 100);
        let ask = |ghost: &mut Ghost, now| ghost.request(at(now), segment(1), 1, at(now + 50));
        assert!(!ask(&mut ghost, 0) && !ask(&mut ghost, 49) && ask(&mut ghost, 50));
    }

    #[test]
    fn a_sampled_ghost_estimates_the_whole_one() {
        let (mut whole, mut sampled) =
            (Ghost::new(4_000, PolicyKind::Lru, 10_000), Ghost::new(4_000, PolicyKind::Lru, 1_000));
        let (mut missed, mut estimated, mut state) = (0.0, 0.0, 1_u64);
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Popularity falls with the number: the square favours small ones.
            let draw = (state >> 40) as f64 / f64::from(1 << 24);
            let key = (draw * draw * draw * 20_000.0) as u32;
            missed += f64::from(u8::from(!whole.request(at(0), segment(key), 1, at(0))));
            if let Some(weight) = sampled.weight(KeyId(key)) {
                estimated += weight * f64::from(u8::from(!sampled.request(at(0), segment(key), 1, at(0))));
            }
        }
        assert!(sampled.shift >= 2 && sampled.index.len() <= 1_000);
        assert!((estimated / missed - 1.0).abs() < 0.1, "{estimated} estimated, {missed} missed");
    }
}
