//! What a play came to: one document, and its text.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use serde::Serialize;

use super::{
    LoadConfig,
    arms::{Counters, OriginCounts, PrefetchCounts},
    cluster::Cluster,
    play::{Played, WRONG_CONTENT, WRONG_LENGTH},
    tally::{Counts, Tally, latency},
};

/// The document of `nearcast load --json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Names this document's form: `nearcast.load/1`.
    schema: &'static str,
    log: String,
    /// Log seconds per second.
    speed: f64,
    /// Requests of one instant were spread over so many log seconds, the unit of the log's clock.
    spread_seconds: f64,
    skip: u64,
    limit: Option<u64>,
    /// Whether bodies were compared with what the origin serves.
    verify: bool,
    concurrency: usize,
    /// One for each time that the log was played.
    arms: Vec<ArmReport>,
}

/// One play.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ArmReport {
    /// The arm; null when the predictor was left alone.
    arm: Option<String>,
    /// Whether the user ended it early.
    interrupted: bool,
    elapsed_seconds: f64,
    requests_per_second: f64,
    /// Requests sent more than 20 ms after they were due: with many, the load was lighter than the log.
    late_sends: u64,
    /// How late requests were sent, 99th percentile.
    lateness_ms_p99: f64,
    total: Counts,
    nodes: Vec<NodeReport>,
    /// What the origin served meanwhile; null when it could not be asked.
    origin: Option<OriginCounts>,
    /// What became of prefetched segments; null when a node could not be asked.
    prefetch: Option<PrefetchCounts>,
}

/// One node's part of a play.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeReport {
    name: String,
    region: String,
    url: String,
    #[serde(flatten)]
    counts: Counts,
}

impl Report {
    pub(super) fn new(config: &LoadConfig, speed: f64, spread_seconds: f64, arms: Vec<ArmReport>) -> Self {
        Self {
            schema: "nearcast.load/1",
            log: config.log.to_string(),
            speed,
            spread_seconds,
            skip: config.skip,
            limit: config.limit,
            verify: config.verify,
            concurrency: config.concurrency,
            arms,
        }
    }

    /// Whether every play had good answers and none of them was wrong.
    pub(crate) fn is_sound(&self) -> bool {
        self.arms.iter().all(|arm| {
            let wrong = |failure: &str| arm.total.errors.contains_key(failure);
            arm.total.answered > 0 && !wrong(WRONG_CONTENT) && !wrong(WRONG_LENGTH)
        })
    }

