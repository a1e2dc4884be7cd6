//! What can be configured: as written by the user, and checked.

use std::time::Duration;

use nearcast_cache_node::index::PolicyKind;
use nearcast_models::{CoAccessConfig, GateConfig};
use serde::{Deserialize, Serialize};

use super::CandidateSource;

/// Engine settings as written, before they are checked. Every field has a default that suits any log.
///
/// | group | fields |
/// | --- | --- |
/// | economy | `budget_share`, `budget_reserve`, `budget_carry_share`, `node_bytes_per_second`, `node_burst_seconds`, `price_seconds_per_mebibyte`, `waste_price`, `order_bytes_max`, `order_seconds_max` |
/// | learning | `client`, `region`, `gate`, `demand_short_requests`, `demand_long_requests`, `selector_requests`, `session_gap_seconds`, `stay_requests`, `stay_requests_max`, `sample_share`, `novice_labels` |
/// | bounds | every other `*_max` field |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Seed of every random draw.
    pub seed: u64,
    /// Bytes that may be fetched beyond what would be without prefetching, as a share of that (0..=100).
    pub budget_share: f64,
    /// What is held back of the budget, as a share of what is fetched without prefetching, but at most half of the
    /// budget: a ghost tells what that would be only as exactly as two nodes under the same traffic are alike (0..=1).
    pub budget_reserve: f64,
    /// Unused allowance that may be carried over, as a share of all that was ever granted (0..=1).
    pub budget_carry_share: f64,
    /// Prefetched bytes per second that one node may be sent on average (> 0).
    pub node_bytes_per_second: f64,
    /// How many seconds' worth of `node_bytes_per_second` a node may be sent at once (> 0).
    pub node_burst_seconds: f64,
    /// Seconds of latency that must be saved to pay for a prefetched MiB (>= 0).
    pub price_seconds_per_mebibyte: f64,
    /// What wasting a fetch costs, as a share of the latency that using it saves (0..=1).
    pub waste_price: f64,
    /// Bytes that one order may ask for; of a larger object only the first segments are ordered (> 0).
    pub order_bytes_max: u64,
    /// How long an order may wait for its transfer to end before it is dropped (> 0).
    pub order_seconds_max: f64,
    /// Clients whose recent requests are remembered (> 0).
    pub clients_max: usize,
    /// Keys that are known; beyond it the one idle longest is forgotten (> 0).
    pub keys_max: usize,
    /// Nodes that may ever have joined (1..=1024).
    pub nodes_max: usize,
    /// Regions that are told apart (1..=1024); later ones share the last number.
    pub regions_max: usize,
    /// Segments past the first of an object in the cache map (> 0).
    pub segments_max: usize,
    /// Families of numbered keys that are told apart (> 0).
    pub families_max: usize,
    /// Orders waiting to be polled (> 0).
    pub queue_max: usize,
    /// Orders whose outcome is awaited (> 0).
    pub outstanding_max: usize,
    /// Candidates not issued whose label is awaited (> 0).
    pub labels_max: usize,
    /// Segments that a node dropped lately and whose return is watched for, per node (> 0).
    pub dropped_max: usize,
    /// Pairs of node and key whose earlier prefetches are remembered (> 0).
    pub history_max: usize,
    /// Segments that are followed per node to know what it would hold without prefetching; beyond it, a sample of
    /// the keys is (> 0).
    pub ghost_entries_max: usize,
    /// The eviction policy of the nodes.
    pub policy: PolicyKind,
    /// Other nodes that a requested key is considered for at once (> 0).
    pub regional_nodes_max: usize,
    /// Share of the candidates not issued that are followed to learn from (0..=1).
    pub sample_share: f64,
    /// Pause after which a client's session ends (> 0).
    pub session_gap_seconds: f64,
    /// How many of a node's requests a prefetched segment is taken to stay for, unused, until that is measured (> 0).
    pub stay_requests: f64,
    /// The longest stay, in requests of a node, that labels wait for (> 0).
    pub stay_requests_max: f64,
    /// Labels after which the gate is half trusted (>= 0).
    pub novice_labels: f64,
    /// Requests after which the quick demand counter has forgotten half (> 0).
    pub demand_short_requests: f64,
    /// Requests after which the slow demand counter has forgotten half (> 0).
    pub demand_long_requests: f64,
    /// Requests after which the selector has forgotten half of what was proposed (> 0).
    pub selector_requests: f64,
    /// Co-access within one client's session.
    pub client: CoAccessConfig,
    /// Co-access within a region's whole stream.
    pub region: CoAccessConfig,
    /// The gate.
    pub gate: GateConfig,
    /// Sources whose candidates are ignored: what each is worth shows in replay without it.
    pub disabled_sources: Vec<CandidateSource>,
    /// Whether the gate and its calibrators go unheard, so that a candidate is as probable as its most convinced source
    /// says: what they are worth shows in replay without them.
    pub gate_disabled: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            budget_share: 0.25,
            budget_reserve: 0.002_5,
            budget_carry_share: 0.1,
            node_bytes_per_second: 16.0 * MEBIBYTE,
            node_burst_seconds: 4.0,
            price_seconds_per_mebibyte: 0.001,
            waste_price: 0.05,
            order_bytes_max: 8 << 20,
            order_seconds_max: 30.0,
            clients_max: 200_000,
            keys_max: 1_000_000,
            nodes_max: 256,
            regions_max: 256,
            segments_max: 1_000_000,
            families_max: 65_536,
            queue_max: 256,
            outstanding_max: 131_072,
            labels_max: 65_536,
            dropped_max: 4_096,
            history_max: 65_536,
            ghost_entries_max: 65_536,
            policy: PolicyKind::default(),
            regional_nodes_max: 16,
            sample_share: 0.1,
            session_gap_seconds: 1_800.0,
            stay_requests: 512.0,
            stay_requests_max: 8_192.0,
            novice_labels: 64.0,
            demand_short_requests: 4_096.0,
            demand_long_requests: 65_536.0,
            selector_requests: 2_048.0,
            client: CoAccessConfig::default(),
            region: CoAccessConfig::default(),
            gate: GateConfig::default(),
            disabled_sources: Vec::new(),
            gate_disabled: false,
        }
    }
}

