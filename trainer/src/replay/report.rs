//! What a replay found: the JSON contract `nearcast.replay/1`.

use nearcast_cache_node::core::MissCauses;
use nearcast_predictor::engine::Account;
use serde::Serialize;

use super::{EvictionKind, Part, PlacementKind, PrefetchKind, RegionHour, TimeSlice};

/// The contract's name and version.
pub const SCHEMA: &str = "nearcast.replay/1";

/// The result of a replay. The same log, configuration and seed give the same bytes, save for
/// [`CellReport::events_per_second`] and [`CellReport::peak_rss_bytes`], which can be left out.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The log, as it was named.
    pub log: String,
    /// What the log is like.
    pub requests: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Distinct bytes; distinct keys with unit sizes.
    pub distinct_bytes: u64,
    /// Regions, which is nodes.
    pub regions: u64,
    /// Share of the requests before counting started.
    pub warmup: f64,
    /// The seed.
    pub seed: u64,
    /// Whether transfers and messages took no time.
    pub instant: bool,
    /// Whether every object counted as one byte.
    pub unit_size: bool,
    /// Whether all regions were one.
    pub single_region: bool,
    /// What the replay did without: candidate sources, the gate, probation.
    pub without: Vec<Part>,
    /// The version of the trained model, if one was used.
    pub model_version: Option<String>,
    /// One result per combination, in the order of the lists.
    pub cells: Vec<CellReport>,
}

/// What one cell found, counted after the warm-up over all nodes.
#[derive(Clone, Debug, Serialize)]
pub struct CellReport {
    /// Eviction policy.
    pub policy: EvictionKind,
    /// Prefetcher.
    pub prefetcher: PrefetchKind,
    /// Placement strategy.
    pub placement: PlacementKind,
    /// Cache size as it was asked for.
    pub cache: String,
    /// Bytes per node that it came to.
    pub cache_bytes: u64,
    /// Bound on extra fetched bytes; none without prefetching, or for a baseline, which has none.
    pub budget: Option<f64>,
    /// The version of the trained model that the prefetcher used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// Requests of clients.
    pub requests: u64,
    /// Of those, answered from what the region's own node held.
    pub hits: u64,
    /// Of those, not.
    pub misses: u64,
    /// Misses as a share of requests.
    pub miss_ratio: f64,
    /// Missed bytes as a share of requested bytes, in whole segments.
    pub byte_miss_ratio: f64,
    /// Misses by cause.
    pub miss_causes: MissCauses,
    /// Misses that another region's node could have answered at that moment, whoever did.
    pub misses_elsewhere: u64,
    /// Bytes fetched into nodes from the origin.
    pub origin_bytes: u64,
    /// Bytes fetched into nodes from other nodes.
    pub peer_bytes: u64,
    /// What became of prefetches.
    pub prefetch: PrefetchReport,
    /// Bytes fetched beyond what the same cell fetches without prefetching, as a share of that.
    pub extra_fetch_ratio: f64,
    /// What clients waited.
    pub latency_ms: LatencyReport,
    /// What clients waited without prefetching, on average; the same for a cell that does not prefetch.
    pub baseline: BaselineReport,
    /// What foresight could win at most, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oracle: Option<OracleReport>,
    /// The engine's own account, over the whole log.
    pub account: Option<Account>,
    /// How far the probabilities that the engine claimed of its orders were off on average: the expected calibration
    /// error of [`Account::calibration`]. None without an order that ended.
    pub calibration_error: Option<f64>,
    /// The counted part of the log in slices of equal time, the earliest first, at most 40. Their sums are the counts
    /// above.
    pub timeline: Vec<TimeSlice>,
    /// What clients waited by region and hour of the day; hours without requests are left out.
    pub hours: Vec<RegionHour>,
    /// Requests replayed per second of real time, over the whole log. Differs from run to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<f64>,
    /// The most memory that the process had in use until the cell ended, in bytes. Differs from run to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// Latency in milliseconds and share of the requests answered within it; for charts, not part of the JSON.
    #[serde(skip)]
    pub latency_curve_ms: Vec<(f64, f64)>,
}

/// What became of prefetched segments.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PrefetchReport {
    /// Segments that nodes were ordered to fetch.
    pub issued: u64,
    /// Segments that were asked for after they had landed and before they left.
    pub used: u64,
    /// Segments that were asked for before they had landed.
    pub late: u64,
    /// Segments that left without having been asked for.
    pub unused: u64,
    /// Bytes fetched for prefetches.
    pub bytes: u64,
    /// `used / (used + late + unused)`: what was worth it among those whose end is known; 0 without any.
    pub precision: f64,
    /// `used / (used + misses)`: the share of would-be misses that prefetching turned into hits.
    pub coverage: f64,
}

