//! Another arm comes into force at a node; arms come and go. No stream notices but by its next welcome.

use std::{collections::BTreeSet, sync::Arc};

use nearcast_datasets::{KeyId, SegmentId, Timestamp, segment_len};
use nearcast_models::Model;
use nearcast_proto::message::NodeDescriptor;

use super::{
    Arms, NodeWorld, SLOT_BITS, SLOTS_MAX,
    ghost_node::GhostNode,
    ghosts::Ghosts,
    seat::{ArmSpec, Rival, Seat},
};
use crate::engine::{Arm, Engine, KeySample, NodeIndex, key_hash};

/// Why there is no such arm.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArmRefused {
    /// Too many at once.
    #[error("{arms_max} arms run beside the champion, which is the configured limit `shadow.arms_max`")]
    TooMany {
        /// How many there may be.
        arms_max: usize,
    },
    /// Too many since the start.
    #[error("{SLOTS_MAX} arms have come and gone since this predictor was started: start it anew")]
    WornOut,
    /// It is there already.
    #[error("arm `{0}` is running already")]
    Taken(Arc<str>),
    /// It is in force somewhere.
    #[error("arm `{0}` is in force at {1}: assign that node to another arm first")]
    InForce(Arc<str>, Arc<str>),
    /// Nobody knows it.
    #[error("there is no arm `{0}`")]
    Unknown(Arc<str>),
}

impl Arms {
    /// Adds an arm, in force nowhere, and says its name. Its miniatures begin with what the champion's hold.
    ///
    /// # Errors
    /// When there is no room for it, or it is there already.
    pub fn add(
        &mut self,
        now: Timestamp,
        spec: ArmSpec,
        model: Option<Arc<Model>>,
        champion: &Engine,
    ) -> Result<Arc<str>, ArmRefused> {
        let name = spec.name();
        if self.find(&name).is_some() {
            return Err(ArmRefused::Taken(name));
        }
        if self.rivals.len() >= self.settings.arms_max {
            return Err(ArmRefused::TooMany { arms_max: self.settings.arms_max });
        }
        if self.slots_used + 1 >= SLOTS_MAX {
            return Err(ArmRefused::WornOut);
        }
        self.slots_used += 1;
        let slot = self.slots_used;
        let engine = Engine::new(champion.config().clone(), champion.topology().clone());
        let mut engine = engine.divided(champion.partitions());
        engine.number_orders_from(slot << SLOT_BITS);
        engine.set_arm(if spec.orders { Arm::Nearcast } else { Arm::None }, false);
        engine.set_learning(spec.learning);
        if let (Some(version), Some(model)) = (&spec.version, model) {
            engine.install_model(now, Arc::clone(version), model);
        }
        let mut seat = Seat::of(spec, slot);
        for (place, world) in self.worlds.iter().enumerate() {
            let node = index(place);
            engine.handle_join(now, world.descriptor.clone());
            seat.ghosts.put(node, empty(world, self.sample, &engine));
            copy(now, node, &self.champion.ghosts, &mut seat.ghosts);
            become_miniature(now, node, world, &seat.ghosts, self.sample, &mut engine);
            if !world.is_alive {
                engine.handle_leave(now, node);
            }
        }
        self.rivals.push(Rival { seat, engine });
        // What is compared must have been counted over the same requests.
        self.start_counting(now);
        Ok(name)
    }

    /// Drops an arm that is in force nowhere.
    ///
    /// # Errors
    /// When it is in force somewhere, or not there at all.
    pub fn drop_arm(&mut self, name: &str) -> Result<(), ArmRefused> {
        let place = self.find(name).ok_or_else(|| ArmRefused::Unknown(Arc::from(name)))?;
        let slot = self.rivals[place].seat.slot;
        if let Some(world) = self.worlds.iter().find(|world| world.in_force == slot) {
            return Err(ArmRefused::InForce(Arc::from(name), Arc::clone(&world.descriptor.name.0)));
        }
        self.rivals.remove(place);
        Ok(())
    }

    /// Drops every arm that is none of these and in force nowhere.
    pub fn retain(&mut self, needed: &BTreeSet<Arc<str>>) {
        let in_force: BTreeSet<u64> = self.worlds.iter().map(|world| world.in_force).collect();
        self.rivals.retain(|rival| {
            in_force.contains(&rival.seat.slot) || rival.seat.name.as_ref().is_some_and(|name| needed.contains(name))
        });
    }

