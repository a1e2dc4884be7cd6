//! The synchronous decision core: requests and outcomes in, orders out.
//!
//! An [`Engine`] is told what happened (`handle_*`) and asked what to do ([`Engine::poll_order`]). It reads no clock,
//! does no I/O and draws only from a generator with a configured seed: the same calls give the same orders.
//!
//! | step | file |
//! | --- | --- |
//! | a request moves what is learnt on | `observe` |
//! | sources propose candidates | `candidates` |
//! | the gate, the price and the budget judge them | `decide`, `features`, `selector`, `harm`, `trust` |
//! | the best are issued within hard bounds | `issue`, `orders`, `budget` |
//! | results and outcomes settle them and teach | `settle`, `labels`, `history` |
//! | nodes come and go | `members`, `nodes`, `cache_map` |
//! | what would have been without prefetching | `ghost` |
//! | what is known about a key | `facts` |
//! | clients in parts that can be handed over | `parts` |

mod account;
mod arrivals;
mod budget;
mod cache_map;
mod calibrator;
mod candidates;
mod config;
mod decide;
mod demand;
mod facts;
mod features;
mod ghost;
mod harm;
mod history;
mod issue;
mod keys;
mod labels;
mod learnt;
mod members;
mod nodes;
mod observe;
mod orders;
mod parts;
mod refused;
mod sample;
mod selector;
mod sessions;
mod settle;
#[cfg(test)]
mod tests;
mod trust;
mod types;

use std::sync::Arc;

use nearcast_datasets::{Interner, KeyId, RegionId, SegmentId, Timestamp};
use nearcast_models::{Gate, Model};
use nearcast_proto::{
    message::{Epoch, NodeDescriptor},
    topology::Topology,
};

pub(crate) use self::arrivals::Arrivals;
pub use self::{
    account::{
        Account, Bounds, BudgetAccount, BySource, Calibration, CalibrationBin, NodeAccount, Refusals, SourceAccount,
    },
    cache_map::CacheMap,
    candidates::CandidateSource,
    config::{EngineConfig, EngineSettings, InvalidSetting},
    facts::{KeyFacts, SEGMENTS_TOLD_MAX},
    parts::{PartState, StateUnreadable},
    sample::{KeySample, key_hash},
    trust::Trust,
    types::{Arm, NodeIndex, Observation, Order, OrderSource},
};
use self::{
    candidates::{Foreseen, Merged},
    issue::Unanswered,
    keys::KeyTable,
    learnt::Learnt,
    nodes::NodeTable,
    orders::{Outstanding, Queue},
};

