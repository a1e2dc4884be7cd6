//! Arms: several versions of the predictor at work on one stream, each with an engine of its own.
//!
//! At every node one arm is *in force*: its orders are carried out, and it is told what the node really does. Every other
//! arm sees the same requests against a *miniature* of that node, a ghost cache that holds what the arm itself would have
//! brought there (`ghost_node`), so that it learns from its own doings and not from another's. Miniatures of what is in
//! force and of *none* always run beside: what prediction is worth is their difference.
//!
//! | file | concern |
//! | --- | --- |
//! | `mod` | who is in force where; requests and orders to every engine |
//! | `seat` | one arm: its name, its version and its miniatures |
//! | `switch` | another arm comes into force at a node; arms come and go |
//! | `ghosts`, `ghost_node` | the miniatures |
//! | `tally` | what they counted |
//! | `report` | the same for `/status` and metrics |
//! | `reports` | what nodes say of orders and of what they hold |

mod ghost_node;
mod ghosts;
mod report;
mod reports;
mod seat;
mod switch;
mod tally;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use nearcast_cache_node::core::routing::Link;
use nearcast_datasets::{SegmentId, ServedFrom, Timestamp};
use nearcast_proto::{
    message::{NodeDescriptor, Request},
    topology::Topology,
};
use serde::{Deserialize, Serialize};

use self::{
    ghost_node::{Found, GhostEvent},
    ghosts::Ghosts,
    seat::{Rival, Seat},
    tally::Stratum,
};
pub use self::{
    report::{ArmShadow, ArmsStatus, ShadowStatus},
    seat::ArmSpec,
    switch::ArmRefused,
    tally::{Sampled, ShadowAccount},
};
use crate::{
    Error, Result,
    engine::{Engine, KeySample, NodeIndex, Observation, Order, key_hash},
};

/// What bounds and samples the arms beside the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowSettings {
    /// Share of the keys that miniatures follow (above 0, at most 1).
    pub sample_share: f64,
    /// Arms beside the champion at any one time (1..=16).
    pub arms_max: usize,
}

impl Default for ShadowSettings {
    fn default() -> Self {
        Self { sample_share: 0.1, arms_max: 4 }
    }
}

impl ShadowSettings {
    /// These settings, if they make sense.
    ///
    /// # Errors
    /// [`Error::Setting`] names the one that does not.
    pub(crate) fn checked(self) -> Result<Self> {
        if !(self.sample_share > 0.0 && self.sample_share <= 1.0) {
            let (name, value) = ("shadow.sample_share", self.sample_share.to_string());
            return Err(Error::Setting { name, value, expected: "above 0 and at most 1" });
        }
        if !(1..=ARMS_MAX).contains(&self.arms_max) {
            let (name, value) = ("shadow.arms_max", self.arms_max.to_string());
            return Err(Error::Setting { name, value, expected: "between 1 and 16" });
        }
        Ok(self)
    }
}

/// Every arm but for the champion's engine, which is the caller's and is lent to every call that needs it.
#[derive(Debug)]
pub struct Arms {
    settings: ShadowSettings,
    sample: KeySample,
    champion: Seat,
    rivals: Vec<Rival>,
    /// What would be without prefetching.
    none: Ghosts,
    worlds: Vec<NodeWorld>,
    slots_used: u64,
    started_at: Option<Timestamp>,
    /// Whether there are no miniatures: an arm that is not in force at a node sees its requests and nothing of its cache.
    is_blind: bool,
}

/// Where a node is and who is in force there.
#[derive(Clone, Debug)]
struct NodeWorld {
    descriptor: NodeDescriptor,
    segment_bytes: u64,
    is_alive: bool,
    /// The slot of the arm in force.
    in_force: u64,
    /// By node.
    peers: Vec<Link>,
    origin: Link,
}

/// An arm's order for a node at which it is in force.
#[derive(Debug)]
pub struct ArmOrder {
    /// The order.
    pub order: Order,
    /// The key's name.
    pub key: Arc<str>,
    /// The arm's name; none for the champion's, which goes by what its engine does.
    pub arm: Option<Arc<str>>,
    /// The version of the arm's model; none for the champion's, which the caller knows.
    pub version: Option<Arc<str>>,
}

