//! Plans taken over, the map that follows from them, and what is written down of both.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, Map, Set, Timestamp};
use nearcast_proto::message::Epoch;

use super::{
    Placing,
    file::{Saved, SavedKey},
    planning::{Planned, WholePlan},
    status::PlanStatus,
};
use crate::{
    events::rfc3339,
    placement::{Move, NodeSet, PlannedKey, Waits},
};

/// Where a key is meant to be held, and why.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) nodes: NodeSet,
    /// Of those, the ones that are to keep it from when it is there.
    pub(super) awaited: NodeSet,
    /// Of those, the ones that are to have it for demand that comes later.
    pub(super) ahead: NodeSet,
    /// Of those that await it, the ones whose links have no room for it before the next plan.
    pub(super) postponed: NodeSet,
    /// Of those, the ones that the key got for being hot.
    pub(super) hot: NodeSet,
    pub(super) bytes: u64,
    /// Seconds of waiting that its replicas are expected to save until the next plan.
    pub(super) saved_seconds: f32,
    /// Requests that replicas have answered since the key was placed.
    pub(super) uses: u64,
    /// Seconds that those would have waited for the next best source, had the replica not been there.
    pub(super) earned_seconds: f64,
}

impl Wanted {
    pub(super) fn restored(nodes: NodeSet, bytes: u64, saved_seconds: f32) -> Self {
        Self { nodes, bytes, saved_seconds, ..Self::default() }
    }

    /// Why a node is meant to hold it, which does or does not.
    pub(super) fn reason(&self, node: usize, is_held: bool) -> &'static str {
        match () {
            () if self.hot.contains(node) => "hot",
            () if is_held => "plan",
            () if self.ahead.contains(node) => "ahead",
            () if self.postponed.contains(node) => "link",
            () if self.awaited.contains(node) => "reader",
            () => "plan",
        }
    }

    /// A node is to fetch it whatever was planned there.
    fn is_for_now(&mut self, node: usize) {
        for set in [&mut self.awaited, &mut self.ahead, &mut self.postponed] {
            *set = set.without(node);
        }
    }
}

impl Placing {
    /// Goes over to a plan, or to what is worth holding before the next one. Says whether it was a plan.
    pub(crate) fn handle_planned(&mut self, now: Timestamp, planned: &Planned) -> bool {
        match planned {
            Planned::Whole(plan) => self.take_over(now, plan),
            Planned::Between(moves, reuses) => self.hold_also(now, moves, *reuses),
        }
        matches!(planned, Planned::Whole(_))
    }

    /// Numbers that went to other keys since the planning thread had heard of so many of them: there they mean others.
    fn reused_since(&mut self, reuses: u64) -> Set<KeyId> {
        while self.reused.front().is_some_and(|(number, _)| *number < reuses) {
            self.reused.pop_front();
        }
        self.reused.iter().map(|(_, key)| *key).collect()
    }

    fn take_over(&mut self, now: Timestamp, whole: &WholePlan) {
        self.plans += 1;
        let reused = self.reused_since(whole.reuses);
        let keys: Vec<_> = whole.keys.iter().filter(|(key, _)| !reused.contains(key)).collect();
        self.last_plan = Some(PlanStatus {
            at: rfc3339(now),
            took_seconds: whole.took.as_secs_f64(),
            keys: whole.keys.len(),
            transfer_bytes: whole.transfer_bytes,
            expected_saved_seconds: whole.saved_seconds,
        });
        self.guard = whole.guard;
        self.hot.handle_plan();
        let mut before = std::mem::take(&mut self.wanted);
        self.changed.extend(before.keys().copied());
        let waits = |key: KeyId| whole.waits.get(&key).copied().unwrap_or_default();
        for (key, planned) in &keys {
            let earned = before.remove(key).unwrap_or_default();
            let PlannedKey { nodes, bytes, saved_seconds, .. } = *planned;
            let Waits { awaited, ahead, postponed } = waits(*key);
            let hot = NodeSet::EMPTY;
            self.wanted.insert(*key, Wanted { nodes, awaited, ahead, postponed, hot, bytes, saved_seconds, ..earned });
            self.changed.insert(*key);
        }
        let loads = whole.load_bytes.iter().copied().chain(std::iter::repeat(0));
        self.nodes.iter_mut().zip(loads).for_each(|(slot, bytes)| slot.planned_bytes = bytes);
        self.shards.handle_ahead(keys.iter().map(|(key, _)| (*key, waits(*key).ahead)));
        self.shards.handle_awaited(keys.iter().map(|(key, _)| (*key, waits(*key).awaited)));
        let strategy = keys.iter().map(|(key, planned)| (*key, planned.nodes));
        self.shards.handle_strategy(Epoch(self.plans), strategy);
        let connected = self.nodes.connected();
        let known = self.known.lock();
        for (key, planned) in &keys {
            let there = known.holders(*key);
            let held = planned.nodes.iter().filter(|node| there.contains(*node) && connected.contains(*node));
            held.for_each(|node| self.shards.handle_held(*key, node));
        }
        drop(known);
        // What a restart would otherwise undo.
        self.save_due = Some(now);
        self.commit_due = Some(now);
    }

    /// Has nodes hold what became known since the last plan, until the next one decides.
    fn hold_also(&mut self, now: Timestamp, moves: &[Move], reuses: u64) {
        let reused = self.reused_since(reuses);
        for Move { key, bytes, node, value_seconds, .. } in moves.iter().filter(|step| !reused.contains(&step.key)) {
            let Some(slot) = self.nodes.get_mut(*node).filter(|slot| slot.is_connected && !slot.is_draining) else {
                continue;
            };
            slot.planned_bytes += bytes;
            let wanted = self.wanted.entry(*key).or_default();
            wanted.bytes = *bytes;
            wanted.nodes = wanted.nodes.with(*node);
            wanted.is_for_now(*node);
            wanted.saved_seconds += value_seconds;
            self.want(now, *key, *node);
        }
    }

