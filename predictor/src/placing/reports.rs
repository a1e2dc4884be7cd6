//! What nodes say: what they hold, what was asked of them, which map they route by. What cannot be is counted and not
//! believed.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, ServedFrom, Timestamp};
use nearcast_proto::message::{PlacementPosition, Request, SegmentSet};

use super::{Placing, planning::Told};
use crate::fleet::client_number;

impl Placing {
    /// A page of a node's inventory; the first one replaces what was known.
    pub(crate) fn handle_inventory(
        &mut self,
        now: Timestamp,
        position: usize,
        held: &[SegmentSet],
        begins: bool,
        last: bool,
    ) {
        if begins {
            let Some(slot) = self.nodes.get_mut(position) else { return };
            // Of one that has just joined, nothing is known to be held.
            if std::mem::take(&mut slot.is_complete) {
                slot.held_bytes = 0;
                self.forget_holdings(position);
            }
        }
        for set in held {
            self.gained(now, position, set);
        }
        if last {
            self.take_inventory(now, position);
        }
    }

    /// What a node gained and lost.
    pub(crate) fn handle_delta(&mut self, now: Timestamp, position: usize, gained: &[SegmentSet], lost: &[SegmentSet]) {
        for set in lost {
            let (Some(slot), mut known) = (self.nodes.get_mut(position), self.known.lock()) else { return };
            let Some(key) = known.find(&set.key) else { continue };
            let (bytes, was_whole) = known.note_lost(key, position, set, slot.segment_bytes);
            slot.held_bytes = slot.held_bytes.saturating_sub(bytes);
            drop(known);
            if was_whole && self.concerns(key) {
                self.shards.handle_lost(key, position);
                self.note_changed(now, key);
            }
        }
        for set in gained {
            if let Some(key) = self.gained(now, position, set)
                && self.concerns(key)
                && self.known.lock().holders(key).contains(position)
            {
                self.shards.handle_held(key, position);
                self.note_changed(now, key);
            }
        }
    }

    /// Somebody asked a node for something.
    pub(crate) fn handle_request(&mut self, now: Timestamp, position: usize, request: &Request) {
        if request.served == ServedFrom::Error || request.size_bytes == 0 {
            return;
        }
        let Some(region) = self.nodes.get(position).and_then(|slot| slot.region) else { return };
        let forgettable = self.forgettable(now);
        let mut known = self.known.lock();
        let is_in_use = |key| self.wanted.contains_key(&key) || self.shards.is_asked(key);
        let Some(key) = known.intern(&request.key, forgettable, is_in_use) else { return };
        known.note_asked(now, key, request.size_bytes);
        let (name, holders) = (Arc::clone(&request.key), known.holders(key));
        drop(known);
        let client = client_number(&request.client);
        let told = Told::Request { at: now, client, key, name, region, bytes: request.size_bytes };
        self.untold += u64::from(!self.tell(told));
        if request.served == ServedFrom::Peer {
            self.hot.handle_asked(key, position);
        }
        if request.served.is_hit()
            && let Some(wanted) = self.wanted.get_mut(&key).filter(|wanted| wanted.nodes.contains(position))
        {
            let others = holders.without(position).minus(wanted.nodes);
            let seconds = |from| self.nodes.seconds(position, from, request.size_bytes);
            wanted.uses += 1;
            wanted.earned_seconds += others.iter().map(|node| seconds(Some(node))).fold(seconds(None), f64::min);
        }
    }

    /// A node says by which version of the map it routes.
    pub(crate) fn handle_position(&mut self, now: Timestamp, position: usize, held: Option<&PlacementPosition>) {
        let (id, epoch, (committed_at, _)) = (self.board.id(), self.board.epoch(), self.committed);
        let Some(slot) = self.nodes.get_mut(position) else { return };
        slot.epoch = held.filter(|held| held.map == id).map(|held| held.epoch);
        if slot.epoch.is_some_and(|held| held > epoch) {
            tracing::warn!(node = %slot.name, "the node says that it routes by a map that there has not been yet; it gets the whole");
            slot.lies.epochs_from_the_future += 1;
            slot.epoch = None;
        }
        if slot.epoch == Some(epoch) {
            slot.caught_up = Some(now.since(committed_at));
        }
    }

    /// All that a node holds is known now: it may be asked for things, and get its share.
    fn take_inventory(&mut self, now: Timestamp, position: usize) {
        let Some(slot) = self.nodes.get_mut(position) else { return };
        if std::mem::replace(&mut slot.is_complete, true) {
            return;
        }
        let theirs = self.wanted.iter().filter(|(_, wanted)| wanted.nodes.contains(position));
        let theirs: Vec<KeyId> = theirs.map(|(key, _)| *key).collect();
        let known = self.known.lock();
        let held: Vec<KeyId> = theirs.iter().copied().filter(|key| known.holders(*key).contains(position)).collect();
        drop(known);
        self.shards.handle_inventory(position, held);
        self.changed.extend(theirs);
        self.commit_due = Some(now);
        // Before the first plan there is nothing to upset.
        let pause = if self.last_plan.is_none() { Duration::ZERO } else { SETTLE };
        self.hurry_sites(Some(now.after(pause)));
    }

    /// A node says that it holds segments; `None` when that is not believed.
    fn gained(&mut self, now: Timestamp, position: usize, set: &SegmentSet) -> Option<KeyId> {
        let forgettable = self.forgettable(now);
        let slot = self.nodes.get_mut(position)?;
        let claimed = (set.segments.len() as u64).saturating_mul(slot.segment_bytes).min(set.size_bytes);
        if !slot.may_hold(claimed) {
            if slot.lies.claims_beyond_capacity == 0 {
                tracing::warn!(node = %slot.name, capacity_bytes = slot.capacity_bytes, "the node says that it holds more than it can; the rest is not believed");
            }
            slot.lies.claims_beyond_capacity += 1;
            return None;
        }
        let mut known = self.known.lock();
        let is_in_use = |key| self.wanted.contains_key(&key) || self.shards.is_asked(key);
        let key = known.intern(&set.key, forgettable, is_in_use)?;
        slot.held_bytes += known.note_gained(key, position, set, slot.segment_bytes);
        Some(key)
    }

    /// Whether a key is placed, or was and still is on the map.
    fn concerns(&self, key: KeyId) -> bool {
        self.wanted.contains_key(&key) || !self.board.holders(key).is_empty()
    }
}

/// A node that has just joined is planned for a moment later, with others that join beside it.
const SETTLE: Duration = Duration::from_millis(500);