impl Arms {
    /// The champion alone.
    pub fn new(settings: ShadowSettings) -> Self {
        Self {
            settings,
            sample: KeySample::new(settings.sample_share),
            champion: Seat::champion(),
            rivals: Vec::new(),
            none: Ghosts::default(),
            worlds: Vec::new(),
            slots_used: 0,
            started_at: None,
            is_blind: false,
        }
    }

    /// The same without miniatures, for who sees a part of each node's requests only.
    #[must_use]
    pub fn without_miniatures(self) -> Self {
        Self { sample: KeySample::new(0.0), is_blind: true, ..self }
    }

    /// A node joins, and every engine numbers it alike.
    pub fn handle_join(&mut self, now: Timestamp, node: &NodeDescriptor, engine: &mut Engine) -> NodeIndex {
        self.started_at.get_or_insert(now);
        let index = engine.handle_join(now, node.clone());
        let place = usize::from(index.0);
        if place > self.worlds.len() {
            return index;
        }
        let in_force = self.worlds.get(place).map_or(self.champion.slot, |world| world.in_force);
        let world = NodeWorld {
            descriptor: node.clone(),
            segment_bytes: node.segment_bytes.max(1),
            is_alive: true,
            in_force,
            peers: Vec::new(),
            origin: Link {
                round_trip: engine.topology().origin_rtt(&node.region),
                bandwidth: engine.topology().origin_bandwidth(&node.region),
            },
        };
        let is_new = place == self.worlds.len();
        if is_new {
            self.worlds.push(world);
        } else {
            self.worlds[place] = world;
        }
        self.measure_links(engine.topology());
        self.enter(now, index, engine, is_new);
        index
    }

    /// A node is gone.
    pub fn handle_leave(&mut self, now: Timestamp, node: NodeIndex, engine: &mut Engine) {
        if let Some(world) = self.worlds.get_mut(usize::from(node.0)) {
            world.is_alive = false;
        }
        engine.handle_leave(now, node);
        for rival in &mut self.rivals {
            rival.engine.handle_leave(now, node);
        }
    }

    /// A node answered a request.
    pub fn handle_request(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        client: u64,
        request: &Request,
        engine: &mut Engine,
    ) {
        let hash = key_hash(&request.key);
        let hash = (self.sample.holds(hash) && request.served != ServedFrom::Error).then_some(hash);
        // What a node logged happened a little ago; what its clock says is believed within bounds.
        let at = request.timestamp.max(now.before(LAG_MAX)).min(now);
        let key = engine.intern_key(&request.key);
        let (count, since) = engine.last_asked(key);
        let followed = (Stratum::of(count, since), hash);
        self.none.request(at, node, request, followed, &self.worlds);
        if let Some(ghost) = self.none.get_mut(node) {
            ghost.recall();
        }
        let in_force = self.worlds.get(usize::from(node.0)).map(|world| world.in_force);
        let seats = std::iter::once((&mut self.champion, engine));
        let rivals = self.rivals.iter_mut().map(|rival| (&mut rival.seat, &mut rival.engine));
        for (seat, engine) in seats.chain(rivals) {
            let served = if in_force == Some(seat.slot) {
                seat.ghosts.observe(node, request, followed, &self.worlds);
                request.served
            } else {
                let found = seat.ghosts.request(at, node, request, followed, &self.worlds);
                tell(now, node, &mut seat.ghosts, engine);
                served(request.served, found)
            };
            let observation = Observation {
                node,
                client,
                region: engine.intern_region(&request.region),
                key: engine.intern_key(&request.key),
                size_bytes: request.size_bytes,
                range: request.range,
                served,
            };
            engine.handle_request(now, &observation);
        }
    }

    /// The next order of any arm for a node at which it is in force. Orders for other nodes go to their miniatures. Call
    /// it after every `handle_*` until it returns `None`.
    pub fn poll_order(&mut self, now: Timestamp, engine: &mut Engine) -> Option<ArmOrder> {
        let rivals = self.rivals.iter_mut().map(|rival| (&mut rival.seat, &mut rival.engine));
        for (seat, engine) in std::iter::once((&mut self.champion, engine)).chain(rivals) {
            while let Some(order) = engine.poll_order(now) {
                let Some(key) = engine.key_name(order.key).cloned() else { continue };
                let world = self.worlds.get(usize::from(order.node.0));
                if world.is_some_and(|world| world.in_force == seat.slot) {
                    return Some(ArmOrder { order, key, arm: seat.name.clone(), version: seat.version.clone() });
                }
                seat.ghosts.order(now, &order, &key, key_hash(&key), &self.worlds);
                tell(now, order.node, &mut seat.ghosts, engine);
            }
        }
        None
    }

