//! What operators ask, as they write it. The field names are a contract.

use std::{collections::BTreeMap, sync::Arc};

use nearcast_experiment::verdict::{Better, Margin};
use serde::{Deserialize, Serialize};

use crate::arms::ArmSpec;

/// What a block or a slot of time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricName {
    /// Requests that failed, per request.
    ErrorRatio,
    /// Requests that the node itself answered, per request.
    HitRatio,
    /// Bytes that were fetched from the origin to answer, per byte asked for.
    OriginRatio,
    /// The 99th percentile of the time to the last byte, in milliseconds.
    P99Ms,
    /// The mean time to the last byte, in milliseconds.
    WaitMs,
    /// Bytes fetched ahead that left unused, per byte asked for.
    WastedRatio,
}

impl MetricName {
    /// Every metric.
    pub const ALL: [Self; 6] =
        [Self::ErrorRatio, Self::HitRatio, Self::OriginRatio, Self::P99Ms, Self::WaitMs, Self::WastedRatio];

    /// Which way is better.
    pub fn better(self) -> Better {
        if self == Self::HitRatio { Better::Higher } else { Better::Lower }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRatio => "error_ratio",
            Self::HitRatio => "hit_ratio",
            Self::OriginRatio => "origin_ratio",
            Self::P99Ms => "p99_ms",
            Self::WaitMs => "wait_ms",
            Self::WastedRatio => "wasted_ratio",
        }
    }
}

/// What is to be found out, over which nodes, in what time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The experiment's name.
    pub name: String,
    /// Who is to replace the champion.
    pub challenger: ArmSpec,
    /// The nodes; empty for all that are connected.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// `cell`, or `client`, which is refused.
    #[serde(default)]
    pub assignment: nearcast_experiment::design::Assignment,
    /// The metric to be improved.
    #[serde(default = "default_goal")]
    pub goal: MetricName,
    /// The least improvement that is worth a switch, in the goal's unit.
    #[serde(default)]
    pub least: f64,
    /// The smallest effect to be found, in the goal's unit.
    #[serde(default = "default_effect")]
    pub effect: f64,
    /// The false alarms to bear, over all looks.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// The probability to find the effect when it is there.
    #[serde(default = "default_power")]
    pub power: f64,
    /// The length of a block; the shortest without.
    #[serde(default)]
    pub block_seconds: Option<f64>,
    /// How long the live part may take.
    #[serde(default = "default_span")]
    pub span_seconds: f64,
    /// How long only miniatures compare before.
    #[serde(default = "default_shadow")]
    pub shadow_seconds: f64,
    /// Blocks in which only the first pair switches.
    #[serde(default = "default_canary")]
    pub canary_blocks: usize,
    /// The longest turnover of the nodes' caches, instead of the measured one.
    #[serde(default)]
    pub turnover_seconds: Option<f64>,
    /// Blocks that make a season; a day's without.
    #[serde(default)]
    pub season_blocks: Option<usize>,
    /// What the coins are drawn from.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// How far each metric may become worse; those not named have the default margins.
    #[serde(default)]
    pub guardrails: BTreeMap<MetricName, Margin>,
    /// What nodes measured before, instead of what the predictor has seen itself.
    #[serde(default)]
    pub history: Option<Vec<NodeHistory>>,
}

impl Question {
    /// A question with every default.
    pub fn new(name: &str, challenger: ArmSpec) -> Self {
        Self {
            name: name.to_owned(),
            challenger,
            nodes: Vec::new(),
            assignment: nearcast_experiment::design::Assignment::Cell,
            goal: default_goal(),
            least: 0.0,
            effect: default_effect(),
            alpha: default_alpha(),
            power: default_power(),
            block_seconds: None,
            span_seconds: default_span(),
            shadow_seconds: default_shadow(),
            canary_blocks: default_canary(),
            turnover_seconds: None,
            season_blocks: None,
            seed: default_seed(),
            guardrails: BTreeMap::new(),
            history: None,
        }
    }

    /// How far a metric may become worse.
    pub(super) fn margin(&self, metric: MetricName) -> Margin {
        let default = match metric {
            MetricName::ErrorRatio => Margin::Absolute(0.001),
            MetricName::HitRatio => Margin::Absolute(0.01),
            MetricName::OriginRatio | MetricName::WaitMs => Margin::Relative(0.05),
            MetricName::P99Ms => Margin::Relative(0.1),
            MetricName::WastedRatio => Margin::Absolute(0.1),
        };
        self.guardrails.get(&metric).copied().unwrap_or(default)
    }
}

/// What one node measured in slots of time, in order and without a gap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeHistory {
    /// The node.
    pub node: Arc<str>,
    /// When the first slot begins, in microseconds since the Unix epoch.
    pub first_micros: i64,
    /// The length of a slot.
    pub slot_seconds: f64,
    /// The slots.
    pub slots: Vec<super::slots::Slot>,
}

/// What is done to an experiment, by whom and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deed {
    /// Which experiment; the only one that has not ended where none is named.
    #[serde(default)]
    pub name: Option<String>,
    /// A person.
    #[serde(default)]
    pub who: String,
    /// In words.
    #[serde(default)]
    pub why: String,
    /// Whether a promote does without PASS.
    #[serde(default)]
    pub full: bool,
    /// The question, where an experiment is planned or started.
    #[serde(default)]
    pub question: Option<Question>,
}

fn default_goal() -> MetricName {
    MetricName::HitRatio
}

fn default_effect() -> f64 {
    0.01
}

fn default_alpha() -> f64 {
    0.05
}

fn default_power() -> f64 {
    0.8
}

fn default_span() -> f64 {
    7.0 * 86_400.0
}

fn default_shadow() -> f64 {
    3_600.0
}

fn default_canary() -> usize {
    4
}

fn default_seed() -> u64 {
    1
}
