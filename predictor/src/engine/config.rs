//! What can be configured: as written by the user, and checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Engine settings as written, before they are checked. Every field has a default that suits any log.
///
/// | group | fields |
/// | --- | --- |
/// | economy | `budget_share`, `node_bytes_per_second`, `node_burst_seconds`, `price_seconds_per_mebibyte` |
/// | bounds | every `*_max` field |
/// | learning | `label_horizon_seconds`, `sample_share`, `session_gap_seconds` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// Seed of every random draw.
    pub seed: u64,
    /// Bytes that may be wasted, as a share of the bytes fetched on demand (0..=100).
    pub budget_share: f64,
    /// Prefetched bytes per second that one node may be sent on average (> 0).
    pub node_bytes_per_second: f64,
    /// How many seconds' worth of `node_bytes_per_second` a node may be sent at once (> 0).
    pub node_burst_seconds: f64,
    /// Seconds of latency that must be saved to pay for a prefetched MiB (>= 0).
    pub price_seconds_per_mebibyte: f64,
    /// Bytes that one order may ask for; of a larger object only the first segments are ordered (> 0).
    pub order_bytes_max: u64,
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
    /// Orders waiting to be polled (> 0).
    pub queue_max: usize,
    /// Orders whose outcome is awaited (> 0).
    pub outstanding_max: usize,
    /// Candidates not issued whose label is awaited (> 0).
    pub labels_max: usize,
    /// Share of the candidates not issued that are followed to learn from (0..=1).
    pub sample_share: f64,
    /// Pause after which a client's session ends (> 0).
    pub session_gap_seconds: f64,
    /// How long a prefetched segment is assumed to stay unused before that has been measured (> 0).
    pub label_horizon_seconds: f64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            budget_share: 0.25,
            node_bytes_per_second: 16.0 * MEBIBYTE,
            node_burst_seconds: 4.0,
            price_seconds_per_mebibyte: 0.001,
            order_bytes_max: 8 << 20,
            clients_max: 200_000,
            keys_max: 1_000_000,
            nodes_max: 256,
            regions_max: 256,
            segments_max: 1_000_000,
            queue_max: 256,
            outstanding_max: 131_072,
            labels_max: 65_536,
            sample_share: 0.1,
            session_gap_seconds: 1_800.0,
            label_horizon_seconds: 600.0,
        }
    }
}

impl EngineSettings {
    /// Seconds of latency that must be saved to pay for one byte.
    pub(super) fn price_seconds_per_byte(&self) -> f64 {
        self.price_seconds_per_mebibyte / MEBIBYTE
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
        check("budget_share", s.budget_share, 0.0..=100.0)?;
        check("node_bytes_per_second", s.node_bytes_per_second, f64::MIN_POSITIVE..=1e15)?;
        check("node_burst_seconds", s.node_burst_seconds, f64::MIN_POSITIVE..=86_400.0)?;
        check("price_seconds_per_mebibyte", s.price_seconds_per_mebibyte, 0.0..=1e6)?;
        check("sample_share", s.sample_share, 0.0..=1.0)?;
        check("session_gap_seconds", s.session_gap_seconds, 0.001..=1e7)?;
        check("label_horizon_seconds", s.label_horizon_seconds, 0.001..=1e8)?;
        check("order_bytes_max", s.order_bytes_max as f64, 1.0..=1e15)?;
        for (name, bound, highest) in [
            ("clients_max", s.clients_max, 1 << 30),
            ("keys_max", s.keys_max, 1 << 30),
            ("nodes_max", s.nodes_max, 1 << 10),
            ("regions_max", s.regions_max, 1 << 10),
            ("segments_max", s.segments_max, 1 << 30),
            ("queue_max", s.queue_max, 1 << 20),
            ("outstanding_max", s.outstanding_max, 1 << 30),
            ("labels_max", s.labels_max, 1 << 30),
        ] {
            check(name, bound as f64, 1.0..=f64::from(highest))?;
        }
        Ok(Self(settings))
    }
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("engine setting `{name}` is {value}, which is outside {lowest}..={highest}")]
pub struct InvalidSetting {
    /// The field's name.
    pub name: &'static str,
    /// What it was set to.
    pub value: f64,
    /// The lowest value allowed.
    pub lowest: f64,
    /// The highest value allowed.
    pub highest: f64,
}

fn check(name: &'static str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<(), InvalidSetting> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(InvalidSetting { name, value, lowest: *range.start(), highest: *range.end() })
}

const MEBIBYTE: f64 = 1_048_576.0;