/// What clients waited for an answer, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LatencyReport {
    /// On average.
    pub mean: f64,
    /// Half of them at most.
    pub p50: f64,
    /// 75 % of them at most.
    pub p75: f64,
    /// 95 % of them at most.
    pub p95: f64,
    /// 99 % of them at most.
    pub p99: f64,
}

/// The same cell without prefetching.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct BaselineReport {
    /// Misses as a share of requests.
    pub miss_ratio: f64,
    /// Bytes fetched into nodes.
    pub fetched_bytes: u64,
    /// Mean latency in milliseconds.
    pub latency_ms_mean: f64,
    /// 99th percentile of latency in milliseconds.
    pub latency_ms_p99: f64,
}

/// Bounds that only who knows the log's future reaches.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OracleReport {
    /// Miss ratio of Belady's rule without prefetching; none with placement.
    pub belady_miss_ratio: Option<f64>,
    /// Miss ratio of a prefetcher that knows every request, but no key before it is first asked for anywhere, and
    /// whose transfers take their time. It wastes nothing, so it is the same for every budget and cache size.
    pub perfect_miss_ratio: f64,
    /// What the cell won over the same cell without prefetching, as a share of what the perfect prefetcher would have
    /// won. Above 1 when it foresaw keys that nobody had asked for; none without prefetching, or nothing to win.
    pub share_of_oracle: Option<f64>,
}

impl OracleReport {
    /// Names of the table columns that [`Self::columns`] fills.
    pub const COLUMNS: [&'static str; 3] = ["belady", "perfect", "share of oracle"];

    /// Holds a cell, compared with its baseline already, against the bounds.
    pub(super) fn new(cell: &CellReport, belady_miss_ratio: Option<f64>, perfect_miss_ratio: f64) -> Self {
        let possible = cell.baseline.miss_ratio - perfect_miss_ratio;
        let won = cell.baseline.miss_ratio - cell.miss_ratio;
        let share_of_oracle = (cell.prefetches() && possible > 0.0).then(|| won / possible);
        Self { belady_miss_ratio, perfect_miss_ratio, share_of_oracle }
    }

    /// The bounds as text for a table; empty where there is none.
    pub fn columns(&self) -> [String; 3] {
        [
            self.belady_miss_ratio.map_or_else(String::new, |ratio| format!("{ratio:.4}")),
            format!("{:.4}", self.perfect_miss_ratio),
            self.share_of_oracle.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0)),
        ]
    }
}

impl CellReport {
    /// What tells the cell from others, in a few words.
    pub fn name(&self) -> String {
        format!("{} {} {}", self.node_name(), self.cache, self.prefetcher_name())
    }

    /// What its nodes have in common but for their size, in a few words.
    pub(super) fn node_name(&self) -> String {
        match self.placement {
            PlacementKind::None => self.policy.as_str().to_owned(),
            placed => format!("{} {}", self.policy.as_str(), placed.as_str()),
        }
    }

    /// What prefetches, in a few words.
    pub(super) fn prefetcher_name(&self) -> String {
        let model = self.model_version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        let budget = self.budget.map_or_else(String::new, |budget| format!(" ≤{:.0} %", budget * 100.0));
        format!("{}{model}{budget}", self.prefetcher.as_str())
    }

    /// Bytes fetched into nodes, from peers and origin alike.
    pub fn fetched_bytes(&self) -> u64 {
        self.origin_bytes + self.peer_bytes
    }

    /// Whether anything was fetched before it was asked for.
    pub fn prefetches(&self) -> bool {
        self.prefetcher != PrefetchKind::None
    }

    /// Compares with the same cell without prefetching.
    pub(super) fn compare_with(&mut self, without: &Self) {
        self.baseline = without.as_baseline();
        self.extra_fetch_ratio = match without.fetched_bytes() {
            0 => 0.0,
            bytes => self.fetched_bytes() as f64 / bytes as f64 - 1.0,
        };
        for (slice, without) in self.timeline.iter_mut().zip(&without.timeline) {
            slice.baseline_misses = without.misses;
        }
    }

    fn as_baseline(&self) -> BaselineReport {
        BaselineReport {
            miss_ratio: self.miss_ratio,
            fetched_bytes: self.fetched_bytes(),
            latency_ms_mean: self.latency_ms.mean,
            latency_ms_p99: self.latency_ms.p99,
        }
    }
}
