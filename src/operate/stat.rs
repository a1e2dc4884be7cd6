//! Readings of what nodes say: counts, rates and ratios, by node and in all.

use std::{collections::BTreeMap, time::Duration};

use nearcast_cache_node::latency::LatencySnapshot;
use nearcast_datasets::{Map, ServedFrom};
use serde::Serialize;

use super::{
    Fleet, Problem, ratio,
    status::{Counts, NodeStatus},
};

/// One reading of all nodes: the document of `nearcast stat --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Reading {
    schema: &'static str,
    /// Whether counts are since the reading before; else they are since each node started.
    pub(super) is_interval: bool,
    pub(super) nodes: Vec<Stat>,
    /// All nodes together.
    pub(super) total: Stat,
    /// Nodes that could not be read.
    pub(crate) failed: Vec<Problem>,
}

/// What one node, or all, did in a time. Counts are of that time; what is held and under way is of its end.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Stat {
    pub(super) node: String,
    pub(super) region: String,
    /// The time.
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    hits: u64,
    pub(super) hit_ratio: Option<f64>,
    hit_bytes: u64,
    pub(super) byte_hit_ratio: Option<f64>,
    sent_bytes: u64,
    pub(super) sent_bytes_per_second: f64,
    pub(super) served: Counts,
    pub(super) misses: Counts,
    pub(super) responses: Counts,
    /// By who answered, and of `all`.
    pub(super) latency: BTreeMap<String, Latency>,
    #[serde(skip)]
    histograms: BTreeMap<String, LatencySnapshot>,
    pub(super) held: Held,
    pub(super) prefetch: Prefetch,
    pub(super) origin: Sources,
    pub(super) peers: Sources,
    pub(super) purges: u64,
    pub(super) purged_objects: u64,
    pub(super) warmed_bytes: u64,
    pub(super) evicted_segments: u64,
    /// Requests that failed, payloads that were damaged or gone, lines and rows that were lost: what should be zero.
    pub(super) errors: Counts,
    pub(super) connections: u64,
    /// Nodes whose predictor listens.
    pub(super) linked_nodes: u64,
}

/// Latencies of some requests; absent where there were none, or they took longer than can be told.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(super) count: u64,
    pub(super) mean_ms: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// What is held, of how much.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Held {
    pub(super) bytes: u64,
    pub(super) capacity_bytes: u64,
    pub(super) segments: u64,
    pub(super) segments_max: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_capacity_bytes: u64,
}

/// The prefetch account.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Prefetch {
    /// Segments that the predictor ordered.
    pub(super) issued: u64,
    pub(super) landed: u64,
    pub(super) landed_bytes: u64,
    pub(super) used: u64,
    pub(super) used_bytes: u64,
    pub(super) late: u64,
    /// Evicted or gone stale before anybody asked.
    pub(super) unused: u64,
    /// Of those, the evicted.
    pub(super) unused_bytes: u64,
}

/// The origin, or peers, as sources.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sources {
    /// Requests to the origin; of peers it is not counted.
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// Payload bytes that they gave.
    pub(super) bytes: u64,
    /// Requests under way to the origin; peers that are known.
    pub(super) now: u64,
    /// Peers that are not asked at present, because they failed a moment ago.
    pub(super) skipped: u64,
}

/// Reads nodes, again and again.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    before: Map<String, NodeStatus>,
    has_read: bool,
}

impl Reader {
    /// Reads all nodes. The first reading counts from each node's start, later ones from the reading before.
    pub(crate) async fn read(&mut self, fleet: &Fleet) -> Reading {
        let (mut nodes, mut failed) = (Vec::new(), Vec::new());
        for (node, answer) in fleet.ask::<NodeStatus>("/_nearcast/status", PATIENCE).await {
            match answer {
                Ok(status) => {
                    nodes.push(Stat::of(&status, self.before.get(&node.url)));
                    self.before.insert(node.url, status);
                }
                Err(problem) => failed.push(problem),
            }
        }
        let is_interval = std::mem::replace(&mut self.has_read, true);
        let total = Stat::total(&nodes);
        Reading { schema: "nearcast.stat/1", is_interval, nodes, total, failed }
    }
}

