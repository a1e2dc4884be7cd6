//! Membership: nodes join and leave, and say what they hold.

use std::sync::Arc;

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::NodeDescriptor;

use super::{Engine, KeySample, NodeIndex, budget::TokenBucket};

impl Engine {
    /// A node joins or comes back. What it holds is unknown until [`Engine::handle_inventory`] tells.
    pub fn handle_join(&mut self, now: Timestamp, node: NodeDescriptor) -> NodeIndex {
        self.epoch.0 += 1;
        let region = self.intern_region(&node.region);
        let index = self.nodes.join(now, node, region, &self.topology, self.config.settings());
        self.void_node(index);
        index
    }

    /// A node is gone: it holds nothing and its orders are void.
    pub fn handle_leave(&mut self, _now: Timestamp, node: NodeIndex) {
        let Some(known) = self.nodes.get_mut(node) else {
            self.account.unknown += 1;
            return;
        };
        known.alive = false;
        self.epoch.0 += 1;
        self.void_node(node);
    }

    /// From now on a node is a miniature that follows a sample of the keys, with as much of its bytes per second; or
    /// again the whole node. Call it right after [`Engine::handle_join`], whose descriptor then has as much of the
    /// capacity.
    pub fn handle_miniature(&mut self, now: Timestamp, node: NodeIndex, sample: Option<KeySample>) {
        let settings = self.config.settings();
        let rate = settings.node_bytes_per_second * sample.map_or(1.0, KeySample::share);
        if let Some(node) = self.nodes.get_mut(node) {
            node.sample = sample;
            node.bucket = TokenBucket::new(now, rate, settings.node_burst_seconds);
        }
    }

    /// What a node holds, as far as it is known: the key's name, the object's size and the segment's position.
    pub fn held(&self, node: NodeIndex) -> Vec<(Arc<str>, u64, u32)> {
        let named = |segment: SegmentId| {
            let (name, info) = (self.keys.name(segment.key)?, self.keys.info(segment.key)?);
            Some((Arc::clone(name), info.size_bytes, segment.index))
        };
        self.cache_map.held(node).into_iter().filter_map(named).collect()
    }

    /// A node holds a segment of this many bytes since a moment ago.
    pub fn handle_gained(&mut self, _now: Timestamp, node: NodeIndex, segment: SegmentId, _size_bytes: u64) {
        if self.nodes.get(node).is_some_and(|node| node.alive) {
            self.cache_map.insert(node, segment);
        } else {
            self.account.unknown += 1;
        }
    }

    /// A node says, as it joins, that it has held a segment of this many bytes all along.
    pub fn handle_inventory(&mut self, now: Timestamp, node: NodeIndex, segment: SegmentId, size_bytes: u64) {
        self.handle_gained(now, node, segment, size_bytes);
        if let Some(known) = self.nodes.get_mut(node).filter(|node| node.alive)
            && known.ghost.weight(segment.key).is_some()
        {
            known.ghost.hold(now, segment, size_bytes);
        }
    }

    /// A node no longer holds a segment.
    pub fn handle_lost(&mut self, _now: Timestamp, node: NodeIndex, segment: SegmentId) {
        if !self.cache_map.holds(node, segment) {
            return;
        }
        self.cache_map.remove(node, segment);
        // A prefetched segment that nobody used is no loss; its outcome says so.
        if self.outstanding.contains(node, segment.key) {
            return;
        }
        let (Some(node), Some(info)) = (self.nodes.get_mut(node), self.keys.info(segment.key)) else { return };
        let start = u64::from(segment.index) * node.segment_bytes;
        let bytes = info.size_bytes.saturating_sub(start).min(node.segment_bytes);
        node.harm.handle_dropped(segment.key, bytes, node.requests);
    }

    fn void_node(&mut self, node: NodeIndex) {
        self.cache_map.clear_node(node);
        self.queue.retain(|planned| planned.node != node);
        for issued in self.outstanding.remove_node(node) {
            self.learnt.labels.handle_gone(node, issued.key);
            self.learnt.allowance.correct(issued.booked_bytes, 0.0);
            self.account.void += 1;
        }
        self.refresh_account(node);
    }
}
