//! Harm: what it costs a node to make room.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map};

/// What a node dropped lately and what of it was asked for again soon.
///
/// A byte put into a full cache early takes the place of the byte that would have been dropped next. How much that one
/// is missed is measured on those that *were* dropped: the latency and the bytes of fetching again what is asked for
/// within the time a prefetched segment stays.
#[derive(Debug)]
pub(super) struct Harm {
    dropped: Map<KeyId, u64>,
    order: VecDeque<(KeyId, u64)>,
    drops: f64,
    dropped_bytes: f64,
    regretted_bytes: f64,
    regretted_seconds: f64,
    max: usize,
}

impl Harm {
    pub(super) fn new(max: usize) -> Self {
        Self {
            dropped: Map::default(),
            order: VecDeque::new(),
            drops: 0.0,
            dropped_bytes: 0.0,
            regretted_bytes: 0.0,
            regretted_seconds: 0.0,
            max,
        }
    }

    /// The node dropped a key that demand had brought, at its request number `request`.
    pub(super) fn handle_dropped(&mut self, key: KeyId, bytes: u64, request: u64) {
        self.drops = self.drops.mul_add(KEPT, 1.0);
        self.dropped_bytes = self.dropped_bytes.mul_add(KEPT, bytes as f64);
        self.regretted_bytes *= KEPT;
        self.regretted_seconds *= KEPT;
        self.dropped.insert(key, request);
        self.order.push_back((key, request));
        while self.order.len() > self.max {
            self.forget_oldest();
        }
    }

    /// The node had to fetch a key, at a cost, at its request number `request`; what is dropped counts as regretted
    /// when that is within `stay` requests.
    pub(super) fn handle_missed(&mut self, key: KeyId, bytes: u64, seconds: f64, request: u64, stay: u64) {
        while self.order.front().is_some_and(|(_, at)| at + stay < request) {
            self.forget_oldest();
        }
        if self.dropped.remove(&key).is_some_and(|at| at + stay >= request) {
            self.regretted_bytes += bytes as f64;
            self.regretted_seconds += seconds;
        }
    }

    /// Seconds of latency that a byte put in early costs in the end.
    pub(super) fn seconds_per_byte(&self) -> f64 {
        self.regretted_seconds / self.weighed_bytes()
    }

    /// Bytes that have to be fetched again for a byte put in early.
    pub(super) fn bytes_per_byte(&self) -> f64 {
        (self.regretted_bytes / self.weighed_bytes()).min(1.0)
    }

    /// Bytes dropped lately, and some more that nobody regrets, so that the first few do not speak for all.
    fn weighed_bytes(&self) -> f64 {
        self.dropped_bytes * (1.0 + PRIOR_DROPS / self.drops.max(1.0)) + 1.0
    }

    fn forget_oldest(&mut self) {
        if let Some((key, at)) = self.order.pop_front()
            && self.dropped.get(&key) == Some(&at)
        {
            self.dropped.remove(&key);
        }
    }
}

/// What remains of the past with every drop: a memory of about a thousand.
const KEPT: f64 = 0.999;
const PRIOR_DROPS: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regrets_what_is_asked_for_again_in_time() {
        let mut harm = Harm::new(1_000);
        for request in 0..1_000_u32 {
            harm.handle_dropped(KeyId(request), 100, u64::from(request));
            // Every second one is asked for again, half of those too late.
            if request % 4 == 0 {
                harm.handle_missed(KeyId(request), 100, 0.1, u64::from(request) + 50, 50);
            } else if request % 4 == 2 {
                harm.handle_missed(KeyId(request), 100, 0.1, u64::from(request) + 51, 50);
            }
        }
        assert!((harm.bytes_per_byte() - 0.25).abs() < 0.02, "{}", harm.bytes_per_byte());
        assert!((harm.seconds_per_byte() - 0.25 * 0.001).abs() < 2e-5);
    }

    #[test]
    fn remembers_no_more_than_its_bound() {
        let mut harm = Harm::new(2);
        for key in 0..10 {
            harm.handle_dropped(KeyId(key), 1, 0);
        }
        assert_eq!((harm.order.len(), harm.dropped.len()), (2, 2));
    }
}
