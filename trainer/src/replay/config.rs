//! What to replay: lists that make cells, and what all cells share.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use nearcast_cache_node::{core::NodeCoreConfig, index::PolicyKind};
use nearcast_datasets::Timestamp;
use nearcast_models::Model;
use nearcast_predictor::engine::EngineSettings;
use nearcast_proto::topology::Topology;
use serde::{Serialize, Serializer};

use super::{PlacingConfig, ReadOptions, ReplayError, Result};

/// What decides which segment leaves next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EvictionKind {
    /// What will be asked for last, as only a replay can know.
    Belady,
    /// A policy that nodes have.
    Node(PolicyKind),
}

/// What fetches before anybody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PrefetchKind {
    /// Nothing.
    #[default]
    None,
    /// The production engine.
    Nearcast,
    /// One block lookahead over numbered keys.
    Obl,
    /// The probability graph of what follows what.
    Markov,
    /// Sporadic associations between keys that are missed together.
    Mithril,
}

/// Which nodes are meant to hold a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PlacementKind {
    /// Every node pulls from the origin for itself.
    #[default]
    None,
    /// Every key has a home node by hash, which fetches from the origin for everybody.
    Hash,
    /// The best replicas that never change, chosen by the requests that will count.
    Static,
    /// Replicas follow a decayed average of what each region asked for.
    Reactive,
    /// One copy of each key at the weighted centre of its readers, after Volley.
    Volley,
    /// Replicas follow forecasts: a trained head's when there is a model, else those learned online.
    Gapa,
    /// Replicas follow the requests of the next hour, as only a replay can know them.
    Oracle,
}

/// How large each node's cache is.
#[derive(Clone, Debug, PartialEq)]
pub enum CacheSize {
    /// So many bytes.
    Bytes(u64),
    /// A share of the log's distinct bytes; of its distinct keys with unit sizes. Rounded down, as libCacheSim does.
    Share(f64),
}

/// What to replay. Every list makes cells: one for each combination of its members.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// Eviction policies.
    pub policies: Vec<EvictionKind>,
    /// Prefetchers.
    pub prefetchers: Vec<PrefetchKind>,
    /// Placement strategies.
    pub placements: Vec<PlacementKind>,
    /// How replicas are placed.
    pub placing: PlacingConfig,
    /// Cache sizes per node.
    pub caches: Vec<CacheSize>,
    /// Bounds on extra fetched bytes, as shares of what is fetched without prefetching.
    pub budgets: Vec<f64>,
    /// Share of the requests before counting starts (0 to below 1).
    pub warmup: f64,
    /// Seed of every random draw.
    pub seed: u64,
    /// Whether every transfer and message takes no time.
    pub instant: bool,
    /// How the log is looked at.
    pub read: ReadOptions,
    /// Round trips and bandwidths.
    pub topology: Topology,
    /// Bytes per segment; ignored with unit sizes.
    pub segment_bytes: u64,
    /// Round trip between any node and the predictor: half of it passes before a request is known there, and half
    /// before an order is known at its node.
    pub control_round_trip: Duration,
    /// A trained model and its version.
    pub model: Option<(Arc<str>, Arc<Model>)>,
    /// When the model goes into service; from the start when not set.
    pub model_from: Option<Timestamp>,
    /// Bounds of the nodes; capacity and policy are set by the cell.
    pub node: NodeCoreConfig,
    /// Settings of the engine; budget and seed are set by the cell.
    pub engine: EngineSettings,
    /// Whether the report names what foresight could win at most.
    pub oracle: bool,
    /// Whether the report names speed and memory, which differ from run to run.
    pub with_timing: bool,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            policies: vec![EvictionKind::default()],
            prefetchers: vec![PrefetchKind::None, PrefetchKind::Nearcast],
            placements: vec![PlacementKind::None],
            placing: PlacingConfig::default(),
            caches: vec![CacheSize::Share(0.1)],
            budgets: vec![0.25],
            warmup: 0.3,
            seed: 1,
            instant: false,
            read: ReadOptions::default(),
            topology: Topology::default(),
            segment_bytes: 1 << 20,
            control_round_trip: Duration::from_millis(20),
            model: None,
            model_from: None,
            node: NodeCoreConfig::default(),
            engine: EngineSettings::default(),
            oracle: false,
            with_timing: true,
        }
    }
}

impl ReplayConfig {
    /// The first of so many requests that counts.
    pub(super) fn counted_from(&self, requests: usize) -> usize {
        (requests as f64 * self.warmup) as usize
    }

