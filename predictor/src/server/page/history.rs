//! How things were: samples of the account, kept in memory.
//!
//! All numbers of a sample are sums since the predictor started or its arm was reset, so that a reader who missed some
//! samples has lost resolution and nothing else. A number that falls tells of a reset.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use nearcast_datasets::Timestamp;
use serde::Serialize;

use crate::{
    engine::Account,
    server::controller::{ArmFacts, Facts, Outcomes},
};

/// The latest samples, oldest first.
#[derive(Debug)]
pub(super) struct History {
    samples_max: usize,
    samples: Mutex<VecDeque<Sample>>,
}

/// How things were at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// From 1, without a gap.
    number: u64,
    /// Milliseconds since the Unix epoch.
    at_ms: i64,
    arms: Vec<ArmFacts>,
    bytes: ByteSample,
    /// Requests that prefetching made hits, less those that it made misses.
    saved_requests: f64,
    /// The latency that this saved.
    saved_seconds: f64,
    outcomes: Outcomes,
}

/// Bytes by what they were fetched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct ByteSample {
    /// Fetched on demand.
    demand: f64,
    /// Fetched, or being fetched, ahead of demand.
    spent: f64,
    /// What would have been fetched on demand without prefetching, less what was.
    earned: f64,
    /// Fetched ahead and never used.
    wasted: f64,
    /// What the budget has granted so far for `spent` less `earned`.
    granted: f64,
}

impl History {
    /// An empty history.
    pub(super) fn new(samples_max: usize) -> Self {
        Self { samples_max, samples: Mutex::default() }
    }

    /// Takes a sample; the oldest makes room.
    pub(super) fn record(&self, now: Timestamp, facts: &Facts) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let number = samples.back().map_or(0, |last| last.number) + 1;
        if samples.len() == self.samples_max {
            samples.pop_front();
        }
        samples.push_back(sample(number, now, facts));
    }

    /// The samples with a number above `after`.
    pub(super) fn after(&self, after: u64) -> Vec<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| sample.number > after).cloned().collect()
    }
}

fn sample(number: u64, now: Timestamp, facts: &Facts) -> Sample {
    let account = &facts.status.account;
    Sample {
        number,
        at_ms: now.micros() / 1_000,
        arms: facts.arms(),
        bytes: bytes(account),
        saved_requests: account.saved_requests,
        saved_seconds: account.saved_seconds,
        outcomes: facts.tallies.outcomes,
    }
}

fn bytes(account: &Account) -> ByteSample {
    let demand = account.demand_bytes as f64;
    let earned = account.budget.baseline_bytes - demand;
    ByteSample {
        demand,
        spent: account.budget.extra_bytes + earned,
        earned,
        wasted: account.wasted_bytes as f64,
        granted: account.budget.granted_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let mut account = Account { demand_bytes: 700, saved_requests: 12.5, saved_seconds: 3.0, ..Account::default() };
        account.budget.baseline_bytes = 1_000.0;
        account.budget.extra_bytes = 50.0;
        account
    }

    #[test]
    fn what_is_spent_is_what_it_cost_beyond_what_it_earned() {
        let bytes = bytes(&account());
        assert_eq!((bytes.demand, bytes.earned, bytes.spent), (700.0, 300.0, 350.0));
    }
}
