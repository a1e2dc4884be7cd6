//! The `[placement]` section: as written, and checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, placement::ShardConfig};

/// What decides which nodes hold which keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementKind {
    /// Nothing: every key has its home by hashing.
    #[default]
    None,
    /// Replicas follow a decayed average of what each region asked for.
    Reactive,
    /// Replicas follow forecasts: a trained head's when a model is in service at the start, else those learned online;
    /// where the decayed average would have done better, it takes over.
    Gapa,
}

/// The `[placement]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPlacement {
    /// What decides. Default none.
    pub kind: PlacementKind,
    /// Least time between two plans. Default 900.
    pub interval_seconds: f64,
    /// Least requests between two plans. Default 500.
    pub requests_min: u64,
    /// Share of each node's capacity for placed keys; nodes refuse to pin more than their `index.pinned_share`.
    /// Default 0.45.
    pub share: f64,
    /// Fewest replicas of a key that is placed. Default 2.
    pub replicas_min: u8,
    /// Half-life of the decayed average. Default 14,400.
    pub half_life_seconds: f64,
    /// How long a node that is gone without a word may be away before its keys are placed anew. Default 5.
    pub grace_seconds: f64,
    /// Keys known at a time. Default 1,000,000.
    pub keys_max: usize,
    /// Regions told apart, unless the topology names more. Default 16.
    pub regions_max: usize,
    /// Changes remembered one by one; a node that is further behind gets the whole map. Default 100,000.
    pub changes_max: usize,
    /// Bytes per second that nodes are told to fetch, all together. Default 50e6.
    pub bytes_per_second: f64,
    /// Share of each link's bandwidth, as the topology says it, that transfers may take. Default 0.5.
    pub link_share: f64,
    /// How far gapa looks ahead at most where links take long to carry a plan out; 0: not at all. Default 14,400.
    pub ahead_seconds_max: f64,
    /// Bytes that gapa may move in vain, as a share of what misses fetch. Default 0.3.
    pub waste_share: f64,
    /// How long a command may take. Default 60.
    pub deadline_seconds: f64,
    /// Commands under way. Default 1,024.
    pub in_flight_max: usize,
    /// How often one thing is tried under one plan. Default 5.
    pub attempts_max: u32,
    /// Requests per second that one holder of a key answers for other nodes before the key gets another holder without
    /// waiting for the next plan. Default 50.
    pub hot_requests_per_second: f64,
    /// Keys that get another holder between two plans. Default 256.
    pub hot_keys_max: usize,
}

/// Checked settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementSettings {
    /// What decides.
    pub kind: PlacementKind,
    /// Least time between two plans.
    pub interval: Duration,
    /// Least requests between two plans.
    pub requests_min: u64,
    /// Share of each node's capacity.
    pub share: f64,
    /// Fewest replicas of a key that is placed.
    pub replicas_min: u8,
    /// Half-life of the decayed average.
    pub half_life: Duration,
    /// How long a node may be away.
    pub grace: Duration,
    /// Keys known at a time.
    pub keys_max: usize,
    /// Regions told apart.
    pub regions_max: usize,
    /// Changes remembered one by one.
    pub changes_max: usize,
    /// Bytes per second that nodes are told to fetch.
    pub bytes_per_second: f64,
    /// Share of each link's bandwidth that transfers may take.
    pub link_share: f64,
    /// How far gapa looks ahead at most.
    pub ahead_max: Duration,
    /// Bytes that gapa may move in vain, as a share of what misses fetch.
    pub waste_share: f64,
    /// Bounds of the shard manager.
    pub shards: ShardConfig,
    /// Requests per second of one holder.
    pub hot_requests_per_second: f64,
    /// Keys that get another holder between two plans.
    pub hot_keys_max: usize,
}

impl PlacementSettings {
    /// How many keys and changes a copy of the map knows.
    pub(crate) fn map_bounds(&self) -> (usize, usize) {
        (self.keys_max, self.changes_max)
    }
}

impl RawPlacement {
    /// No time may be longer than a year; more is a mistake of units.
    pub const SECONDS_MAX: f64 = 365.0 * 86_400.0;
    /// A day ahead is the same time of day again.
    const AHEAD_MAX: f64 = 86_400.0;
}

impl Default for RawPlacement {
    fn default() -> Self {
        Self {
            kind: PlacementKind::None,
            interval_seconds: 900.0,
            requests_min: 500,
            share: 0.45,
            replicas_min: 2,
            half_life_seconds: 14_400.0,
            grace_seconds: 5.0,
            keys_max: 1_000_000,
            regions_max: 16,
            changes_max: 100_000,
            bytes_per_second: 50e6,
            link_share: 0.5,
            ahead_seconds_max: 14_400.0,
            waste_share: 0.3,
            deadline_seconds: 60.0,
            in_flight_max: 1_024,
            attempts_max: 5,
            hot_requests_per_second: 50.0,
            hot_keys_max: 256,
        }
    }
}

