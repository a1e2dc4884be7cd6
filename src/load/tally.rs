//! Counts what clients felt.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// From sending to the last byte.
    pub(super) latency: Duration,
    /// Body bytes read.
    pub(super) bytes: u64,
    /// What the node said about the answer.
    pub(super) said: CacheStatus,
    /// What went wrong, in a few words; `None` for a good answer.
    pub(super) failure: Option<String>,
}

/// The node's `Cache-Status`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheStatus {
    /// Whether the node itself held what was asked for.
    pub(super) is_hit: bool,
    /// Who answered: memory, disk, prefetched, peer or origin.
    pub(super) detail: Option<String>,
    /// Why the node could not.
    pub(super) cause: Option<String>,
}

/// Counts over many requests.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    counts: Counts,
    micros: Histogram<u64>,
}

/// What clients felt, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counts {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Of those, answered as they should be.
    pub(crate) answered: u64,
    /// Of the answered, from what the node held.
    pub(crate) hits: u64,
    /// Of the answered, from elsewhere.
    pub(crate) misses: u64,
    /// Of the hits, those that were the first use of something prefetched.
    pub(crate) prefetched: u64,
    /// Hits per answered request.
    pub(crate) hit_ratio: f64,
    /// Body bytes read.
    pub(crate) bytes: u64,
    /// The answered by who answered: memory, disk, prefetched, peer, origin.
    pub(crate) served: BTreeMap<String, u64>,
    /// The misses by their cause.
    pub(crate) miss_causes: BTreeMap<String, u64>,
    /// The requests that failed, by what went wrong.
    pub(crate) errors: BTreeMap<String, u64>,
    /// From sending to the last byte, of the answered.
    pub(crate) latency_ms: Latency,
}

/// Quantiles in milliseconds, within 0.1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { counts: Counts::default(), micros: histogram() }
    }

    pub(super) fn add(&mut self, ended: Ended) {
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.bytes += ended.bytes;
        if let Some(failure) = ended.failure {
            *counts.errors.entry(failure).or_default() += 1;
            return;
        }
        counts.answered += 1;
        if ended.said.is_hit {
            counts.hits += 1;
        } else {
            counts.misses += 1;
            if let Some(cause) = ended.said.cause {
                *counts.miss_causes.entry(cause).or_default() += 1;
            }
        }
        if let Some(detail) = ended.said.detail {
            counts.prefetched += u64::from(ended.said.is_hit && detail == "prefetched");
            *counts.served.entry(detail).or_default() += 1;
        }
        self.micros.saturating_record(u64::try_from(ended.latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds another tally's requests to this one's.
    pub(super) fn merge(&mut self, other: &Self) {
        let (into, from) = (&mut self.counts, &other.counts);
        into.requests += from.requests;
        into.answered += from.answered;
        into.hits += from.hits;
        into.misses += from.misses;
        into.prefetched += from.prefetched;
        into.bytes += from.bytes;
        for (into, from) in [
            (&mut into.served, &from.served),
            (&mut into.miss_causes, &from.miss_causes),
            (&mut into.errors, &from.errors),
        ] {
            for (name, count) in from {
                *into.entry(name.clone()).or_default() += count;
            }
        }
        self.micros.add(&other.micros).expect("all histograms have the same bounds");
    }

    pub(super) fn finish(self) -> Counts {
        let hit_ratio = self.counts.hits as f64 / self.counts.answered.max(1) as f64;
        Counts { hit_ratio, latency_ms: latency(&self.micros), ..self.counts }
    }
}

impl CacheStatus {
    /// Reads `Cache-Status`; of several caches, the last is nearest to the client.
    pub(super) fn parse(header: &str) -> Self {
        let mut status = Self::default();
        let nearest = header.rsplit(',').next().unwrap_or_default();
        for parameter in nearest.split(';').skip(1).map(str::trim) {
            match parameter.split_once('=') {
                None if parameter == "hit" => status.is_hit = true,
                Some(("detail", detail)) => status.detail = Some(detail.trim_matches('"').to_owned()),
                Some(("cause", cause)) => status.cause = Some(cause.trim_matches('"').to_owned()),
                _ => {}
            }
        }
        status
    }
}

/// A histogram of microseconds up to two minutes.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are sound")
}

/// The quantiles of a histogram of microseconds.
pub(super) fn latency(micros: &Histogram<u64>) -> Latency {
    let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
    Latency { mean: micros.mean() / 1e3, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: micros.max() as f64 / 1e3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_caches_word_counts() {
        let check = |header: &str, is_hit, detail: Option<&str>, cause: Option<&str>| {
            let expected = CacheStatus { is_hit, detail: detail.map(str::to_owned), cause: cause.map(str::to_owned) };
            assert_eq!(CacheStatus::parse(header), expected, "{header}");
        };
        check("nearcast; hit; detail=prefetched", true, Some("prefetched"), None);
        check("nearcast; fwd=miss; detail=origin; cause=first", false, Some("origin"), Some("first"));
        check("other; hit, nearcast;fwd=stale;detail=\"peer\"", false, Some("peer"), None);
        check("", false, None, None);
        check("nearcast", false, None, None);
    }

    #[test]
    fn tallies_add_up() {
        let ended = |micros, said: &str, failure: Option<&str>| Ended {
            latency: Duration::from_micros(micros),
            bytes: 10,
            said: CacheStatus::parse(said),
            failure: failure.map(str::to_owned),
        };
        let (mut one, mut two) = (Tally::new(), Tally::new());
        one.add(ended(1_000, "nearcast; hit; detail=prefetched", None));
        one.add(ended(9_000_000, "", Some("timeout")));
        two.add(ended(3_000, "nearcast; fwd=miss; detail=origin; cause=first", None));
        one.merge(&two);
        let counts = one.finish();
        assert_eq!((counts.requests, counts.answered, counts.hits, counts.misses, counts.prefetched), (3, 2, 1, 1, 1));
        assert_eq!((counts.bytes, counts.errors["timeout"], counts.miss_causes["first"]), (30, 1, 1));
        assert!((counts.hit_ratio - 0.5).abs() < 1e-9);
        let Latency { p50, max, .. } = counts.latency_ms;
        assert!((p50 - 1.0).abs() < 0.01 && (max - 3.0).abs() < 0.01, "a failure's time is no latency: {p50} {max}");
    }
}
