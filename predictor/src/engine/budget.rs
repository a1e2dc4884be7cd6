//! Budgets: how many bytes may be spent, and how fast.

use nearcast_datasets::Timestamp;

/// The hard budget: bytes that may be fetched beyond what would have been fetched without prefetching, as a share of
/// that.
///
/// Nothing in it is expected or hoped for. An order counts in full from the moment it is issued; what it saves counts
/// when the node answers a request that its [`Ghost`](super::ghost::Ghost) would have had to fetch for, and what it
/// displaced when the node has to fetch what its ghost still holds.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    share: f64,
    carry_share: f64,
    /// Bytes fetched on demand.
    demand: f64,
    /// Bytes fetched, or being fetched, ahead of demand.
    prefetched: f64,
    /// Bytes that would have been fetched on demand without prefetching, less those that were.
    saved: f64,
    /// Allowance that was left unspent for too long.
    forfeited: f64,
}

impl Allowance {
    pub(super) fn new(share: f64, carry_share: f64) -> Self {
        Self { share, carry_share, demand: 0.0, prefetched: 0.0, saved: 0.0, forfeited: 0.0 }
    }

    /// A request was answered: bytes that the node fetched for it, and the estimate of how many more the ghost would
    /// have. Returns by how much the allowance grew.
    pub(super) fn record(&mut self, demand_bytes: f64, saved_bytes: f64) -> f64 {
        let before = self.baseline();
        self.demand += demand_bytes;
        self.saved += saved_bytes;
        let excess = self.balance() - self.carry_share * self.granted();
        self.forfeited += excess.max(0.0);
        (self.baseline() - before) * self.share
    }

    /// Books an order; `false`, booking nothing, when that is more than is left.
    pub(super) fn spend(&mut self, bytes: f64) -> bool {
        if bytes > self.balance() {
            return false;
        }
        self.prefetched += bytes;
        true
    }

    /// An order that was booked with `booked` bytes came to `bytes`.
    pub(super) fn correct(&mut self, booked: f64, bytes: f64) {
        self.prefetched += bytes - booked;
    }

    /// Bytes that would have been fetched without prefetching.
    pub(super) fn baseline(&self) -> f64 {
        self.demand + self.saved
    }

    /// Bytes fetched beyond that; negative when prefetching saved more than it fetched.
    pub(super) fn extra(&self) -> f64 {
        self.prefetched - self.saved
    }

    /// Bytes left to spend; negative when more was displaced than was left.
    pub(super) fn balance(&self) -> f64 {
        self.granted() - self.extra() - self.forfeited
    }

    /// Bytes granted so far.
    pub(super) fn granted(&self) -> f64 {
        self.share * self.baseline()
    }
}

/// Bounds the bytes per second to one node.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    rate: f64,
    capacity: f64,
    tokens: f64,
    filled_at: Timestamp,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn new(now: Timestamp, bytes_per_second: f64, burst_seconds: f64) -> Self {
        let capacity = bytes_per_second * burst_seconds;
        Self { rate: bytes_per_second, capacity, tokens: capacity, filled_at: now }
    }

    /// Takes bytes; `false`, taking nothing, when there are not enough. A full bucket gives out any amount, so that an
    /// order larger than the burst can be issued at all.
    pub(super) fn take(&mut self, now: Timestamp, bytes: u64) -> bool {
        let elapsed = now.since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + elapsed * self.rate).min(self.capacity);
        let bytes = bytes as f64;
        if bytes > self.tokens && self.tokens < self.capacity {
            return false;
        }
        self.tokens -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_counts_in_full_until_it_saves_a_fetch() {
        let mut allowance = Allowance::new(0.25, 1.0);
        assert!(!allowance.spend(1.0), "nothing was fetched yet");
        allowance.record(100.0, 0.0);
        assert!(allowance.spend(15.0) && allowance.spend(10.0) && !allowance.spend(0.5));
        allowance.record(0.0, 15.0);
        assert!((allowance.extra() - 10.0).abs() < 1e-9 && allowance.spend(15.0));
        allowance.record(20.0, -20.0);
        assert!(allowance.balance() < 0.0 && !allowance.spend(0.1), "what was displaced is charged");
        allowance.correct(15.0, 0.0);
        assert!((allowance.extra() - 30.0).abs() < 1e-9, "an order that came to nothing costs nothing");
    }

    #[test]
    fn unused_allowance_is_carried_over_only_in_part() {
        let mut allowance = Allowance::new(0.1, 0.5);
        allowance.record(1_000.0, 0.0);
        assert!((allowance.balance() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn bucket_bounds_the_rate_and_lets_one_large_order_through_when_full() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let mut bucket = TokenBucket::new(at(0), 10.0, 2.0);
        assert!(bucket.take(at(0), 50) && !bucket.take(at(2), 1));
        assert!(!bucket.take(at(3), 1) && bucket.take(at(4), 10) && !bucket.take(at(4), 1));
    }
}