    /// Puts an arm in force at a node: `None` for the champion. Whether another one was before.
    ///
    /// # Errors
    /// When there is no such arm.
    pub fn assign(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        arm: Option<&str>,
        engine: &mut Engine,
    ) -> Result<bool, ArmRefused> {
        let unknown = || ArmRefused::Unknown(Arc::from(arm.unwrap_or_default()));
        let slot = match arm {
            None => self.champion.slot,
            Some(name) => self.rivals[self.find(name).ok_or_else(unknown)?].seat.slot,
        };
        let Some(world) = self.worlds.get_mut(usize::from(node.0)) else { return Ok(false) };
        let before = std::mem::replace(&mut world.in_force, slot);
        if before == slot {
            return Ok(false);
        }
        let world = world.clone();
        let sample = self.sample;
        let held = {
            let (seat, leaving) = self.seat_mut(before, engine);
            let held = leaving.held(node);
            seat.ghosts.put(node, mirrored(now, &world, sample, &held, leaving));
            become_miniature(now, node, &world, &seat.ghosts, sample, leaving);
            held
        };
        let (seat, entering) = self.seat_mut(slot, engine);
        if let Some(ghost) = seat.ghosts.get_mut(node) {
            ghost.recall();
        }
        entering.handle_join(now, world.descriptor.clone());
        entering.handle_miniature(now, node, None);
        for (name, size_bytes, index) in held {
            let key = entering.intern_key(&name);
            let bytes = segment_len(size_bytes, world.segment_bytes, index);
            entering.handle_inventory(now, node, SegmentId { key, index }, bytes);
        }
        if !world.is_alive {
            entering.handle_leave(now, node);
        }
        Ok(true)
    }

    /// The arm in force at a node: its name, none for the champion, and its version.
    pub fn at(&self, node: NodeIndex) -> (Option<&Arc<str>>, Option<&Arc<str>>) {
        let slot = self.worlds.get(usize::from(node.0)).map(|world| world.in_force);
        let rival = self.rivals.iter().find(|rival| Some(rival.seat.slot) == slot);
        rival.map_or((None, None), |rival| (rival.seat.name.as_ref(), rival.seat.version.as_ref()))
    }

    /// The champion and a rival change places: whoever is in force stays so. The champion that was goes by `retired` from
    /// now on; a rival that had that name makes room for it.
    ///
    /// # Errors
    /// When there is no such rival, or one of the other name is in force somewhere.
    pub fn crown(&mut self, name: &str, retired: &Arc<str>, champion: &mut Engine) -> Result<(), ArmRefused> {
        let known = |arms: &Self| arms.find(name).ok_or_else(|| ArmRefused::Unknown(Arc::from(name)));
        known(self)?;
        if **retired != *name && self.find(retired).is_some() {
            self.drop_arm(retired)?;
        }
        let place = known(self)?;
        let rival = &mut self.rivals[place];
        std::mem::swap(champion, &mut rival.engine);
        std::mem::swap(&mut self.champion.slot, &mut rival.seat.slot);
        std::mem::swap(&mut self.champion.ghosts, &mut rival.seat.ghosts);
        let version = rival.engine.model_version().cloned();
        let orders = rival.engine.arm() != Arm::None;
        rival.seat.spec = Some(ArmSpec { version: version.clone(), learning: rival.engine.is_learning(), orders });
        rival.seat.version = version;
        rival.seat.name = Some(Arc::clone(retired));
        Ok(())
    }

    /// Counts from empty miniatures on, as when the champion forgets what it learnt.
    pub fn reset(&mut self, now: Timestamp, engine: &Engine) {
        let sample = self.sample;
        let rivals = self.rivals.iter_mut().map(|rival| &mut rival.seat.ghosts);
        for ghosts in rivals.chain([&mut self.champion.ghosts, &mut self.none]) {
            for (place, world) in self.worlds.iter().enumerate() {
                ghosts.put(index(place), empty(world, sample, engine));
            }
        }
        self.start_counting(now);
    }