impl Stat {
    /// What happened between two statuses of a node. One that started anew meanwhile counts from its start.
    fn of(now: &NodeStatus, before: Option<&NodeStatus>) -> Self {
        let fresh = NodeStatus::default();
        let before = before.filter(|before| before.uptime_seconds <= now.uptime_seconds).unwrap_or(&fresh);
        let since = |count: fn(&NodeStatus) -> u64| count(now).saturating_sub(count(before));
        let counts = |of: fn(&NodeStatus) -> &Counts| -> Counts {
            let earlier = |word: &String| of(before).get(word).copied().unwrap_or(0);
            of(now).iter().map(|(word, count)| (word.clone(), count.saturating_sub(earlier(word)))).collect()
        };
        let none = LatencySnapshot::default();
        let histograms = now
            .latency
            .iter()
            .map(|(word, snapshot)| (word.clone(), snapshot.since(before.latency.get(word).unwrap_or(&none))));
        let sent_by = counts(|status| &status.bytes.sent_by);
        let served = counts(|status| &status.served);
        let stat = Self {
            node: now.node.clone(),
            region: now.region.clone(),
            seconds: now.uptime_seconds - before.uptime_seconds,
            requests: since(|status| status.requests),
            hits: since(|status| status.hits),
            hit_bytes: hits().filter_map(|word| sent_by.get(word)).sum(),
            sent_bytes: since(|status| status.bytes.sent),
            misses: counts(|status| &status.misses),
            responses: counts(|status| &status.responses),
            histograms: histograms.collect(),
            held: Held::of(now),
            prefetch: Prefetch::of(&since),
            origin: Sources {
                requests: since(|status| status.origin.requests),
                failures: since(|status| status.origin.failures),
                bytes: since(|status| status.bytes.from_origin),
                now: now.origin.under_way,
                skipped: 0,
            },
            peers: Sources {
                requests: 0,
                failures: since(|status| status.peers.failures),
                bytes: since(|status| status.bytes.from_peers),
                now: now.peers.known,
                skipped: now.peers.skipped,
            },
            purges: since(|status| status.purges.count),
            purged_objects: since(|status| status.purges.objects),
            warmed_bytes: since(|status| status.warmed.bytes),
            evicted_segments: since(|status| status.segments.evicted),
            errors: errors(&since, &served),
            connections: now.front.connections,
            linked_nodes: u64::from(now.link.connected),
            served,
            ..Self::default()
        };
        stat.derived()
    }

    /// All nodes together: counts and rates add up, ratios and percentiles are of the whole.
    fn total(nodes: &[Self]) -> Self {
        let mut total = Self { node: "all".to_owned(), ..Self::default() };
        for node in nodes {
            total.seconds = total.seconds.max(node.seconds);
            total.requests_per_second += node.requests_per_second;
            total.sent_bytes_per_second += node.sent_bytes_per_second;
            total.requests += node.requests;
            total.hits += node.hits;
            total.hit_bytes += node.hit_bytes;
            total.sent_bytes += node.sent_bytes;
            for (into, from) in [
                (&mut total.served, &node.served),
                (&mut total.misses, &node.misses),
                (&mut total.responses, &node.responses),
                (&mut total.errors, &node.errors),
            ] {
                from.iter().for_each(|(word, count)| *into.entry(word.clone()).or_default() += count);
            }
            for (word, histogram) in &node.histograms {
                total.histograms.entry(word.clone()).or_default().merge(histogram);
            }
            total.held.add(&node.held);
            total.prefetch.add(&node.prefetch);
            total.origin.add(&node.origin);
            total.peers.add(&node.peers);
            total.purges += node.purges;
            total.purged_objects += node.purged_objects;
            total.warmed_bytes += node.warmed_bytes;
            total.evicted_segments += node.evicted_segments;
            total.connections += node.connections;
            total.linked_nodes += node.linked_nodes;
        }
        let (requests, bytes) = (total.requests_per_second, total.sent_bytes_per_second);
        Self { requests_per_second: requests, sent_bytes_per_second: bytes, ..total.derived() }
    }

    /// What follows from the counts.
    fn derived(mut self) -> Self {
        let per_second = |count: u64| if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 };
        self.requests_per_second = per_second(self.requests);
        self.sent_bytes_per_second = per_second(self.sent_bytes);
        self.hit_ratio = ratio(self.hits, self.requests);
        self.byte_hit_ratio = ratio(self.hit_bytes, self.sent_bytes);
        let mut all = LatencySnapshot::default();
        self.histograms.values().for_each(|histogram| all.merge(histogram));
        self.latency = self.histograms.iter().map(|(word, histogram)| (word.clone(), Latency::of(histogram))).collect();
        self.latency.insert("all".to_owned(), Latency::of(&all));
        self
    }
}

impl Latency {
    fn of(histogram: &LatencySnapshot) -> Self {
        let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
        Self {
            count: histogram.count,
            mean_ms: ratio(histogram.sum_us, histogram.count).map(|us| us / 1e3),
            p50_ms: histogram.quantile(0.5).map(millis),
            p99_ms: histogram.quantile(0.99).map(millis),
        }
    }
}

