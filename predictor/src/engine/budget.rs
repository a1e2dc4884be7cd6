//! Budgets: how many bytes may be spent, and how fast.

use nearcast_datasets::Timestamp;

/// The hard budget: bytes that may be wasted, as a share of the bytes that demand needs.
///
/// Spending is booked as expected waste when an order is issued and corrected when its outcome is known. Allowance that
/// is not used can be carried over only up to a share of all that was ever granted, so that a quiet past cannot pay for
/// a reckless present.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    share: f64,
    carry_share: f64,
    granted: f64,
    balance: f64,
    /// Bytes wasted by orders that have ended.
    pub wasted: f64,
    /// Bytes that orders still undecided are expected to waste.
    pub undecided: f64,
}

impl Allowance {
    pub(super) fn new(share: f64, carry_share: f64) -> Self {
        Self { share, carry_share, granted: 0.0, balance: 0.0, wasted: 0.0, undecided: 0.0 }
    }

    /// Demand needed this many bytes.
    pub(super) fn grant(&mut self, demand_bytes: u64) {
        let grant = demand_bytes as f64 * self.share;
        self.granted += grant;
        self.balance = (self.balance + grant).min(self.carry_share * self.granted);
    }

    /// Books an order's expected waste; `false`, booking nothing, when that is more than is left.
    pub(super) fn spend(&mut self, expected_waste: f64) -> bool {
        if expected_waste > self.balance {
            return false;
        }
        self.balance -= expected_waste;
        self.undecided += expected_waste;
        true
    }

    /// Orders that are still undecided are expected to waste this much more.
    pub(super) fn raise(&mut self, more_waste: f64) {
        self.balance -= more_waste;
        self.undecided += more_waste;
    }

    /// An order's waste is known.
    pub(super) fn settle(&mut self, expected_waste: f64, waste: f64) {
        self.undecided = (self.undecided - expected_waste).max(0.0);
        self.wasted += waste;
        self.balance = (self.balance + expected_waste - waste).min(self.carry_share * self.granted);
    }

    /// Bytes left to spend; negative when outcomes were worse than expected.
    pub(super) fn balance(&self) -> f64 {
        self.balance
    }

    /// Bytes granted so far.
    pub(super) fn granted(&self) -> f64 {
        self.granted
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
    fn waste_never_outgrows_its_share_when_expectations_hold() {
        let mut allowance = Allowance::new(0.25, 1.0);
        assert!(!allowance.spend(1.0), "nothing was granted yet");
        allowance.grant(100);
        assert!(allowance.spend(15.0) && allowance.spend(10.0) && !allowance.spend(0.5));
        allowance.settle(15.0, 0.0);
        assert!(allowance.spend(15.0));
        allowance.settle(10.0, 20.0);
        assert!(allowance.balance() < 0.0 && !allowance.spend(0.1));
        assert!((allowance.wasted + allowance.undecided - 35.0).abs() < 1e-9);
    }

    #[test]
    fn unused_allowance_is_carried_over_only_in_part() {
        let mut allowance = Allowance::new(0.1, 0.5);
        allowance.grant(1_000);
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
