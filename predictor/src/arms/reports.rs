//! What nodes say of orders and of what they hold: to the engine that it concerns.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, SegmentId, Timestamp};
use nearcast_proto::message::{CommandId, CommandStatus, OutcomeKind};

use super::{Arms, SLOT_BITS, ghost_node::GhostNode, seat::Seat};
use crate::engine::{Engine, NodeIndex, key_hash};

impl Arms {
    /// A node answered an order; whether its arm is still there.
    pub fn handle_result(
        &mut self,
        now: Timestamp,
        order: CommandId,
        status: CommandStatus,
        bytes: u64,
        engine: &mut Engine,
    ) -> bool {
        let Some((seat, engine)) = self.author(order, engine) else { return false };
        seat.ghosts.real.0 += bytes;
        engine.handle_result(now, order, status, bytes);
        true
    }

    /// One prefetched segment of an order met its end or first use. How many bytes were fetched in vain; `None` when the
    /// order's arm is gone.
    pub fn handle_outcome(
        &mut self,
        now: Timestamp,
        order: CommandId,
        kind: OutcomeKind,
        residence: Duration,
        engine: &mut Engine,
    ) -> Option<u64> {
        let (seat, engine) = self.author(order, engine)?;
        let is_wasted = matches!(kind, OutcomeKind::EvictedUnused | OutcomeKind::Expired);
        let wasted = if is_wasted { engine.segment_bytes_of(order).unwrap_or_default() } else { 0 };
        seat.ghosts.real.1 += wasted;
        engine.handle_outcome(now, order, kind, residence);
        Some(wasted)
    }

    /// A node holds a segment of an object of so many bytes: since a moment ago, or all along as its inventory says.
    pub fn handle_gained(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        name: &Arc<str>,
        segment: (u32, u64),
        is_inventory: bool,
        engine: &mut Engine,
    ) {
        let ((index, bytes), hash) = (segment, key_hash(name));
        if self.sample.holds(hash) {
            let held = SegmentId { key: KeyId(hash), index };
            if is_inventory {
                self.take_over(now, node, held, name, bytes);
            } else if let Some(ghost) = self.ghost_in_force(node) {
                ghost.note_gained(now, held, name);
            }
        }
        let engine = self.in_force(node, engine);
        let segment = SegmentId { key: engine.intern_key(name), index };
        if is_inventory {
            engine.handle_inventory(now, node, segment, bytes);
        } else {
            engine.handle_gained(now, node, segment, bytes);
        }
    }

    /// A node no longer holds a segment.
    pub fn handle_lost(&mut self, now: Timestamp, node: NodeIndex, name: &str, index: u32, engine: &mut Engine) {
        let hash = key_hash(name);
        if self.sample.holds(hash)
            && let Some(ghost) = self.ghost_in_force(node)
        {
            ghost.note_lost(now, SegmentId { key: KeyId(hash), index });
        }
        let engine = self.in_force(node, engine);
        let segment = SegmentId { key: engine.intern_key(name), index };
        engine.handle_lost(now, node, segment);
    }

    fn ghost_in_force(&mut self, node: NodeIndex) -> Option<&mut GhostNode> {
        let slot = self.worlds.get(usize::from(node.0))?.in_force;
        let rival = self.rivals.iter_mut().map(|rival| &mut rival.seat).find(|seat| seat.slot == slot);
        rival.unwrap_or(&mut self.champion).ghosts.get_mut(node)
    }

    fn author<'a>(&'a mut self, order: CommandId, champion: &'a mut Engine) -> Option<(&'a mut Seat, &'a mut Engine)> {
        let slot = order.0 >> SLOT_BITS;
        if slot == self.champion.slot {
            return Some((&mut self.champion, champion));
        }
        let rival = self.rivals.iter_mut().find(|rival| rival.seat.slot == slot)?;
        Some((&mut rival.seat, &mut rival.engine))
    }
}
