//! How many bytes may be moved ahead of demand, most of which it then asks for.
//!
//! A byte that is moved to where it will be read anyway costs nothing: it takes the place of a miss. What costs is the
//! byte that nobody asks for in time. So a budget is held in bytes of expected waste; misses earn it, as a share of
//! theirs, and moves spend it, as far as they are likely to be in vain. Not whoever comes first gets it: a wasted byte has
//! a price, which rises while the budget is short and falls while it is not, and a move must be worth that.

use serde::{Deserialize, Serialize};

/// Bytes that may be wasted, earned by misses.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WasteBudget {
    share: f64,
    most: f64,
    left: f64,
    /// Seconds of waiting per byte.
    price: f64,
}

impl WasteBudget {
    /// `share` of what misses fetch may be wasted; at most `most` bytes are saved up.
    pub(super) fn new(share: f64, most: f64) -> Self {
        Self { share, most: most.max(1.0), left: 0.0, price: PRICE_MIN }
    }

    /// Goes on from another one's savings, as far as they fit, and price.
    pub(super) fn take_over(&mut self, other: &Self) {
        (self.left, self.price) = (other.left.clamp(0.0, self.most), other.price.max(PRICE_MIN));
    }

    /// A region asked for so many bytes that its node did not hold.
    pub(super) fn earn(&mut self, missed_bytes: u64) {
        self.left = (self.left + self.share * missed_bytes as f64).min(self.most);
    }

    /// Spends what is likely wasted of a move that saves `value_seconds` where `requests` are expected; says whether it
    /// is worth that and there was so much left.
    pub(super) fn spend(&mut self, bytes: u64, requests: f32, value_seconds: f32) -> bool {
        let affords = self.affords(bytes, requests, value_seconds);
        self.price = (self.price * (PACE * self.short()).exp()).max(PRICE_MIN);
        if affords {
            self.left -= waste_bytes(bytes, requests);
        }
        affords
    }

    /// Whether a move would be worth what is likely wasted of it, and there is so much left.
    pub(super) fn affords(&self, bytes: u64, requests: f32, value_seconds: f32) -> bool {
        let waste = waste_bytes(bytes, requests);
        waste <= self.left && f64::from(value_seconds) >= self.price * (2.0 * self.short()).exp() * waste
    }

    fn short(&self) -> f64 {
        0.5 - self.left / self.most
    }
}

/// Bytes of a move that are wasted on average: nobody comes, under Poisson's law.
pub(super) fn waste_bytes(bytes: u64, requests: f32) -> f64 {
    bytes as f64 * f64::from(-requests.max(0.0)).exp()
}

const PRICE_MIN: f64 = 1e-12;
/// How much one question may change the price.
const PACE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_surely_used_costs_next_to_nothing() {
        let mut budget = WasteBudget::new(0.05, 100.0);
        assert!(!budget.spend(1_000, 0.0, 1.0));
        budget.earn(1_000);
        assert!(budget.spend(1_000, 10.0, 1.0));
        assert!(!budget.spend(1_000, 1.0, 1.0) && budget.spend(49, 0.0, 1.0) && !budget.spend(49, 0.0, 1.0));
        (0..100).for_each(|_| budget.earn(1_000));
        assert!(!budget.spend(101, 0.0, 1.0) && budget.spend(100, 0.0, 1.0));
    }

    #[test]
    fn a_short_budget_goes_to_what_is_worth_most() {
        let mut budget = WasteBudget::new(0.05, 1_000.0);
        let mut spent = [0, 0];
        for step in 0..40_000_usize {
            // Ten bytes earned a step; either kind of move would take a hundred.
            budget.earn(200);
            let kind = step % 2;
            spent[kind] += usize::from(budget.spend(100, 0.0, [0.01, 0.1][kind]));
        }
        assert!(spent[1] > 3_500 && spent[0] < 400, "{spent:?}");
    }
}
