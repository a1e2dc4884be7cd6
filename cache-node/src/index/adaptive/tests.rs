//! What the learned policy must do on traffic whose best policy is known, and what it must keep to on any.

use nearcast_datasets::{KeyId, SegmentId, Timestamp};

use super::{
    AdaptivePolicy,
    entries::Entry,
    examples::Examples,
    ghosts::{Ghost, Ghosts},
    history::History,
    next_random, pick,
};
use crate::index::policy::{Policy, PolicyKind};

fn segment(number: u32) -> SegmentId {
    SegmentId { key: KeyId(number), index: 0 }
}

/// A policy as the index drives it.
struct Cache {
    policy: Box<dyn Policy>,
    capacity_bytes: u64,
}

impl Cache {
    fn new(kind: PolicyKind, capacity_bytes: u64) -> Self {
        Self { policy: kind.build(capacity_bytes), capacity_bytes }
    }

    /// Whether the request was a hit.
    fn request(&mut self, number: u32, bytes: u64) -> bool {
        let now = Timestamp::MIN;
        if self.policy.touch(now, segment(number)).is_some() {
            return true;
        }
        while self.policy.used_bytes() + bytes > self.capacity_bytes {
            self.policy.evict(now).expect("something is held while bytes are used");
        }
        self.policy.insert(now, segment(number), bytes);
        false
    }

    fn hits(&mut self, numbers: impl Iterator<Item = u32>) -> u32 {
        numbers.map(|number| u32::from(self.request(number, 1))).sum()
    }
}

/// Keys from `first` on, each a little rarer than the one before.
fn skewed(seed: u64, first: u32, count: usize) -> impl Iterator<Item = u32> {
    let mut state = seed;
    (0..count).map(move |_| {
        let (a, b) = (pick(&mut state, 1_000), pick(&mut state, 1_000));
        first + (a * b / 1_000) as u32
    })
}

/// Hits of the last tenth of the requests, of `kind` and of LRU.
fn compare(kind: PolicyKind, capacity: u64, requests: &[u32]) -> (u32, u32) {
    let (start, last) = requests.split_at(requests.len() * 9 / 10);
    let hits = |kind| {
        let mut cache = Cache::new(kind, capacity);
        cache.hits(start.iter().copied());
        cache.hits(last.iter().copied())
    };
    (hits(kind), hits(PolicyKind::Lru))
}

#[test]
fn a_loop_larger_than_the_cache_is_partly_kept() {
    let requests: Vec<u32> = (0..60_000).map(|at| at % 300).collect();
    let (adaptive, lru) = compare(PolicyKind::Adaptive, 200, &requests);
    assert_eq!(lru, 0, "LRU evicts each key just before it is asked for");
    assert!(adaptive > 3_000, "{adaptive} of 6000; 4000 is the best there is");
}

#[test]
fn scans_do_not_flush_what_is_asked_for_often() {
    let mut hot = skewed(3, 0, 100_000);
    let mut scanned = 10_000..;
    let requests: Vec<u32> = (0..80_000).flat_map(|at| if at % 2 == 0 { hot.next() } else { scanned.next() }).collect();
    let (adaptive, lru) = compare(PolicyKind::Adaptive, 200, &requests);
    assert!(f64::from(adaptive) > 1.25 * f64::from(lru), "adaptive {adaptive}, lru {lru} hits");
}

#[test]
fn recency_is_followed_where_it_is_all_there_is() {
    // Each key is asked for four times within a short while, and never again.
    let mut state = 5;
    let requests: Vec<u32> = (0..80_000_u32).map(|at| at / 4 + pick(&mut state, 40) as u32).collect();
    let (adaptive, lru) = compare(PolicyKind::Adaptive, 50, &requests);
    assert!(f64::from(adaptive) > 0.98 * f64::from(lru), "adaptive {adaptive}, lru {lru} hits");
}

#[test]
fn a_shift_of_what_is_popular_is_followed() {
    let mut cache = Cache::new(PolicyKind::Adaptive, 150);
    cache.hits(skewed(1, 0, 60_000));
    let before = cache.hits(skewed(2, 0, 6_000));
    cache.hits(skewed(3, 5_000, 6_000));
    let after = cache.hits(skewed(4, 5_000, 6_000));
    assert!(f64::from(after) > 0.95 * f64::from(before), "{before} hits before the shift, {after} after it");
}