    /// A segment is held at a node from before it was watched: by every arm's miniature.
    pub(super) fn take_over(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        segment: SegmentId,
        name: &Arc<str>,
        bytes: u64,
    ) {
        let rivals = self.rivals.iter_mut().map(|rival| &mut rival.seat.ghosts);
        for ghosts in rivals.chain([&mut self.champion.ghosts, &mut self.none]) {
            if let Some(ghost) = ghosts.get_mut(node) {
                ghost.take_over(now, segment, name, bytes);
            }
        }
    }

    /// A node has joined: miniatures are made for one that is new, and everybody's engine is told.
    pub(super) fn enter(&mut self, now: Timestamp, node: NodeIndex, champion: &mut Engine, is_new: bool) {
        let Some(world) = self.worlds.get(usize::from(node.0)).cloned() else { return };
        let sample = self.sample;
        if is_new {
            self.none.put(node, empty(&world, sample, champion));
        }
        let seats = std::iter::once((&mut self.champion, champion, true));
        let rivals = self.rivals.iter_mut().map(|rival| (&mut rival.seat, &mut rival.engine, false));
        for (seat, engine, is_told) in seats.chain(rivals) {
            if is_new {
                seat.ghosts.put(node, empty(&world, sample, engine));
            }
            if world.in_force != seat.slot {
                become_miniature(now, node, &world, &seat.ghosts, sample, engine);
            } else if !is_told {
                engine.handle_join(now, world.descriptor.clone());
            }
        }
    }

    fn start_counting(&mut self, now: Timestamp) {
        let rivals = self.rivals.iter_mut().map(|rival| &mut rival.seat.ghosts);
        rivals.chain([&mut self.champion.ghosts, &mut self.none]).for_each(Ghosts::start_counting);
        self.started_at = Some(now);
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.rivals.iter().position(|rival| rival.seat.name.as_deref() == Some(name))
    }

    fn seat_mut<'a>(&'a mut self, slot: u64, champion: &'a mut Engine) -> (&'a mut Seat, &'a mut Engine) {
        match self.rivals.iter_mut().find(|rival| rival.seat.slot == slot) {
            Some(rival) => (&mut rival.seat, &mut rival.engine),
            None => (&mut self.champion, champion),
        }
    }
}

/// An empty miniature of a node.
fn empty(world: &NodeWorld, sample: KeySample, engine: &Engine) -> GhostNode {
    let settings = engine.config().settings();
    GhostNode::new(share_of(&world.descriptor, sample), settings.policy, settings.ghost_entries_max)
}

fn share_of(node: &NodeDescriptor, sample: KeySample) -> u64 {
    ((node.capacity_bytes as f64 * sample.share()) as u64).max(1)
}

/// A miniature of what a node really holds.
fn mirrored(
    now: Timestamp,
    world: &NodeWorld,
    sample: KeySample,
    held: &[(Arc<str>, u64, u32)],
    engine: &Engine,
) -> GhostNode {
    let mut ghost = empty(world, sample, engine);
    for (name, size_bytes, index) in held {
        let hash = key_hash(name);
        if sample.holds(hash) {
            let bytes = segment_len(*size_bytes, world.segment_bytes, *index);
            ghost.take_over(now, SegmentId { key: KeyId(hash), index: *index }, name, bytes);
        }
    }
    ghost
}

/// From now on an engine sees its miniature where it saw a node.
fn become_miniature(
    now: Timestamp,
    node: NodeIndex,
    world: &NodeWorld,
    ghosts: &Ghosts,
    sample: KeySample,
    engine: &mut Engine,
) {
    let capacity_bytes = share_of(&world.descriptor, sample);
    engine.handle_join(now, NodeDescriptor { capacity_bytes, ..world.descriptor.clone() });
    engine.handle_miniature(now, node, Some(sample));
    let Some(ghost) = ghosts.get(node) else { return };
    for (segment, name, bytes) in ghost.iter() {
        let key = engine.intern_key(name);
        engine.handle_inventory(now, node, SegmentId { key, index: segment.index }, bytes);
    }
}

fn copy(now: Timestamp, node: NodeIndex, from: &Ghosts, to: &mut Ghosts) {
    let (Some(from), Some(to)) = (from.get(node), to.get_mut(node)) else { return };
    for (segment, name, bytes) in from.iter() {
        to.take_over(now, segment, name, bytes);
    }
}

fn index(place: usize) -> NodeIndex {
    NodeIndex(u16::try_from(place).unwrap_or(u16::MAX))
}
