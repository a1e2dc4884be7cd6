//! How long requests took, by who answered: histograms that are cheap to add to and fine enough to read percentiles from.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nearcast_datasets::ServedFrom;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use serde::{Deserialize, Serialize};

/// Latencies by who answered.
#[derive(Debug, Default)]
pub(crate) struct Latencies([Histogram; ServedFrom::ALL.len()]);

/// Counts by upper edge, without a lock: a reader may see a request in one place and not yet in the other.
struct Histogram {
    /// One more than there are edges: the last is for what took longer.
    counts: [AtomicU64; EDGES_US.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram as it was at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySnapshot {
    /// Requests.
    pub count: u64,
    /// The sum of their latencies, in microseconds.
    pub sum_us: u64,
    /// Upper edge in microseconds and number of requests, for each bucket that has some, shortest first. What took longer
    /// than the last edge has the edge [`u64::MAX`].
    pub buckets: Vec<(u64, u64)>,
}

impl Latencies {
    /// Counts a request.
    pub(crate) fn observe(&self, served: ServedFrom, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let histogram = &self.0[served as usize];
        let bucket = EDGES_US.partition_point(|edge| *edge < us);
        histogram.counts[bucket].fetch_add(1, Ordering::Relaxed);
        histogram.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub(crate) fn snapshot(&self, served: ServedFrom) -> LatencySnapshot {
        let histogram = &self.0[served as usize];
        let edges = EDGES_US.iter().copied().chain([u64::MAX]);
        let counts = histogram.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = edges.zip(counts).filter(|(_, count)| *count > 0).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        LatencySnapshot { count, sum_us: histogram.sum_us.load(Ordering::Relaxed), buckets }
    }
}

impl LatencySnapshot {
    /// What was added since an earlier snapshot of the same histogram. Counts that went back, as after a restart, count
    /// as from zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.count > self.count {
            return self.clone();
        }
        let before = |edge| earlier.buckets.iter().find(|(other, _)| *other == edge).map_or(0, |(_, count)| *count);
        let buckets = self.buckets.iter().map(|(edge, count)| (*edge, count.saturating_sub(before(*edge))));
        let buckets: Vec<_> = buckets.filter(|(_, count)| *count > 0).collect();
        Self {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            buckets,
        }
    }

    /// Adds another histogram to this one.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_us += other.sum_us;
        for (edge, count) in &other.buckets {
            match self.buckets.binary_search_by_key(edge, |(edge, _)| *edge) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*edge, *count)),
            }
        }
    }

    /// The latency that a share of the requests did not exceed: the upper edge of its bucket, so never too short and at
    /// most a quarter too long. `None` without requests, or where it is beyond the last edge.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.buckets.iter().find(|(_, count)| {
            below += count;
            below >= rank
        });
        bucket.filter(|(edge, _)| *edge != u64::MAX).map(|(edge, _)| Duration::from_micros(*edge))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; EDGES_US.len() + 1], sum_us: AtomicU64::new(0) }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("sum_us", &self.sum_us).finish_non_exhaustive()
    }
}

/// Latencies as a metric, with fewer buckets: a family of histograms by `served`.
#[derive(Debug)]
pub(crate) struct LatencyMetric(pub(crate) [LatencySnapshot; ServedFrom::ALL.len()]);

impl LatencyMetric {
    /// Takes a snapshot.
    pub(crate) fn of(latencies: &Latencies) -> Self {
        Self(ServedFrom::ALL.map(|served| latencies.snapshot(served)))
    }
}

impl EncodeMetric for LatencyMetric {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (served, snapshot) in ServedFrom::ALL.iter().zip(&self.0) {
            let mut edges = METRIC_EDGES_US.iter().copied().chain([u64::MAX]).peekable();
            let mut buckets = Vec::new();
            let mut counts = snapshot.buckets.iter().peekable();
            while let Some(edge) = edges.next() {
                let mut count = 0;
                while let Some((_, more)) = counts.next_if(|(upper, _)| *upper <= edge) {
                    count += more;
                }
                let seconds = if edges.peek().is_some() { edge as f64 / 1e6 } else { f64::INFINITY };
                buckets.push((seconds, count));
            }
            let labels = [("served", served.as_str())];
            let mut of_one = encoder.encode_family(&labels)?;
            of_one.encode_histogram::<NoLabelSet>(snapshot.sum_us as f64 / 1e6, snapshot.count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Upper edges: fourteen a decade, from a microsecond to a hundred seconds, so that neighbours are at most a quarter apart.
const EDGES_US: [u64; 113] = edges();

const fn edges() -> [u64; 113] {
    const STEPS: [u64; 14] = [100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600, 700, 800, 900];
    let mut edges = [0; 113];
    let (mut decade, mut at, mut scale) = (0, 0, 1);
    while decade < 8 {
        let mut step = 0;
        while step < STEPS.len() {
            // Below ten microseconds, some edges fall together; a bucket that is never hit does no harm.
            edges[at] = (STEPS[step] * scale).div_ceil(100);
            step += 1;
            at += 1;
        }
        decade += 1;
        scale *= 10;
    }
    edges[112] = 100_000_000;
    edges
}

/// Some of [`EDGES_US`], for the metric.
const METRIC_EDGES_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies_us: &[u64]) -> LatencySnapshot {
        let latencies = Latencies::default();
        latencies_us.iter().for_each(|us| latencies.observe(ServedFrom::Disk, Duration::from_micros(*us)));
        assert_eq!(latencies.snapshot(ServedFrom::Memory), LatencySnapshot::default());
        latencies.snapshot(ServedFrom::Disk)
    }

    #[test]
    fn edges_rise_by_a_quarter_at_most_and_hold_those_of_the_metric() {
        assert!(EDGES_US.is_sorted());
        let pairs = EDGES_US.windows(2).filter(|pair| pair[0] >= 10);
        pairs.for_each(|pair| assert!(pair[1] * 4 <= pair[0] * 5 + 4, "{pair:?}"));
        assert!(METRIC_EDGES_US.iter().all(|edge| EDGES_US.contains(edge)));
        assert_eq!((EDGES_US[0], EDGES_US[112]), (1, 100_000_000));
    }

    #[test]
    fn quantiles_are_not_too_short_and_at_most_a_quarter_too_long() {
        let latencies: Vec<u64> = (1..=1_000).map(|number| number * 37).collect();
        let snapshot = of(&latencies);
        assert_eq!((snapshot.count, snapshot.sum_us), (1_000, latencies.iter().sum()));
        for (share, exact) in [(0.5, 500 * 37), (0.99, 990 * 37), (1.0, 37_000)] {
            let found = snapshot.quantile(share).unwrap().as_micros();
            assert!((exact..=exact * 5 / 4).contains(&found), "{share}: {found} for {exact}");
        }
        assert_eq!(LatencySnapshot::default().quantile(0.5), None);
        assert_eq!(of(&[u64::MAX]).quantile(0.5), None, "beyond the last edge");
        assert_eq!(of(&[0]).quantile(0.5), Some(Duration::from_micros(1)));
    }

    #[test]
    fn snapshots_subtract_and_add_up() {
        let (before, after) = (of(&[10, 500]), of(&[10, 500, 500, 90_000]));
        let between = after.since(&before);
        assert_eq!(between, of(&[500, 90_000]));
        assert_eq!(before.since(&after), before, "a restart begins from zero");
        let mut sum = between;
        sum.merge(&before);
        assert_eq!(sum, after);
    }
}