impl TryFrom<RawPlacement> for PlacementSettings {
    type Error = Error;

    fn try_from(raw: RawPlacement) -> Result<Self> {
        for (name, value, least, most, expected) in [
            ("placement.share", raw.share, 0.0, 1.0, "between 0 and 1"),
            ("placement.replicas_min", f64::from(raw.replicas_min), 1.0, 255.0, "between 1 and 255"),
            ("placement.regions_max", raw.regions_max as f64, 1.0, 64.0, "between 1 and 64"),
            ("placement.keys_max", raw.keys_max as f64, 1.0, COUNT_MAX, "between 1 and 1073741824"),
            ("placement.changes_max", raw.changes_max as f64, 1.0, COUNT_MAX, "between 1 and 1073741824"),
            ("placement.in_flight_max", raw.in_flight_max as f64, 1.0, COUNT_MAX, "between 1 and 1073741824"),
            ("placement.hot_keys_max", raw.hot_keys_max as f64, 0.0, COUNT_MAX, "between 0 and 1073741824"),
            ("placement.attempts_max", f64::from(raw.attempts_max), 1.0, 1_000.0, "between 1 and 1000"),
            ("placement.bytes_per_second", raw.bytes_per_second, 1.0, f64::MAX, "at least 1"),
            ("placement.link_share", raw.link_share, 0.001, 1.0, "between 0.001 and 1"),
            (
                "placement.ahead_seconds_max",
                raw.ahead_seconds_max,
                0.0,
                RawPlacement::AHEAD_MAX,
                "between 0 and 86400 seconds",
            ),
            ("placement.waste_share", raw.waste_share, 0.0, 1_000.0, "between 0 and 1000"),
            ("placement.hot_requests_per_second", raw.hot_requests_per_second, 0.1, f64::MAX, "at least 0.1"),
        ] {
            if !(least..=most).contains(&value) {
                return Err(Error::Setting { name, value: value.to_string(), expected });
            }
        }
        let shards = ShardConfig {
            deadline: span("placement.deadline_seconds", raw.deadline_seconds)?,
            attempts_max: raw.attempts_max,
            in_flight_max: raw.in_flight_max,
            ..ShardConfig::default()
        };
        Ok(Self {
            kind: raw.kind,
            interval: span("placement.interval_seconds", raw.interval_seconds)?,
            requests_min: raw.requests_min,
            share: raw.share,
            replicas_min: raw.replicas_min,
            half_life: span("placement.half_life_seconds", raw.half_life_seconds)?,
            grace: span("placement.grace_seconds", raw.grace_seconds)?,
            keys_max: raw.keys_max,
            regions_max: raw.regions_max,
            changes_max: raw.changes_max,
            bytes_per_second: raw.bytes_per_second,
            link_share: raw.link_share,
            ahead_max: Duration::from_secs_f64(raw.ahead_seconds_max),
            waste_share: raw.waste_share,
            shards,
            hot_requests_per_second: raw.hot_requests_per_second,
            hot_keys_max: raw.hot_keys_max,
        })
    }
}

fn span(name: &'static str, seconds: f64) -> Result<Duration> {
    if (0.1..=RawPlacement::SECONDS_MAX).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Error::Setting { name, value: seconds.to_string(), expected: "between 0.1 and 31536000 seconds" })
}

/// Far above any sensible bound; what is larger is a mistake.
const COUNT_MAX: f64 = (1_u64 << 30) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PlacementSettings> {
        toml::from_str::<RawPlacement>(text).unwrap().try_into()
    }

    #[test]
    fn nothing_is_placed_unless_it_is_said_and_nonsense_is_refused_by_name() {
        assert_eq!(parse("").unwrap().kind, PlacementKind::None);
        assert_eq!(parse("kind = \"gapa\"").unwrap().kind, PlacementKind::Gapa);
        for (text, part) in [
            ("share = 1.5", "placement.share"),
            ("replicas_min = 0", "placement.replicas_min"),
            ("interval_seconds = 0.0", "placement.interval_seconds"),
            ("bytes_per_second = nan", "placement.bytes_per_second"),
            ("link_share = 0.0", "placement.link_share"),
            ("ahead_seconds_max = 1e9", "placement.ahead_seconds_max"),
            ("waste_share = -1.0", "placement.waste_share"),
            ("in_flight_max = 0", "placement.in_flight_max"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