    /// One key should be held at one more node than the plan said.
    fn want(&mut self, now: Timestamp, key: KeyId, node: usize) {
        let nodes = self.wanted.get(&key).map_or(NodeSet::EMPTY, |wanted| wanted.nodes);
        self.shards.handle_wanted(key, nodes);
        self.shards.handle_needed(key, node);
        if self.known.lock().holders(key).contains(node) {
            self.shards.handle_held(key, node);
        }
        self.note_changed(now, key);
    }

    /// Gives hot keys another holder each, without waiting for the next plan.
    pub(super) fn spread_hot_keys(&mut self, now: Timestamp) {
        let board = Arc::clone(&self.board);
        for hot in self.hot.poll_hot(now, |key| board.holders(key)) {
            let Some(slot) = self.nodes.get(hot.node).filter(|slot| slot.is_connected && !slot.is_draining) else {
                continue;
            };
            let bytes = self.known.lock().bytes(hot.key);
            let room = (slot.capacity_bytes as f64 * self.settings.share) as u64;
            if bytes == 0 || slot.planned_bytes + bytes > room {
                continue;
            }
            self.nodes.get_mut(hot.node).into_iter().for_each(|slot| slot.planned_bytes += bytes);
            let wanted = self.wanted.entry(hot.key).or_default();
            wanted.bytes = bytes;
            wanted.nodes = wanted.nodes.with(hot.node);
            wanted.hot = wanted.hot.with(hot.node);
            wanted.is_for_now(hot.node);
            self.hot.note_added();
            self.want(now, hot.key, hot.node);
        }
    }

    /// Who holds a key may have changed on the map.
    pub(super) fn note_changed(&mut self, now: Timestamp, key: KeyId) {
        self.changed.insert(key);
        self.commit_due.get_or_insert_with(|| now.after(COMMIT_PAUSE));
    }

    /// Brings the map in line with what nodes hold of what they are meant to. While none of the nodes that are meant to
    /// hold a key does, those that were asked for it before still are.
    pub(super) fn commit(&mut self, now: Timestamp) {
        self.commit_due = None;
        let changed: Vec<KeyId> = std::mem::take(&mut self.changed).into_iter().collect();
        let known = self.known.lock();
        let holders = |key: &KeyId| {
            let Some(wanted) = self.wanted.get(key) else { return NodeSet::EMPTY };
            let there = known.holders(*key);
            let both = |nodes: NodeSet| nodes.iter().filter(|node| there.contains(*node)).collect::<NodeSet>();
            // Who is away for a moment stays on the map: nodes know themselves whom they cannot reach.
            let away = wanted.nodes.iter().filter(|node| self.nodes.get(*node).is_some_and(|slot| !slot.is_complete));
            let before = self.board.holders(*key);
            let kept = away.filter(|node| before.contains(*node));
            let meant: NodeSet = both(wanted.nodes).iter().chain(kept).collect();
            if meant.is_empty() { both(before) } else { meant }
        };
        let mut keys: Vec<(KeyId, NodeSet)> = changed.iter().map(|key| (*key, holders(key))).collect();
        drop(known);
        keys.retain(|(key, nodes)| self.board.holders(*key) != *nodes);
        if !keys.is_empty() {
            keys.sort_unstable();
            self.board.commit(&keys);
            self.committed = (now, keys.len());
            self.save_soon(now);
        }
    }

    pub(super) fn save_soon(&mut self, now: Timestamp) {
        self.save_due.get_or_insert_with(|| now.after(SAVE_PAUSE));
    }

    pub(super) fn save(&mut self, now: Timestamp) {
        self.save_due = None;
        if self.maps.try_send(self.saved()).is_err() {
            self.save_due = Some(now.after(SAVE_PAUSE));
        }
    }

    /// All that a restart needs.
    pub(super) fn saved(&self) -> Saved {
        let mut keys: Map<KeyId, SavedKey> = Map::default();
        let known = self.known.lock();
        let mut add = |key: KeyId, change: &dyn Fn(&mut SavedKey)| {
            let Some(name) = known.name(key) else { return };
            let new = || SavedKey {
                key: Arc::clone(name),
                bytes: known.bytes(key),
                wanted: NodeSet::EMPTY,
                holders: NodeSet::EMPTY,
                asked: NodeSet::EMPTY,
                saved_seconds: 0.0,
            };
            change(keys.entry(key).or_insert_with(new));
        };
        for (key, wanted) in &self.wanted {
            // What is only waited for is the next plan's to say again, unless it has come.
            let nodes = wanted.nodes.minus(wanted.awaited.minus(known.holders(*key)));
            add(*key, &|line| (line.wanted, line.saved_seconds) = (nodes, wanted.saved_seconds));
        }
        self.board.entries().into_iter().for_each(|(key, nodes)| add(key, &|line| line.holders = nodes));
        self.shards.asked().for_each(|(key, nodes)| add(key, &|line| line.asked = nodes));
        let draining = self.draining().collect();
        Saved {
            map: self.board.id(),
            epoch: self.board.epoch(),
            is_final: false,
            plans: self.plans,
            nodes: self.nodes.names(),
            draining,
            keys: keys.into_values().collect(),
        }
    }
}

/// Changes are gathered for so long before nodes hear of them.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// What nodes confirm is written down no more often than this; a plan is at once.
const SAVE_PAUSE: Duration = Duration::from_secs(2);