    /// The report for people: arms side by side, then nodes.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} played {}× as fast", self.log, self.speed);
        if self.verify {
            text.push_str(", every body compared with the origin's");
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "\n\n{}\n\n{}\n", self.arms_table(), self.nodes_table());
        for arm in &self.arms {
            let share = arm.late_sends as f64 / arm.total.requests.max(1) as f64;
            if share > LATE_SHARE_NOTED {
                let name = arm.name();
                let _ = writeln!(
                    text,
                    "{name}: {:.1} % of the requests were sent late; a lower --speed or a higher --concurrency fits better",
                    share * 100.0
                );
            }
            if arm.interrupted {
                let _ = writeln!(text, "{}: interrupted", arm.name());
            }
        }
        text
    }

    fn arms_table(&self) -> Table {
        let mut table = table(["".to_owned()].into_iter().chain(self.arms.iter().map(ArmReport::name)));
        let mut row = |name: &str, value: &dyn Fn(&ArmReport) -> Option<String>| {
            let values = self.arms.iter().map(|arm| value(arm).unwrap_or_else(|| "-".to_owned()));
            table.add_row([name.to_owned()].into_iter().chain(values));
        };
        let whole = |count: u64| Some(indicatif::HumanCount(count).to_string());
        let bytes = |count: u64| Some(indicatif::BinaryBytes(count).to_string());
        let millis = |value: f64| Some(format!("{value:.2}"));
        row("requests", &|arm| whole(arm.total.requests));
        row("misses", &|arm| whole(arm.total.misses));
        row("hit ratio", &|arm| Some(percent(arm.total.hit_ratio)));
        row("p50 ms", &|arm| millis(arm.total.latency_ms.p50));
        row("p95 ms", &|arm| millis(arm.total.latency_ms.p95));
        row("p99 ms", &|arm| millis(arm.total.latency_ms.p99));
        row("mean ms", &|arm| millis(arm.total.latency_ms.mean));
        row("origin requests", &|arm| whole(arm.origin?.requests));
        row("origin bytes", &|arm| bytes(arm.origin?.bytes));
        row("prefetches issued", &|arm| whole(arm.prefetch?.issued));
        row("  used", &|arm| whole(arm.prefetch?.used));
        row("  unused", &|arm| whole(arm.prefetch?.unused));
        row("  late", &|arm| whole(arm.prefetch?.late));
        row("  bytes", &|arm| bytes(arm.prefetch?.landed_bytes));
        row("errors", &|arm| Some(arm.errors()));
        row("late sends", &|arm| whole(arm.late_sends));
        row("requests/s", &|arm| Some(format!("{:.0}", arm.requests_per_second)));
        table
    }

    fn nodes_table(&self) -> Table {
        let columns = self.arms.iter().flat_map(|arm| {
            let name = arm.arm.as_ref().map(|arm| format!("{arm} ")).unwrap_or_default();
            ["misses", "hit ratio", "p95 ms", "errors"].map(|column| format!("{name}{column}"))
        });
        let mut table = table(["node", "region", "requests"].map(str::to_owned).into_iter().chain(columns));
        let nodes = self.arms.first().map(|arm| arm.nodes.as_slice()).unwrap_or_default();
        for (index, node) in nodes.iter().enumerate() {
            let cells = self.arms.iter().filter_map(|arm| arm.nodes.get(index)).flat_map(|node| {
                let errors: u64 = node.counts.errors.values().sum();
                [
                    node.counts.misses.to_string(),
                    percent(node.counts.hit_ratio),
                    format!("{:.2}", node.counts.latency_ms.p95),
                    errors.to_string(),
                ]
            });
            let name = [node.name.clone(), node.region.clone(), node.counts.requests.to_string()];
            table.add_row(name.into_iter().chain(cells));
        }
        table
    }
}

impl ArmReport {
    pub(super) fn new(arm: Option<&str>, played: Played, counted: Counters, cluster: &Cluster) -> Self {
        let mut total = Tally::new();
        played.nodes.iter().for_each(|node| total.merge(node));
        let nodes = cluster.nodes.iter().zip(played.nodes).map(|(node, tally)| NodeReport {
            name: node.name.clone(),
            region: node.region.clone(),
            url: node.url.clone(),
            counts: tally.finish(),
        });
        let total = total.finish();
        let elapsed_seconds = played.elapsed.as_secs_f64();
        Self {
            arm: arm.map(str::to_owned),
            interrupted: played.is_interrupted,
            elapsed_seconds,
            requests_per_second: total.requests as f64 / elapsed_seconds.max(1e-9),
            late_sends: played.late_count,
            lateness_ms_p99: latency(&played.lateness).p99,
            total,
            nodes: nodes.collect(),
            origin: counted.origin,
            prefetch: counted.prefetch,
        }
    }

    fn name(&self) -> String {
        self.arm.clone().unwrap_or_else(|| "as it is".to_owned())
    }

    fn errors(&self) -> String {
        if self.total.errors.is_empty() {
            return "0".to_owned();
        }
        let errors = self.total.errors.iter().map(|(failure, count)| format!("{count} {failure}"));
        errors.collect::<Vec<_>>().join(", ")
    }
}

fn table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header.into_iter().collect::<Vec<_>>());
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// From which share of late sends on the text says so.
const LATE_SHARE_NOTED: f64 = 0.01;