impl EngineSettings {
    /// Seconds of latency that must be saved to pay for one byte.
    pub(super) fn price_seconds_per_byte(&self) -> f64 {
        self.price_seconds_per_mebibyte / MEBIBYTE
    }

    /// The share of the baseline that may be spent.
    pub(super) fn spendable_share(&self) -> f64 {
        self.budget_share - self.budget_reserve.min(self.budget_share / 2.0)
    }

    /// The pause after which a session ends.
    pub(super) fn session_gap(&self) -> Duration {
        Duration::from_secs_f64(self.session_gap_seconds)
    }
}

/// Checked settings: the only thing an engine can be made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "EngineSettings", into = "EngineSettings")]
pub struct EngineConfig(EngineSettings);

impl EngineConfig {
    /// The settings that were checked.
    pub fn settings(&self) -> &EngineSettings {
        &self.0
    }
}

impl From<EngineConfig> for EngineSettings {
    fn from(config: EngineConfig) -> Self {
        config.0
    }
}

impl TryFrom<EngineSettings> for EngineConfig {
    type Error = InvalidSetting;

    fn try_from(settings: EngineSettings) -> Result<Self, InvalidSetting> {
        let s = &settings;
        for (name, value, lowest, highest) in [
            ("budget_share", s.budget_share, 0.0, 100.0),
            ("budget_reserve", s.budget_reserve, 0.0, 1.0),
            ("budget_carry_share", s.budget_carry_share, 0.0, 1.0),
            ("node_bytes_per_second", s.node_bytes_per_second, POSITIVE, 1e15),
            ("node_burst_seconds", s.node_burst_seconds, POSITIVE, 86_400.0),
            ("price_seconds_per_mebibyte", s.price_seconds_per_mebibyte, 0.0, 1e6),
            ("waste_price", s.waste_price, 0.0, 1.0),
            ("order_bytes_max", s.order_bytes_max as f64, 1.0, 1e15),
            ("order_seconds_max", s.order_seconds_max, POSITIVE, 1e7),
            ("sample_share", s.sample_share, 0.0, 1.0),
            ("session_gap_seconds", s.session_gap_seconds, POSITIVE, 1e7),
            ("stay_requests", s.stay_requests, 1.0, 1e9),
            ("stay_requests_max", s.stay_requests_max, 1.0, 1e9),
            ("novice_labels", s.novice_labels, 0.0, 1e9),
            ("demand_short_requests", s.demand_short_requests, 1.0, 1e9),
            ("demand_long_requests", s.demand_long_requests, 1.0, 1e9),
            ("selector_requests", s.selector_requests, 1.0, 1e9),
        ] {
            check(name, value, lowest..=highest)?;
        }
        for (name, bound, highest) in [
            ("clients_max", s.clients_max, 1 << 30),
            ("keys_max", s.keys_max, 1 << 30),
            ("nodes_max", s.nodes_max, 1 << 10),
            ("regions_max", s.regions_max, 1 << 10),
            ("segments_max", s.segments_max, 1 << 30),
            ("families_max", s.families_max, 1 << 30),
            ("queue_max", s.queue_max, 1 << 20),
            ("outstanding_max", s.outstanding_max, 1 << 30),
            ("labels_max", s.labels_max, 1 << 30),
            ("dropped_max", s.dropped_max, 1 << 30),
            ("history_max", s.history_max, 1 << 30),
            ("ghost_entries_max", s.ghost_entries_max, 1 << 30),
            ("regional_nodes_max", s.regional_nodes_max, 1 << 10),
        ] {
            check(name, bound as f64, 1.0..=f64::from(highest))?;
        }
        s.client.check()?;
        s.region.check()?;
        s.gate.check()?;
        Ok(Self(settings))
    }
}

/// Why engine settings were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSetting {
    /// A setting is outside its range.
    #[error("engine setting `{name}` is {value}, which is outside {lowest}..={highest}")]
    Range {
        /// The field's name.
        name: &'static str,
        /// What it was set to.
        value: f64,
        /// The lowest value allowed.
        lowest: f64,
        /// The highest value allowed.
        highest: f64,
    },
    /// A setting of a model that the engine keeps online is outside its range.
    #[error("engine settings of a model are refused")]
    Model(#[from] nearcast_models::Error),
}

fn check(name: &'static str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<(), InvalidSetting> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(InvalidSetting::Range { name, value, lowest: *range.start(), highest: *range.end() })
}

const POSITIVE: f64 = 1e-9;
const MEBIBYTE: f64 = 1_048_576.0;