    /// What rivals of the champion have learnt of a part of the clients is forgotten, as another goes on with it or they
    /// have come from another. The champion's is the caller's to hand over.
    pub fn forget_part(&mut self, part: u32) {
        for rival in &mut self.rivals {
            // It is divided as the champion is, or the champion's could not have been handed over.
            let _ = rival.engine.resume_part(part, None);
        }
    }

    /// Whether there is an arm of this name beside the champion.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The engine in force at a node, to be asked.
    pub fn engine_at<'a>(&'a self, node: NodeIndex, engine: &'a Engine) -> &'a Engine {
        let slot = self.worlds.get(usize::from(node.0)).map(|world| world.in_force);
        self.rivals.iter().find(|rival| Some(rival.seat.slot) == slot).map_or(engine, |rival| &rival.engine)
    }

    /// The engine in force at a node.
    pub(super) fn in_force<'a>(&'a mut self, node: NodeIndex, engine: &'a mut Engine) -> &'a mut Engine {
        let slot = self.worlds.get(usize::from(node.0)).map(|world| world.in_force);
        self.rivals.iter_mut().find(|rival| Some(rival.seat.slot) == slot).map_or(engine, |rival| &mut rival.engine)
    }

    /// When [`Arms::handle_timeout`] should be called next.
    pub fn poll_timeout(&self, engine: &Engine) -> Option<Timestamp> {
        self.rivals.iter().map(|rival| &rival.engine).chain([engine]).filter_map(Engine::poll_timeout).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp, engine: &mut Engine) {
        engine.handle_timeout(now);
        self.rivals.iter_mut().for_each(|rival| rival.engine.handle_timeout(now));
    }

    fn measure_links(&mut self, topology: &Topology) {
        let regions: Vec<Arc<str>> = self.worlds.iter().map(|world| Arc::clone(&world.descriptor.region)).collect();
        for world in &mut self.worlds {
            let to = &world.descriptor.region;
            let link =
                |from: &Arc<str>| Link { round_trip: topology.rtt(to, from), bandwidth: topology.bandwidth(to, from) };
            world.peers = regions.iter().map(link).collect();
        }
    }
}

/// Tells an engine what its miniature did.
fn tell(now: Timestamp, node: NodeIndex, ghosts: &mut Ghosts, engine: &mut Engine) {
    while let Some(event) = ghosts.poll_event(node) {
        let segment = |engine: &mut Engine, name: &str, index| SegmentId { key: engine.intern_key(name), index };
        match event {
            GhostEvent::Gained { name, index, bytes } => {
                let segment = segment(engine, &name, index);
                engine.handle_gained(now, node, segment, bytes);
            }
            GhostEvent::Lost { name, index } => {
                let segment = segment(engine, &name, index);
                engine.handle_lost(now, node, segment);
            }
            GhostEvent::Ended { command, status, bytes } => engine.handle_result(now, command, status, bytes),
            GhostEvent::Outcome { command, kind, residence } => engine.handle_outcome(now, command, kind, residence),
        }
    }
}

/// Who would have answered.
fn served(really: ServedFrom, found: Option<Found>) -> ServedFrom {
    match found {
        _ if really == ServedFrom::Error => ServedFrom::Error,
        Some(Found::Prefetched) => ServedFrom::Prefetched,
        Some(Found::Missed) => ServedFrom::Origin,
        Some(Found::Held) | None => ServedFrom::Memory,
    }
}

/// Orders are numbered per engine in their lower bits, and the engine above.
const SLOT_BITS: u32 = 32;
/// Engines that one life of a predictor can have: what [`crate::generation`] leaves of a command's number.
const SLOTS_MAX: u64 = 64;
/// Engines beside the champion's, each as large as it.
const ARMS_MAX: usize = 16;
/// The oldest a logged request is taken to be.
const LAG_MAX: Duration = Duration::from_secs(10);
