//! The account: every number needed to explain what the engine did and why.

use std::sync::Arc;

use serde::Serialize;

use super::{candidates::CandidateSource, trust::Trust};

/// What the engine did so far. Counters start at zero when the engine is made or its arm is reset. Fields ending in
/// `_bytes` or `_seconds` are in those units, all others are counts or shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Requests observed.
    pub requests: u64,
    /// Of those, answered by the node itself.
    pub hits: u64,
    /// Of those, failed: nothing was learnt from them.
    pub errors: u64,
    /// Reports that named a node or order that is not known.
    pub unknown: u64,
    /// Bytes fetched on demand.
    pub demand_bytes: u64,
    /// Orders issued.
    pub issued: u64,
    /// Bytes asked for by issued orders.
    pub issued_bytes: u64,
    /// Orders used.
    pub used: u64,
    /// Orders that demand overtook.
    pub late: u64,
    /// Orders that ended unused.
    pub unused: u64,
    /// Orders that were not carried out: refused, failed, expired, already there, or lost with their node.
    pub void: u64,
    /// Orders that were found worth it when their time was over already, and never issued.
    pub overdue: u64,
    /// Bytes fetched by orders that ended unused.
    pub wasted_bytes: u64,
    /// Value expected at issue of the orders that have ended, in seconds.
    pub expected_value_seconds: f64,
    /// Value that those orders turned out to have, in seconds.
    pub realised_value_seconds: f64,
    /// Requests that were hits and would have been misses without prefetching, less those the other way round, as the
    /// ghosts say.
    pub saved_requests: f64,
    /// The latency that this saved.
    pub saved_seconds: f64,
    /// Labels that the gate learnt from.
    pub labels: u64,
    /// Of those, used.
    pub labels_used: u64,
    /// How claimed probabilities of issued orders compare with what became of them.
    pub calibration: Calibration,
    /// The same for every label, issued or not, before the gate learnt from it.
    pub label_calibration: Calibration,
    /// By source; an order that several sources agreed on counts for each.
    pub sources: BySource,
    /// Why candidates were not issued.
    pub refusals: Refusals,
    /// The budget.
    pub budget: BudgetAccount,
    /// Sizes of tables and how often their bounds were hit.
    pub bounds: Bounds,
    /// By node, in order of their numbers.
    pub nodes: Vec<NodeAccount>,
}

/// How claimed probabilities compare with what happened, in ten equal bins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// The bins, from improbable to probable.
    pub bins: [CalibrationBin; BINS],
}

/// One bin of a [`Calibration`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// How many fell in.
    pub count: u64,
    /// The sum of their claimed probabilities.
    pub claimed: f64,
    /// How many came true.
    pub used: u64,
}

impl Calibration {
    /// Records a claim and what happened.
    pub(super) fn record(&mut self, claimed: f32, used: bool) {
        let bin = &mut self.bins[((claimed * BINS as f32) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.claimed += f64::from(claimed);
        bin.used += u64::from(used);
    }

    /// How many claims were recorded.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.count).sum()
    }

    /// Expected calibration error: the mean distance of claim and truth over bins, by count. Zero without claims.
    pub fn error(&self) -> f64 {
        let count = self.count();
        let distance: f64 = self.bins.iter().map(|bin| (bin.claimed - bin.used as f64).abs()).sum();
        if count > 0 { distance / count as f64 } else { 0.0 }
    }
}

const BINS: usize = 10;

/// What came of each source's candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BySource([SourceAccount; CandidateSource::ALL.len()]);

impl BySource {
    /// One source's account.
    pub fn of(&self, source: CandidateSource) -> &SourceAccount {
        &self.0[source as usize]
    }

    pub(super) fn of_mut(&mut self, source: CandidateSource) -> &mut SourceAccount {
        &mut self.0[source as usize]
    }
}

impl Serialize for BySource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(CandidateSource::ALL.iter().map(|source| (source, self.of(*source))))
    }
}

/// What came of one source's candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SourceAccount {
    /// Candidates weighed, after those held or ordered already were left out.
    pub weighed: u64,
    /// Orders issued.
    pub issued: u64,
    /// Of those, used.
    pub used: u64,
    /// Of those, overtaken by demand.
    pub late: u64,
    /// Of those, ended unused.
    pub unused: u64,
}

/// Why candidates were not issued, in the order in which they are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// The size is unknown, because nobody has asked for the key yet.
    pub unknown_size: u64,
    /// The node holds it.
    pub held: u64,
    /// It is ordered already.
    pub ordered: u64,
    /// It was refused a moment ago and has not got better.
    pub recently_refused: u64,
    /// It is not worth its bytes.
    pub worthless: u64,
    /// The budget is better spent on others.
    pub below_bar: u64,
    /// The controller has turned the node down.
    pub turned_down: u64,
    /// The arm issues nothing.
    pub arm: u64,
    /// The byte budget is used up.
    pub budget: u64,
    /// The node's bytes per second are used up.
    pub bytes_per_second: u64,
}

/// The state of the byte budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BudgetAccount {
    /// Granted so far.
    pub granted_bytes: f64,
    /// What would have been fetched so far without prefetching, as the ghosts say.
    pub baseline_bytes: f64,
    /// What was fetched beyond that.
    pub extra_bytes: f64,
    /// Left to spend.
    pub balance_bytes: f64,
    /// The least value per byte of expected waste that is issued.
    pub bar_seconds_per_byte: f64,
}

/// Sizes of tables, and how often their bounds were hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Keys known.
    pub keys: usize,
    /// Keys forgotten because of `keys_max`.
    pub keys_forgotten: u64,
    /// Clients remembered.
    pub clients: usize,
    /// Clients forgotten because of `clients_max`.
    pub clients_forgotten: u64,
    /// Segments past the first in the cache map.
    pub segments: usize,
    /// Segments left out of the cache map because of `segments_max`.
    pub segments_refused: u64,
    /// Orders whose end is awaited.
    pub outstanding: usize,
    /// Orders given up because of `outstanding_max`.
    pub outstanding_given_up: u64,
    /// Candidates whose label is awaited.
    pub labels: usize,
    /// Candidates not followed because of `labels_max`.
    pub labels_refused: u64,
    /// Planned orders dropped because of `queue_max`.
    pub queue_dropped: u64,
    /// Nodes turned away because of `nodes_max`.
    pub nodes_refused: u64,
    /// Regions that share the last number because of `regions_max`.
    pub regions_shared: u64,
    /// Keys with successors in the same client's session.
    pub client_keys: usize,
    /// Keys with successors in a region's stream.
    pub region_keys: usize,
    /// Keys and successors that made room in either table.
    pub coaccess_replaced: u64,
    /// Numbered keys left alone because of `families_max`.
    pub families_refused: u64,
}

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeAccount {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is there.
    pub alive: bool,
    /// Requests it answered.
    pub requests: u64,
    /// How many of its requests a prefetched segment stays for, unused.
    pub stay_requests: u64,
    /// How long a prefetch takes from order to arrival.
    pub transfer_seconds: f64,
    /// What room costs: seconds of latency per byte put in early.
    pub harm_seconds_per_byte: f64,
    /// The controller's state.
    pub trust: Trust,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_error_is_the_mean_distance_of_claim_and_truth() {
        let mut calibration = Calibration::default();
        for step in 0..100 {
            calibration.record(0.25, step % 4 == 0);
            calibration.record(0.9, step % 2 == 0);
        }
        assert!((calibration.error() - 0.2).abs() < 1e-6);
    }
}