impl Held {
    fn of(now: &NodeStatus) -> Self {
        Self {
            bytes: now.held.bytes,
            capacity_bytes: now.held.capacity_bytes,
            segments: now.held.segments,
            segments_max: now.held.entries_max,
            memory_bytes: now.held.memory_bytes,
            memory_capacity_bytes: now.held.memory_capacity_bytes,
        }
    }

    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.capacity_bytes += other.capacity_bytes;
        self.segments += other.segments;
        self.segments_max += other.segments_max;
        self.memory_bytes += other.memory_bytes;
        self.memory_capacity_bytes += other.memory_capacity_bytes;
    }
}

impl Prefetch {
    fn of(since: &impl Fn(fn(&NodeStatus) -> u64) -> u64) -> Self {
        Self {
            issued: since(|status| status.segments.prefetch.ordered),
            landed: since(|status| status.segments.prefetch.landed),
            landed_bytes: since(|status| status.segments.prefetch.landed_bytes),
            used: since(|status| status.segments.prefetch.used),
            used_bytes: since(|status| status.segments.prefetch.used_bytes),
            late: since(|status| status.segments.prefetch.late),
            unused: since(|status| status.segments.prefetch.evicted_unused + status.segments.prefetch.expired_unused),
            unused_bytes: since(|status| status.segments.prefetch.evicted_unused_bytes),
        }
    }

    fn add(&mut self, other: &Self) {
        self.issued += other.issued;
        self.landed += other.landed;
        self.landed_bytes += other.landed_bytes;
        self.used += other.used;
        self.used_bytes += other.used_bytes;
        self.late += other.late;
        self.unused += other.unused;
        self.unused_bytes += other.unused_bytes;
    }
}

impl Sources {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.bytes += other.bytes;
        self.now += other.now;
        self.skipped += other.skipped;
    }
}

fn errors(since: &impl Fn(fn(&NodeStatus) -> u64) -> u64, served: &Counts) -> Counts {
    let errors = [
        ("requests_failed", served.get("error").copied().unwrap_or(0)),
        ("requests_malformed", since(|status| status.front.bad_requests)),
        ("payloads_damaged", since(|status| status.repairs.payloads_damaged)),
        ("payloads_gone", since(|status| status.repairs.payloads_gone)),
        ("journal_lost", since(|status| status.repairs.journal_dropped)),
        ("log_lost", since(|status| status.repairs.log_dropped + status.repairs.log_failed)),
        ("access_log_lost", since(|status| status.repairs.access_log_dropped + status.repairs.access_log_failed)),
        ("reports_lost", since(|status| status.link.reports_dropped)),
    ];
    errors.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

/// Outcomes that are hits.
fn hits() -> impl Iterator<Item = &'static str> {
    ServedFrom::ALL.into_iter().filter(|served| served.is_hit()).map(ServedFrom::as_str)
}

/// For a node to say how it does.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uptime_seconds: f64, requests: u64, hits: u64) -> NodeStatus {
        let mut status = NodeStatus { uptime_seconds, requests, hits, ..NodeStatus::default() };
        status.bytes.sent = requests * 100;
        status.bytes.sent_by =
            [("memory".to_owned(), hits * 100), ("origin".to_owned(), (requests - hits) * 100)].into();
        let buckets = vec![(1_000, hits), (50_000, requests - hits)];
        let memory = LatencySnapshot { count: requests, sum_us: requests * 900, buckets };
        status.latency = [("memory".to_owned(), memory)].into();
        status
    }

    #[test]
    fn readings_are_of_the_time_between_them() {
        let stat = Stat::of(&status(20.0, 300, 250), Some(&status(10.0, 100, 100)));
        assert_eq!((stat.requests, stat.requests_per_second, stat.hit_ratio), (200, 20.0, Some(0.75)));
        assert_eq!((stat.byte_hit_ratio, stat.sent_bytes_per_second), (Some(0.75), 2_000.0));
        assert_eq!((stat.latency["all"].p50_ms, stat.latency["all"].p99_ms), (Some(1.0), Some(50.0)));
        let idle = Stat::of(&status(20.0, 100, 100), Some(&status(10.0, 100, 100)));
        assert_eq!((idle.requests, idle.hit_ratio, idle.latency["all"].p50_ms), (0, None, None));
    }

    #[test]
    fn a_node_that_started_anew_counts_from_its_start() {
        let stat = Stat::of(&status(2.0, 10, 5), Some(&status(1_000.0, 99, 99)));
        assert_eq!((stat.requests, stat.requests_per_second), (10, 5.0));
    }

    #[test]
    fn totals_add_up_and_their_ratios_are_of_the_whole() {
        let nodes = [Stat::of(&status(10.0, 100, 100), None), Stat::of(&status(20.0, 300, 0), None)];
        let total = Stat::total(&nodes);
        assert_eq!((total.requests, total.requests_per_second, total.hit_ratio), (400, 25.0, Some(0.25)));
        assert_eq!((total.latency["all"].count, total.latency["all"].p50_ms), (400, Some(50.0)));
    }
}
