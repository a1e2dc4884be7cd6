//! Orders: those waiting to be polled and those whose outcome is awaited.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map, Timestamp};
use nearcast_models::GateFeatures;
use nearcast_proto::message::CommandId;

use super::{NodeIndex, calibrator::Claim, candidates::Sources};

/// A candidate that was found worth ordering.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub node: NodeIndex,
    pub key: KeyId,
    /// Bytes of the whole object.
    pub size_bytes: u64,
    /// Bytes of the segments to order.
    pub bytes: u64,
    /// The segments to order are the missing ones among this many first ones.
    pub segments_end: u32,
    pub sources: Sources,
    pub features: GateFeatures,
    /// P(used) as it is claimed.
    pub claimed: Claim,
    /// P(used) as it is believed.
    pub probability: f32,
    /// Latency that a use saves.
    pub saved_seconds: f64,
    /// Expected value, everything deducted.
    pub value_seconds: f64,
    pub deadline: Timestamp,
}

impl Planned {
    fn value_per_byte(&self) -> f64 {
        self.value_seconds / self.bytes.max(1) as f64
    }
}

/// Planned orders, best value per byte first, bounded: the worst makes room.
#[derive(Debug)]
pub(super) struct Queue {
    /// Ascending by value per byte, so that the best is popped off the end.
    planned: Vec<Planned>,
    max: usize,
    pub dropped: u64,
}

impl Queue {
    pub(super) fn new(max: usize) -> Self {
        Self { planned: Vec::new(), max, dropped: 0 }
    }

    pub(super) fn push(&mut self, planned: Planned) {
        let value = planned.value_per_byte();
        let position = self.planned.partition_point(|other| other.value_per_byte() < value);
        self.planned.insert(position, planned);
        if self.planned.len() > self.max {
            self.planned.remove(0);
            self.dropped += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<Planned> {
        self.planned.pop()
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Planned) -> bool) {
        self.planned.retain(keep);
    }
}

/// An order that was issued and has not ended.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub node: NodeIndex,
    pub key: KeyId,
    pub bytes: u64,
    pub segments: u32,
    /// Segments whose end is still awaited.
    pub segments_open: u32,
    pub segments_used: u32,
    pub segments_late: u32,
    pub segments_unused: u32,
    /// What part of a node's stay it took up room for before its use or end; 0..=1.
    pub stayed: f64,
    /// Whether the node has said anything of it yet.
    pub is_answered: bool,
    pub sources: Sources,
    /// P(used) as it was claimed.
    pub claimed: Claim,
    pub saved_seconds: f64,
    pub value_seconds: f64,
    /// Bytes that the budget is charged for it.
    pub booked_bytes: f64,
    pub at: Timestamp,
    /// The node's request count at issue.
    pub at_request: u64,
}

impl Issued {
    /// How many segments brought nothing although the order was carried out, judged by the bytes that came.
    pub(super) fn segments_failed(&self, bytes: u64) -> u32 {
        let came = (bytes * u64::from(self.segments)).div_ceil(self.bytes.max(1));
        self.segments.saturating_sub(u32::try_from(came).unwrap_or(u32::MAX)).saturating_sub(self.segments_late)
    }
}

/// Issued orders by number and by what they fetch, bounded: the oldest is given up.
#[derive(Debug)]
pub(super) struct Outstanding {
    issued: Map<CommandId, Issued>,
    targets: Map<(NodeIndex, KeyId), CommandId>,
    order: VecDeque<CommandId>,
    max: usize,
    pub given_up: u64,
}

impl Outstanding {
    pub(super) fn new(max: usize) -> Self {
        Self { issued: Map::default(), targets: Map::default(), order: VecDeque::new(), max, given_up: 0 }
    }

    pub(super) fn contains(&self, node: NodeIndex, key: KeyId) -> bool {
        !self.targets.is_empty() && self.targets.contains_key(&(node, key))
    }

    /// Takes in an order; returns the one that is given up for it, if any.
    pub(super) fn insert(&mut self, id: CommandId, issued: Issued) -> Option<Issued> {
        self.targets.insert((issued.node, issued.key), id);
        self.issued.insert(id, issued);
        self.order.push_back(id);
        if self.issued.len() > self.max {
            let oldest = self.oldest()?;
            self.given_up += 1;
            return self.remove(oldest);
        }
        // Ended orders leave their number behind; drop those before they outnumber the living.
        if self.order.len() > 2 * self.issued.len() + ENDED_MAX {
            let issued = &self.issued;
            self.order.retain(|id| issued.contains_key(id));
        }
        None
    }

    pub(super) fn get(&self, id: CommandId) -> Option<&Issued> {
        self.issued.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: CommandId) -> Option<&mut Issued> {
        self.issued.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: CommandId) -> Option<Issued> {
        let issued = self.issued.remove(&id)?;
        self.targets.remove(&(issued.node, issued.key));
        Some(issued)
    }

    /// Takes out every order to a node.
    pub(super) fn remove_node(&mut self, node: NodeIndex) -> Vec<Issued> {
        let mut ids: Vec<CommandId> =
            self.issued.iter().filter(|(_, issued)| issued.node == node).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.issued.len()
    }

    fn oldest(&mut self) -> Option<CommandId> {
        loop {
            let id = self.order.pop_front()?;
            if self.issued.contains_key(&id) {
                return Some(id);
            }
        }
    }
}

const ENDED_MAX: usize = 1_024;
