//! Readings as people look at them.

use std::fmt::Write;

use super::{
    bytes, percent, ratio,
    stat::{Reading, Stat},
    table,
};

impl Reading {
    /// Everything, in tables.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if self.nodes.is_empty() {
            return self.problems();
        }
        let mut tables =
            vec![self.summary(), self.latencies(), self.misses(), self.held(), self.prefetches(), self.sources()];
        tables.extend(self.errors());
        for table in tables {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{table}\n");
        }
        text + &self.problems()
    }

    /// The names of [`Self::rows`].
    pub(crate) fn header() -> String {
        format!(
            "{:<16} {:>9} {:>6} {:>6} {:>12} {:>9} {:>9} {:>9} {:>7} {:>7} {:>9}",
            "node",
            "req/s",
            "hit %",
            "byte %",
            "sent/s",
            "p50 ms",
            "p99 ms",
            "origin/s",
            "errors",
            "full %",
            "prefetch %"
        )
    }

    /// A line for each node, as vmstat has them, and one for all.
    pub(crate) fn rows(&self) -> String {
        let mut text = String::new();
        let all = (self.nodes.len() > 1).then_some(&self.total);
        for stat in self.nodes.iter().chain(all) {
            let _ = writeln!(
                text,
                "{:<16} {:>9.1} {:>6} {:>6} {:>12} {:>9} {:>9} {:>9.1} {:>7} {:>7} {:>9}",
                stat.node,
                stat.requests_per_second,
                percent(stat.hit_ratio),
                percent(stat.byte_hit_ratio),
                bytes(stat.sent_bytes_per_second),
                millis(stat.latency["all"].p50_ms),
                millis(stat.latency["all"].p99_ms),
                stat.per_second(stat.origin.requests),
                stat.errors.values().sum::<u64>(),
                percent(ratio(stat.held.bytes, stat.held.capacity_bytes)),
                percent(ratio(stat.prefetch.used, stat.prefetch.landed)),
            );
        }
        text + &self.problems()
    }

    fn problems(&self) -> String {
        self.failed.iter().map(|problem| problem.text() + "\n").collect()
    }

    /// The nodes and, where there are several, all of them.
    fn stats(&self) -> impl Iterator<Item = &Stat> {
        self.nodes.iter().chain((self.nodes.len() > 1).then_some(&self.total))
    }

    fn summary(&self) -> comfy_table::Table {
        let since = if self.is_interval { "since the last reading" } else { "since its start" };
        let mut table =
            table(["node", "region", since, "requests", "req/s", "hit %", "byte hit %", "sent/s", "p50 ms", "p99 ms"]);
        for stat in self.stats() {
            table.add_row([
                stat.node.clone(),
                stat.region.clone(),
                crate::commands::duration(stat.seconds),
                stat.requests.to_string(),
                format!("{:.1}", stat.requests_per_second),
                percent(stat.hit_ratio),
                percent(stat.byte_hit_ratio),
                bytes(stat.sent_bytes_per_second),
                millis(stat.latency["all"].p50_ms),
                millis(stat.latency["all"].p99_ms),
            ]);
        }
        table
    }

    fn latencies(&self) -> comfy_table::Table {
        let mut table = table(["answered by", "requests", "%", "mean ms", "p50 ms", "p99 ms"]);
        for word in ["memory", "disk", "prefetched", "peer", "origin", "error", "all"] {
            let Some(latency) = self.total.latency.get(word) else { continue };
            table.add_row([
                word.to_owned(),
                latency.count.to_string(),
                percent(ratio(latency.count, self.total.requests)),
                millis(latency.mean_ms),
                millis(latency.p50_ms),
                millis(latency.p99_ms),
            ]);
        }
        table
    }

    fn misses(&self) -> comfy_table::Table {
        let causes: Vec<&String> = self.total.misses.keys().collect();
        let header = ["misses".to_owned()].into_iter().chain(causes.iter().map(|cause| cause.replace('_', " ")));
        let mut table = table(header);
        for stat in self.stats() {
            let counts = causes.iter().map(|cause| stat.misses.get(*cause).copied().unwrap_or(0).to_string());
            table.add_row([stat.node.clone()].into_iter().chain(counts));
        }
        table
    }

    fn held(&self) -> comfy_table::Table {
        let mut table =
            table(["held", "bytes", "of", "%", "in memory", "of", "segments", "of", "evicted", "purged", "warmed"]);
        for stat in self.stats() {
            let held = &stat.held;
            table.add_row([
                stat.node.clone(),
                bytes(held.bytes as f64),
                bytes(held.capacity_bytes as f64),
                percent(ratio(held.bytes, held.capacity_bytes)),
                bytes(held.memory_bytes as f64),
                bytes(held.memory_capacity_bytes as f64),
                held.segments.to_string(),
                held.segments_max.to_string(),
                stat.evicted_segments.to_string(),
                stat.purged_objects.to_string(),
                bytes(stat.warmed_bytes as f64),
            ]);
        }
        table
    }

    fn prefetches(&self) -> comfy_table::Table {
        let mut table = table(["prefetches", "issued", "landed", "used", "late", "unused", "bytes", "used", "unused"]);
        for stat in self.stats() {
            let prefetch = &stat.prefetch;
            table.add_row([
                stat.node.clone(),
                prefetch.issued.to_string(),
                prefetch.landed.to_string(),
                prefetch.used.to_string(),
                prefetch.late.to_string(),
                prefetch.unused.to_string(),
                bytes(prefetch.landed_bytes as f64),
                bytes(prefetch.used_bytes as f64),
                bytes(prefetch.unused_bytes as f64),
            ]);
        }
        table
    }

    fn sources(&self) -> comfy_table::Table {
        let mut table = table([
            "sources",
            "origin req/s",
            "failed",
            "under way",
            "bytes",
            "peers",
            "skipped",
            "failed",
            "bytes",
            "predictor",
        ]);
        for stat in self.stats() {
            table.add_row([
                stat.node.clone(),
                format!("{:.1}", stat.per_second(stat.origin.requests)),
                stat.origin.failures.to_string(),
                stat.origin.now.to_string(),
                bytes(stat.origin.bytes as f64),
                stat.peers.now.to_string(),
                stat.peers.skipped.to_string(),
                stat.peers.failures.to_string(),
                bytes(stat.peers.bytes as f64),
                if stat.linked_nodes > 0 { "connected" } else { "none" }.to_owned(),
            ]);
        }
        table
    }

    /// What should be zero and is not.
    fn errors(&self) -> Option<comfy_table::Table> {
        let words: Vec<&String> =
            self.total.errors.iter().filter(|(_, count)| **count > 0).map(|(word, _)| word).collect();
        if words.is_empty() {
            return None;
        }
        let header = ["errors".to_owned()].into_iter().chain(words.iter().map(|word| word.replace('_', " ")));
        let mut table = table(header);
        for stat in self.stats() {
            let counts = words.iter().map(|word| stat.errors.get(*word).copied().unwrap_or(0).to_string());
            table.add_row([stat.node.clone()].into_iter().chain(counts));
        }
        Some(table)
    }
}

impl Stat {
    fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

fn millis(latency: Option<f64>) -> String {
    latency.map_or_else(
        || "-".to_owned(),
        |millis| if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.0}") },
    )
}
