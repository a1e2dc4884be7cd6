//! What is counted once the warm-up is over.

use std::time::Duration;

use hdrhistogram::Histogram;
use nearcast_cache_node::core::{MissCause, MissCauses};
use nearcast_datasets::Timestamp;
use nearcast_proto::message::OutcomeKind;

use super::{hours::Hours, timeline::Timeline};

/// Counts over the requests of one cell.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) misses: u64,
    pub(super) bytes: u64,
    pub(super) miss_bytes: u64,
    pub(super) miss_causes: MissCauses,
    pub(super) misses_elsewhere: u64,
    pub(super) origin_bytes: u64,
    pub(super) peer_bytes: u64,
    pub(super) prefetch: PrefetchTally,
    pub(super) timeline: Timeline,
    pub(super) hours: Hours,
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
    /// The region of who asked.
    pub(super) region: usize,
    pub(super) bytes: u64,
    pub(super) miss_bytes: u64,
    pub(super) cause: Option<MissCause>,
    pub(super) latency: Duration,
    /// Whether another node held what was missed.
    pub(super) is_elsewhere: bool,
}

impl Tally {
    /// Nothing counted yet of what happens in so many regions from `start` to `end`.
    pub(super) fn new(regions: usize, start: Timestamp, end: Timestamp) -> Self {
        Self {
            requests: 0,
            misses: 0,
            bytes: 0,
            miss_bytes: 0,
            miss_causes: MissCauses::default(),
            misses_elsewhere: 0,
            origin_bytes: 0,
            peer_bytes: 0,
            prefetch: PrefetchTally::default(),
            timeline: Timeline::new(start, end),
            hours: Hours::new(regions),
            latency_sum: Duration::ZERO,
            latencies_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constant and legal"),
        }
    }

    pub(super) fn record(&mut self, now: Timestamp, felt: &Felt) {
        let slice = self.timeline.at(now);
        slice.requests += 1;
        slice.misses += u64::from(felt.cause.is_some());
        self.requests += 1;
        self.bytes += felt.bytes;
        self.miss_bytes += felt.miss_bytes;
        if let Some(cause) = felt.cause {
            self.misses += 1;
            self.misses_elsewhere += u64::from(felt.is_elsewhere);
            self.miss_causes.record(cause);
        }
        self.hours.record(now, felt.region, felt.latency, felt.cause.is_some());
        self.latency_sum += felt.latency;
        self.latencies_us.saturating_record(u64::try_from(felt.latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn record_fetch(&mut self, now: Timestamp, bytes: u64, is_from_peer: bool) {
        let total = if is_from_peer { &mut self.peer_bytes } else { &mut self.origin_bytes };
        *total += bytes;
        self.timeline.at(now).fetched_bytes += bytes;
    }

    pub(super) fn record_outcome(&mut self, now: Timestamp, kind: OutcomeKind) {
        let slice = self.timeline.at(now);
        let (total, part) = match kind {
            OutcomeKind::Used => (&mut self.prefetch.used, &mut slice.used),
            OutcomeKind::Late => (&mut self.prefetch.late, &mut slice.late),
            OutcomeKind::EvictedUnused | OutcomeKind::Expired => (&mut self.prefetch.unused, &mut slice.unused),
        };
        *total += 1;
        *part += 1;
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
pub(super) const LATENCY_US_MAX: u64 = 3_600_000_000;