#[test]
fn small_segments_are_preferred_to_large_ones_asked_for_as_often() {
    for kind in [PolicyKind::Adaptive, PolicyKind::Predicted] {
        let mut cache = Cache::new(kind, 1_000);
        let bytes = |number: u32| if number.is_multiple_of(2) { 1 } else { 20 };
        let requests: Vec<u32> = skewed(6, 0, 50_000).collect();
        for number in requests {
            cache.request(number, bytes(number));
            assert!(cache.policy.used_bytes() <= 1_000);
        }
        let small = cache.policy.iter().filter(|(_, bytes)| *bytes == 1).count();
        assert!(small * 3 > cache.policy.len() * 2, "{kind:?}: {small} of {} are small", cache.policy.len());
        assert_eq!(cache.policy.iter().map(|(_, bytes)| bytes).sum::<u64>(), cache.policy.used_bytes());
    }
}

#[test]
fn the_same_requests_meet_the_same_decisions() {
    let victims = || {
        let mut cache = Cache::new(PolicyKind::Adaptive, 100);
        cache.hits(skewed(7, 0, 20_000));
        cache.policy.iter().collect::<Vec<_>>()
    };
    assert_eq!(victims(), victims());
}

#[test]
fn restored_entries_are_evicted_in_the_order_in_which_they_came() {
    let mut cache = Cache::new(PolicyKind::Adaptive, 400);
    cache.hits(skewed(8, 0, 40_000));
    let steady = cache.hits(skewed(9, 0, 4_000));
    let mut restored = Cache::new(PolicyKind::Adaptive, 400);
    for (segment, bytes) in cache.policy.iter() {
        restored.policy.insert(Timestamp::MIN, segment, bytes);
    }
    let order: Vec<_> = restored.policy.iter().collect();
    assert_eq!(order, cache.policy.iter().collect::<Vec<_>>());
    let after = restored.hits(skewed(10, 0, 4_000));
    assert!(f64::from(after) > 0.9 * f64::from(steady), "{steady} hits before the restart, {after} after it");
}

#[test]
fn what_is_removed_leaves_no_trace() {
    let mut policy = AdaptivePolicy::balanced(10);
    let now = Timestamp::MIN;
    for number in 0..200 {
        if policy.touch(now, segment(number % 13)).is_none() {
            while policy.used_bytes() >= 10 {
                policy.evict(now);
            }
            policy.insert(now, segment(number % 13), 1);
        }
    }
    let held = (0..13).filter(|number| policy.remove(segment(*number)) == Some(1)).count();
    assert_eq!((held, policy.len(), policy.used_bytes()), (10, 0, 0));
    assert_eq!(policy.evict(now), None);
    assert!((0..13).all(|number| policy.ghosts.get_mut(segment(number)).is_none()));
    assert!((0..13).all(|number| !policy.examples.is_waiting(segment(number))));
}

#[test]
fn memory_stays_within_the_stated_bounds() {
    assert!(size_of::<Entry>() <= 40 && size_of::<Ghost>() <= 16);
    let mut policy = AdaptivePolicy::balanced(50);
    let (now, mut state) = (Timestamp::MIN, 11);
    for _ in 0..50_000 {
        let number = (next_random(&mut state) % 100_000) as u32;
        if policy.touch(now, segment(number)).is_none() {
            while policy.used_bytes() >= 50 {
                policy.evict(now);
            }
            policy.insert(now, segment(number), 1);
        }
        assert!(policy.ghosts.places() <= 5 * 50 && policy.examples.len() <= Examples::COUNT_MAX);
    }
}

#[test]
fn the_latest_victims_are_remembered() {
    let mut ghosts = Ghosts::default();
    for number in 0..10_000 {
        ghosts.push(segment(number), &History::new(number, 0.0), 500);
    }
    let known =
        |range: std::ops::Range<u32>| range.filter(|number| ghosts.clone().take(segment(*number)).is_some()).count();
    let (old, late) = (known(0..5_000), known(9_000..10_000));
    assert!(old < 50 && late > 950, "{old} of 5000 old and {late} of 1000 late victims are remembered");
    ghosts.push(segment(1), &History::new(1, 0.0), 50);
    assert!(ghosts.places() <= 250, "a smaller cache forgets more");
}

#[test]
fn an_overflowing_clock_changes_nothing() {
    let victims = |start| {
        let mut cache = AdaptivePolicy::balanced(60);
        cache.now = start;
        let (now, mut evicted) = (Timestamp::MIN, Vec::new());
        for number in skewed(12, 0, 20_000) {
            if cache.touch(now, segment(number)).is_none() {
                if cache.used_bytes() >= 60 {
                    evicted.push(cache.evict(now));
                }
                cache.insert(now, segment(number), 1);
            }
        }
        evicted
    };
    assert_eq!(victims(0), victims(u32::MAX - 10_000));
}
