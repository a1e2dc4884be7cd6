//! Issuing: the best of what was found worth it becomes orders, within hard bounds.

use std::{collections::VecDeque, time::Duration};

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::{Action, CommandId};

use super::{
    Engine, Order, OrderSource,
    orders::{Issued, Planned},
};

/// Orders whose transfer has not been reported, by when it should have been. Patience is one for all, so they are in
/// order of issue.
#[derive(Debug, Default)]
pub(super) struct Unanswered(VecDeque<(Timestamp, CommandId)>);

impl Unanswered {
    /// Adds an order and lets go of the oldest ones that are not awaited any more.
    fn push(&mut self, due: Timestamp, id: CommandId, mut is_awaited: impl FnMut(CommandId) -> bool) {
        self.0.push_back((due, id));
        while self.0.front().is_some_and(|(_, oldest)| !is_awaited(*oldest)) {
            self.0.pop_front();
        }
    }
}

impl Engine {
    /// The next order, best value per byte first. Call it after every `handle_*` until it returns `None`.
    #[must_use]
    pub fn poll_order(&mut self, now: Timestamp) -> Option<Order> {
        while let Some(planned) = self.queue.pop() {
            if planned.deadline < now {
                self.account.overdue += 1;
                continue;
            }
            if self.outstanding.contains(planned.node, planned.key) {
                continue;
            }
            let segments = self.missing_segments(&planned);
            if segments.is_empty() {
                continue;
            }
            if self.affords(now, &planned) {
                return Some(self.issue(now, &planned, segments));
            }
            self.follow_some(now, planned.node, planned.key, planned.features, planned.claimed);
        }
        None
    }

    /// When [`Engine::handle_timeout`] should be called next, if at all.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.unanswered.0.front().map(|(due, _)| *due)
    }

    /// Time has passed: orders that nobody answered are void.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.unanswered.0.front().copied().filter(|(due, _)| *due <= now) {
            self.unanswered.0.pop_front();
            if self.outstanding.get_mut(id).is_some_and(|issued| !issued.is_answered) {
                self.void(id);
            }
        }
    }

    fn missing_segments(&self, planned: &Planned) -> Vec<u32> {
        let Planned { node, key, segments_end, .. } = *planned;
        (0..segments_end).filter(|index| !self.cache_map.holds(node, SegmentId { key, index: *index })).collect()
    }

    /// Books an order with the budget and the node's bucket, or says which of them cannot pay.
    fn affords(&mut self, now: Timestamp, planned: &Planned) -> bool {
        let Some(node) = self.nodes.get_mut(planned.node).filter(|node| node.alive) else { return false };
        if planned.bytes as f64 > self.learnt.allowance.balance() {
            self.account.refusals.budget += 1;
            return false;
        }
        if !node.bucket.take(now, planned.bytes) {
            self.account.refusals.bytes_per_second += 1;
            return false;
        }
        node.trust.record(-self.config.settings().price_seconds_per_byte() * planned.bytes as f64);
        self.learnt.allowance.spend(planned.bytes as f64)
    }

    fn issue(&mut self, now: Timestamp, planned: &Planned, segments: Vec<u32>) -> Order {
        self.commands += 1;
        let id = CommandId(self.commands);
        let Planned { node, key, size_bytes, bytes, sources, claimed, deadline, .. } = *planned;
        self.account.issued += 1;
        self.account.issued_bytes += bytes;
        for source in sources.iter() {
            self.account.sources.of_mut(source).issued += 1;
        }
        self.follow(now, node, key, planned.features, claimed, true);
        let count = u32::try_from(segments.len()).unwrap_or(u32::MAX);
        let given_up = self.outstanding.insert(
            id,
            Issued {
                node,
                key,
                bytes,
                segments: count,
                segments_open: count,
                sources,
                claimed,
                saved_seconds: planned.saved_seconds,
                value_seconds: planned.value_seconds,
                booked_bytes: bytes as f64,
                at: now,
                at_request: self.nodes.get(node).map_or(0, |node| node.requests),
                stayed: 0.0,
                is_answered: false,
                segments_used: 0,
                segments_late: 0,
                segments_unused: 0,
            },
        );
        if let Some(given_up) = given_up {
            self.give_up(given_up);
        }
        let outstanding = &mut self.outstanding;
        let is_awaited = |id| outstanding.get_mut(id).is_some_and(|issued| !issued.is_answered);
        self.unanswered.push(deadline.after(GRACE), id, is_awaited);
        let holders = self.cache_map.holders(SegmentId { key, index: segments[0] });
        let holders = holders.filter(|peer| self.holds_all(*peer, planned, &segments));
        let from: Vec<OrderSource> = self.nodes.sources(node, bytes, holders);
        Order {
            id,
            epoch: self.epoch,
            action: Action::Replicate,
            node,
            key,
            size_bytes,
            segments,
            sources: from,
            deadline,
            probability: planned.probability,
            expected_value_seconds: planned.value_seconds,
        }
    }

    fn holds_all(&self, peer: super::NodeIndex, planned: &Planned, segments: &[u32]) -> bool {
        let mut ids = segments.iter().map(|index| SegmentId { key: planned.key, index: *index });
        ids.all(|segment| self.cache_map.holds(peer, segment))
    }
}

/// How long after its deadline an order's result is still awaited.
const GRACE: Duration = Duration::from_secs(60);
