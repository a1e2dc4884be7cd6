//! What is counted once the warm-up is over.

use std::time::Duration;

use hdrhistogram::Histogram;
use nearcast_cache_node::core::{MissCause, MissCauses};
use nearcast_proto::message::OutcomeKind;

/// Counts over the requests of one cell.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) misses: u64,
    pub(super) bytes: u64,
    pub(super) miss_bytes: u64,
    pub(super) miss_causes: MissCauses,
    pub(super) origin_bytes: u64,
    pub(super) peer_bytes: u64,
    pub(super) prefetch: PrefetchTally,
    latency_sum: Duration,
    latencies_us: Histogram<u64>,
}

/// Counts over prefetched segments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PrefetchTally {
    pub(super) issued: u64,
    pub(super) landed: u64,
    pub(super) used: u64,
    pub(super) late: u64,
    pub(super) unused: u64,
    pub(super) bytes: u64,
}

/// How one request went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Felt {
    pub(super) bytes: u64,
    pub(super) miss_bytes: u64,
    pub(super) cause: Option<MissCause>,
    pub(super) latency: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: 0,
            misses: 0,
            bytes: 0,
            miss_bytes: 0,
            miss_causes: MissCauses::default(),
            origin_bytes: 0,
            peer_bytes: 0,
            prefetch: PrefetchTally::default(),
            latency_sum: Duration::ZERO,
            latencies_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constant and legal"),
        }
    }
}

impl Tally {
    pub(super) fn record(&mut self, felt: &Felt) {
        self.requests += 1;
        self.bytes += felt.bytes;
        self.miss_bytes += felt.miss_bytes;
        if let Some(cause) = felt.cause {
            self.misses += 1;
            self.miss_causes.record(cause);
        }
        self.latency_sum += felt.latency;
        self.latencies_us.saturating_record(u64::try_from(felt.latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn record_outcome(&mut self, kind: OutcomeKind) {
        match kind {
            OutcomeKind::Used => self.prefetch.used += 1,
            OutcomeKind::Late => self.prefetch.late += 1,
            OutcomeKind::EvictedUnused | OutcomeKind::Expired => self.prefetch.unused += 1,
        }
    }

    pub(super) fn latency_ms_mean(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.latency_sum.as_secs_f64() * 1e3 / self.requests as f64 }
    }

    pub(super) fn latency_ms(&self, quantile: f64) -> f64 {
        self.latencies_us.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Share of the requests that were answered within each latency, ascending.
    pub(super) fn latency_curve_ms(&self) -> Vec<(f64, f64)> {
        let total = self.requests.max(1) as f64;
        let mut below = 0;
        let step = |value: hdrhistogram::iterators::IterationValue<u64>| {
            below += value.count_at_value();
            (value.value_iterated_to() as f64 / 1e3, below as f64 / total)
        };
        self.latencies_us.iter_recorded().map(step).collect()
    }
}

/// An hour; no fetch of the log should take longer, and one that does counts as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
