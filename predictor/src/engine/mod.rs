//! The synchronous decision core: requests and outcomes in, orders out.
//!
//! An [`Engine`] is told what happened (`handle_*`) and asked what to do ([`Engine::poll_order`]). It reads no clock,
//! does no I/O and draws only from a generator with a configured seed: the same calls give the same orders.

mod account;
mod cache_map;
mod config;
mod types;

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{Interner, KeyId, RegionId, SegmentId, Timestamp};
use nearcast_models::Model;
use nearcast_proto::{
    message::{CommandId, CommandStatus, NodeDescriptor, OutcomeKind},
    topology::Topology,
};

pub use account::Account;
pub use cache_map::CacheMap;
pub use config::{EngineConfig, EngineSettings, InvalidSetting};
pub use types::{Arm, NodeIndex, Observation, Order, OrderSource};

/// The decision core. One task owns it; see the module's description for how it is driven.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    topology: Topology,
    arm: Arm,
    keys: Interner,
    regions: Interner,
    nodes: Vec<NodeDescriptor>,
    cache_map: CacheMap,
    model: Option<(Arc<str>, Arc<Model>)>,
    account: Account,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(config: EngineConfig, topology: Topology) -> Self {
        Self {
            topology,
            arm: Arm::default(),
            keys: Interner::default(),
            regions: Interner::default(),
            nodes: Vec::new(),
            cache_map: CacheMap::new(config.settings().segments_max),
            config,
            model: None,
            account: Account::default(),
        }
    }

    /// The number of a key. It stays valid until `keys_max` keys are exceeded and the key was idle longest: keep names,
    /// not numbers, across calls unless there are fewer keys than that.
    pub fn intern_key(&mut self, key: &str) -> KeyId {
        KeyId(self.keys.insert(key))
    }

    /// The key behind a number.
    pub fn key_name(&self, key: KeyId) -> Option<&Arc<str>> {
        self.keys.name(key.0)
    }

    /// The number of a region. Beyond `regions_max` regions, new ones share the last number.
    pub fn intern_region(&mut self, region: &str) -> RegionId {
        RegionId(u16::try_from(self.regions.insert(region)).unwrap_or(u16::MAX))
    }

    /// A node joins or comes back. What it holds is unknown until [`Engine::handle_gained`] tells.
    pub fn handle_join(&mut self, _now: Timestamp, node: NodeDescriptor) -> NodeIndex {
        let index = self.nodes.iter().position(|known| known.name == node.name).unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        });
        NodeIndex(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// A node is gone: it holds nothing and its orders are void.
    pub fn handle_leave(&mut self, _now: Timestamp, _node: NodeIndex) {}

    /// A node holds a segment of this many bytes: from its inventory or a delta.
    pub fn handle_gained(&mut self, _now: Timestamp, node: NodeIndex, segment: SegmentId, _size_bytes: u64) {
        self.cache_map.insert(node, segment);
    }

    /// A node no longer holds a segment.
    pub fn handle_lost(&mut self, _now: Timestamp, node: NodeIndex, segment: SegmentId) {
        self.cache_map.remove(node, segment);
    }

    /// A node answered a request. Orders that follow from it come out of [`Engine::poll_order`].
    pub fn handle_request(&mut self, _now: Timestamp, observation: &Observation) {
        self.account.requests += 1;
        self.account.hits += u64::from(observation.served.is_hit());
    }

    /// A node answered an order: how it ended and how many bytes were transferred.
    pub fn handle_result(&mut self, _now: Timestamp, _id: CommandId, _status: CommandStatus, _bytes: u64) {}

    /// One prefetched segment met its end or first use, `residence` after it was stored.
    pub fn handle_outcome(&mut self, _now: Timestamp, _id: CommandId, _kind: OutcomeKind, _residence: Duration) {}

    /// The next order, best value per byte first. Call it after every `handle_*` until it returns `None`.
    #[must_use]
    pub fn poll_order(&mut self, _now: Timestamp) -> Option<Order> {
        None
    }

    /// When [`Engine::handle_timeout`] should be called next, if at all.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Time has passed: settles what has become due.
    pub fn handle_timeout(&mut self, _now: Timestamp) {}

    /// Puts a trained model into service. Sessions keep their recent keys; what the model remembers of them is rebuilt.
    pub fn install_model(&mut self, _now: Timestamp, version: Arc<str>, model: Arc<Model>) {
        self.model = Some((version, model));
    }

    /// The version of the model in service.
    pub fn model_version(&self) -> Option<&Arc<str>> {
        self.model.as_ref().map(|(version, _)| version)
    }

    /// Chooses whether orders are issued; `reset` forgets everything that was learnt online.
    pub fn set_arm(&mut self, arm: Arm, reset: bool) {
        self.arm = arm;
        if reset {
            self.account = Account::default();
        }
    }

    /// Whether orders are issued.
    pub fn arm(&self) -> Arm {
        self.arm
    }

    /// Which node holds which segment.
    pub fn cache_map(&self) -> &CacheMap {
        &self.cache_map
    }

    /// The nodes that hold a segment.
    pub fn holders(&self, segment: SegmentId) -> impl Iterator<Item = NodeIndex> {
        self.cache_map.holders(segment)
    }

    /// The nodes that ever joined, by number.
    pub fn nodes(&self) -> &[NodeDescriptor] {
        &self.nodes
    }

    /// What was done and why.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The configuration in force.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The topology in force.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }
}