/// The decision core. One task owns it; see the module's description for how it is driven.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    topology: Topology,
    arm: Arm,
    model_version: Option<Arc<str>>,
    keys: KeyTable,
    regions: Interner,
    nodes: NodeTable,
    cache_map: CacheMap,
    epoch: Epoch,
    learnt: Learnt,
    /// How many parts the clients are divided in.
    partitions: u32,
    merged: Merged,
    foreseen: Vec<Foreseen>,
    /// Nodes that lack the requested key; kept for its memory.
    lacking: Vec<NodeIndex>,
    queue: Queue,
    outstanding: Outstanding,
    unanswered: Unanswered,
    commands: u64,
    /// Whether the stream and the outcomes teach.
    is_learning: bool,
    account: Account,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(config: EngineConfig, topology: Topology) -> Self {
        let settings = config.settings();
        Self {
            topology,
            arm: Arm::default(),
            model_version: None,
            keys: KeyTable::new(settings.keys_max),
            regions: Interner::default(),
            nodes: NodeTable::new(settings.nodes_max),
            cache_map: CacheMap::new(settings.segments_max),
            epoch: Epoch::default(),
            learnt: Learnt::new(settings, 1),
            partitions: 1,
            merged: Merged::new(&settings.disabled_sources),
            foreseen: Vec::new(),
            lacking: Vec::new(),
            queue: Queue::new(settings.queue_max),
            outstanding: Outstanding::new(settings.outstanding_max),
            unanswered: Unanswered::default(),
            commands: 0,
            is_learning: true,
            account: Account::default(),
            config,
        }
    }

    /// The number of a key. It stays valid until `keys_max` keys are exceeded and the key is the one to make room: keep
    /// names, not numbers, across calls unless there are fewer keys than that.
    pub fn intern_key(&mut self, name: &str) -> KeyId {
        if let Some(key) = self.keys.find(name) {
            return key;
        }
        if let Some(victim) = self.keys.victim() {
            self.forget_key(victim);
        }
        let key = self.keys.insert(name, self.account.requests);
        self.learnt.stride.learn_key(key, name);
        if let Some(sequence) = &mut self.learnt.sequence {
            sequence.learn_key(key, name);
        }
        key
    }

    /// The key behind a number.
    pub fn key_name(&self, key: KeyId) -> Option<&Arc<str>> {
        self.keys.name(key)
    }

    /// How often a key was asked for, and how many requests of the whole stream ago the last time was.
    pub fn last_asked(&self, key: KeyId) -> (u32, u64) {
        let info = self.keys.info(key);
        info.map_or((0, 0), |info| (info.requests, self.account.requests.saturating_sub(info.last_request)))
    }

    /// The number of a region. Beyond `regions_max` regions, new ones share the last number.
    pub fn intern_region(&mut self, region: &str) -> RegionId {
        let last = self.config.settings().regions_max - 1;
        let number = match self.regions.find(region) {
            Some(number) => number as usize,
            None if self.regions.len() <= last => self.regions.insert(region) as usize,
            None => {
                self.account.bounds.regions_shared += 1;
                last
            }
        };
        RegionId(u16::try_from(number).unwrap_or(u16::MAX))
    }

    /// Puts a trained model into service. Sessions keep their recent keys; what the model remembers of them is rebuilt
    /// as they go on. What its training counted is taken over while the engine itself has seen next to nothing.
    pub fn install_model(&mut self, now: Timestamp, version: Arc<str>, model: Arc<Model>) {
        self.model_version = Some(version);
        self.take_over(now, &model);
        self.learnt.install(model, &self.keys);
    }

    /// The model in service.
    pub fn model(&self) -> Option<Arc<Model>> {
        self.learnt.sequence.as_ref().map(|sequence| Arc::clone(sequence.model()))
    }

    /// The version of the model in service.
    pub fn model_version(&self) -> Option<&Arc<str>> {
        self.model_version.as_ref()
    }

    /// Chooses whether orders are issued; `reset` forgets everything that was learnt online, the account included.
    pub fn set_arm(&mut self, arm: Arm, reset: bool) {
        self.arm = arm;
        self.queue.clear();
        if reset {
            let settings = self.config.settings();
            let model = self.learnt.sequence.take().map(|sequence| Arc::clone(sequence.model()));
            self.keys.reset();
            self.learnt = Learnt::new(settings, self.partitions);
            self.keys.iter().for_each(|(key, name)| self.learnt.stride.learn_key(key, name));
            self.nodes.reset(settings);
            self.outstanding = Outstanding::new(settings.outstanding_max);
            self.unanswered = Unanswered::default();
            self.account = Account::default();
            if let Some(model) = model {
                self.learnt.install(model, &self.keys);
            }
        }
    }

    /// Chooses whether counts, weights, gate and calibrators follow the stream and the outcomes. What is not learning is
    /// still told what happens: sessions, the popularity of keys, the cache map and the budget go on.
    pub fn set_learning(&mut self, is_learning: bool) {
        self.is_learning = is_learning;
    }

    /// Whether the engine learns from the stream and from outcomes.
    pub fn is_learning(&self) -> bool {
        self.is_learning
    }

    /// Numbers orders from here on, so that those of several engines can be told apart.
    pub fn number_orders_from(&mut self, first: u64) {
        self.commands = first;
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

    /// A node that ever joined.
    pub fn node(&self, node: NodeIndex) -> Option<&NodeDescriptor> {
        self.nodes.get(node).map(|node| &node.descriptor)
    }

    /// The membership's version: it grows with every join and leave.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What was done and why.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The gate, with what it has learnt.
    pub fn gate(&self) -> &Gate {
        &self.learnt.gate
    }

    /// The configuration in force.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The topology in force.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Takes a model's co-access counts over, as far as there is room for the keys.
    fn take_over(&mut self, now: Timestamp, model: &Model) {
        if self.account.requests > TAKE_OVER_REQUESTS_MAX {
            return;
        }
        let room = self.config.settings().keys_max / 2;
        let names = model.coaccess.keys.iter().take(room.saturating_sub(self.keys.len()));
        let numbers: Vec<(u32, KeyId)> = names.map(|(number, name)| (number, self.intern_key(name))).collect();
        self.learnt.parts.take_over(now, &model.coaccess, &numbers.into_iter().collect());
    }

    /// Forgets everything about a key, so that its number can be given to another.
    fn forget_key(&mut self, key: KeyId) {
        self.learnt.forget_key(key, self.nodes.iter().len());
        self.nodes.forget_key(key);
        self.cache_map.clear_key(key);
        self.queue.retain(|planned| planned.key != key);
        self.keys.forget(key);
    }
}

/// Requests after which an engine knows better than the counts of a training log.
const TAKE_OVER_REQUESTS_MAX: u64 = 1_000;
