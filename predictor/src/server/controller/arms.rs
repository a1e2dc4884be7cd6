//! What each arm has met.

use std::sync::Arc;

use serde::Serialize;

use super::{answers::Facts, tally::Tallies};
use crate::{engine::Account, metrics::Metrics};

/// One arm's requests, since the predictor started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::server) struct ArmFacts {
    pub(in crate::server) name: Arc<str>,
    /// Whether a ghost says so, and not nodes.
    pub(in crate::server) estimated: bool,
    pub(in crate::server) requests: f64,
    pub(in crate::server) hits: f64,
    pub(in crate::server) latency_seconds: f64,
}

impl Facts {
    /// Every arm, *none* last.
    pub(in crate::server) fn arms(&self) -> Vec<ArmFacts> {
        arms(&self.tallies, &self.status.account)
    }

    /// Brings the metrics up to date that are read only when somebody asks.
    pub(in crate::server) fn show(&self, metrics: &Metrics) {
        if let Ok(account) = serde_json::to_value(&self.status.account) {
            metrics.show_account(&account);
        }
        metrics.show_arms(&self.status.arms, &self.status.experiments);
        if let Some(placement) = &self.status.placement {
            metrics.show_placement(placement);
        }
        for arm in self.arms() {
            metrics.show_arm(&arm.name, arm.requests, arm.hits, arm.latency_seconds);
        }
        for node in &self.status.nodes {
            metrics.show_node(&node.name, node.alive);
        }
    }
}

/// Arms that served, as nodes say, and *none*, as the ghosts say: what all requests would have met without prefetching.
fn arms(tallies: &Tallies, account: &Account) -> Vec<ArmFacts> {
    let mut none = ArmFacts { name: Arc::from(NONE), estimated: true, requests: 0.0, hits: 0.0, latency_seconds: 0.0 };
    let mut arms = Vec::new();
    for (name, tally) in &tallies.arms {
        let (requests, hits) = (tally.requests as f64, tally.hits as f64);
        none.requests += requests;
        none.hits += hits;
        none.latency_seconds += tally.latency_seconds;
        if **name != *NONE {
            let latency_seconds = tally.latency_seconds;
            arms.push(ArmFacts { name: Arc::clone(name), estimated: false, requests, hits, latency_seconds });
        }
    }
    none.hits = (none.hits - account.saved_requests).clamp(0.0, none.requests);
    none.latency_seconds += account.saved_seconds;
    arms.push(none);
    arms
}

const NONE: &str = "none";

#[cfg(test)]
mod tests {
    use super::{super::tally::Tally, *};

    #[test]
    fn none_is_what_all_requests_would_have_met() {
        let mut tallies = Tallies::default();
        let served = Tally { requests: 100, hits: 60, latency_seconds: 4.0, ..Tally::default() };
        tallies.arms.insert(Arc::from("nearcast"), served);
        tallies
            .arms
            .insert(Arc::from("none"), Tally { requests: 10, hits: 1, latency_seconds: 1.0, ..Tally::default() });
        let account = Account { saved_requests: 12.5, saved_seconds: 3.0, ..Account::default() };
        let measured = ArmFacts {
            name: Arc::from("nearcast"),
            estimated: false,
            requests: 100.0,
            hits: 60.0,
            latency_seconds: 4.0,
        };
        let none =
            ArmFacts { name: Arc::from("none"), estimated: true, requests: 110.0, hits: 48.5, latency_seconds: 8.0 };
        assert_eq!(arms(&tallies, &account), [measured, none]);
    }
}