    /// Refuses what cannot be replayed whatever the log.
    pub(super) fn check(&self) -> Result<()> {
        let lists = [
            ("policies", self.policies.is_empty()),
            ("prefetchers", self.prefetchers.is_empty()),
            ("placements", self.placements.is_empty()),
            ("caches", self.caches.is_empty()),
            ("budgets", self.budgets.is_empty()),
        ];
        if let Some((list, _)) = lists.into_iter().find(|(_, is_empty)| *is_empty) {
            return Err(ReplayError::NothingToReplay { list });
        }
        if !(0.0..1.0).contains(&self.warmup) {
            return Err(out_of_range("warmup", self.warmup, "at least 0 and below 1"));
        }
        if let Some(budget) = self.budgets.iter().find(|budget| !(0.0..=BUDGET_MAX).contains(*budget)) {
            return Err(out_of_range("budget", *budget, "a share from 0 (no wasted byte) to 100"));
        }
        let reacts = self.prefetchers == [PrefetchKind::None] && self.placements == [PlacementKind::None];
        if self.policies.contains(&EvictionKind::Belady) && !reacts {
            return Err(ReplayError::NotForeseen);
        }
        if !(0.0..=1.0).contains(&self.placing.share) {
            return Err(out_of_range("placed", self.placing.share, "a share of the capacity from 0 to 1"));
        }
        if !(self.placing.link_share > 0.0 && self.placing.link_share <= 1.0) {
            return Err(out_of_range(
                "link-share",
                self.placing.link_share,
                "a share of the bandwidth above 0, up to 1",
            ));
        }
        if self.segment_bytes == 0 {
            return Err(out_of_range("segment_bytes", 0.0, "at least 1"));
        }
        Ok(())
    }
}

impl EvictionKind {
    /// Every policy that a replay knows.
    pub fn all() -> impl Iterator<Item = Self> {
        PolicyKind::ALL.into_iter().map(Self::Node).chain([Self::Belady])
    }

    /// The name in flags and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Belady => "belady",
            Self::Node(kind) => kind.as_str(),
        }
    }

    /// The policy called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.as_str() == name)
    }
}

impl Default for EvictionKind {
    fn default() -> Self {
        Self::Node(PolicyKind::default())
    }
}

impl From<PolicyKind> for EvictionKind {
    fn from(kind: PolicyKind) -> Self {
        Self::Node(kind)
    }
}

impl Serialize for EvictionKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl CacheSize {
    /// Bytes of a cache for a log with so many distinct bytes.
    pub(super) fn bytes(&self, distinct_bytes: u64) -> Result<u64> {
        let bytes = match self {
            Self::Bytes(bytes) => *bytes,
            // The nudge makes `0.1` of a multiple of ten exact, whichever way the product was rounded.
            Self::Share(share) => (share * distinct_bytes as f64 * (1.0 + f64::EPSILON)) as u64,
        };
        if bytes == 0 { Err(ReplayError::CacheTooSmall { text: self.to_string(), bytes }) } else { Ok(bytes) }
    }
}

impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

impl FromStr for CacheSize {
    type Err = ReplayError;

    /// Reads `0.1` as a share, and `500000`, `64MiB` or `10GB` as bytes. `1` is all of the log, not one byte.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || ReplayError::CacheSize { text: text.to_owned() };
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let (value, unit) = (digits.trim().parse::<f64>().map_err(|_| invalid())?, &text[digits.len()..]);
        if !value.is_finite() || value < 0.0 {
            return Err(invalid());
        }
        if unit.is_empty() && value <= 1.0 {
            return Ok(Self::Share(value));
        }
        let factor = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)).ok_or_else(invalid)?.1;
        Ok(Self::Bytes((value * factor) as u64))
    }
}

impl PrefetchKind {
    /// Every prefetcher.
    pub const ALL: [Self; 5] = [Self::None, Self::Nearcast, Self::Obl, Self::Markov, Self::Mithril];

    /// The name in flags and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nearcast => "nearcast",
            Self::Obl => "obl",
            Self::Markov => "markov",
            Self::Mithril => "mithril",
        }
    }

    /// Whether a budget bounds what it fetches.
    pub const fn has_budget(self) -> bool {
        matches!(self, Self::Nearcast)
    }
}

impl PlacementKind {
    /// Every placement.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Hash, Self::Static, Self::Reactive, Self::Volley, Self::Gapa, Self::Oracle];

    /// The name in flags and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hash => "hash",
            Self::Static => "static",
            Self::Reactive => "reactive",
            Self::Volley => "volley",
            Self::Gapa => "gapa",
            Self::Oracle => "oracle",
        }
    }

    /// Whether keys get explicit holders.
    pub const fn places(self) -> bool {
        !matches!(self, Self::None | Self::Hash)
    }
}

pub(super) fn out_of_range(field: &'static str, value: f64, expected: &'static str) -> ReplayError {
    ReplayError::OutOfRange { field, value, expected }
}

/// The engine takes no more either; a budget beyond it is a mistake of units.
const BUDGET_MAX: f64 = 100.0;

const UNITS: [(&str, f64); 10] = [
    ("", 1.0),
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];
