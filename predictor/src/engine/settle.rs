//! Settling: results and outcomes end orders, correct the budget and teach.

use std::time::Duration;

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::{CommandId, CommandStatus, OutcomeKind};

use super::{CandidateSource, Engine, orders::Issued};

impl Engine {
    /// A node answered an order: how it ended when its last segment did, and how many bytes were transferred.
    pub fn handle_result(&mut self, now: Timestamp, id: CommandId, status: CommandStatus, bytes: u64) {
        let Some(issued) = self.outstanding.get_mut(id) else { return };
        issued.is_answered = true;
        let (node, key, at) = (issued.node, issued.key, issued.at);
        // What demand overtook is booked where the request is, whoever's transfer it was.
        let ahead = bytes as f64 * (1.0 - f64::from(issued.segments_late) / f64::from(issued.segments.max(1)));
        self.learnt.allowance.correct(issued.booked_bytes, ahead);
        issued.booked_bytes = ahead;
        match status {
            CommandStatus::Done => {
                issued.segments_open = issued.segments_open.saturating_sub(issued.segments_failed(bytes));
                if let Some(node) = self.nodes.get_mut(node) {
                    node.handle_transferred(now.since(at));
                }
            }
            CommandStatus::AlreadyPresent => {
                issued.segments_open = 0;
                self.cache_map.insert(node, SegmentId { key, index: 0 });
            }
            CommandStatus::Expired | CommandStatus::Failed | CommandStatus::Rejected => {
                issued.segments_open = 0;
                self.account.wasted_bytes += bytes;
            }
        }
        self.close_if_ended(id);
    }

    /// The bytes of one segment of an order that has not ended, on average.
    pub fn segment_bytes_of(&self, id: CommandId) -> Option<u64> {
        let issued = self.outstanding.get(id)?;
        Some(issued.bytes / u64::from(issued.segments.max(1)))
    }

    /// One prefetched segment met its end or first use, `residence` after it was stored.
    pub fn handle_outcome(&mut self, _now: Timestamp, id: CommandId, kind: OutcomeKind, _residence: Duration) {
        let Some(issued) = self.outstanding.get_mut(id) else {
            self.account.unknown += 1;
            return;
        };
        issued.is_answered = true;
        issued.segments_open = issued.segments_open.saturating_sub(1);
        match kind {
            OutcomeKind::Used => {
                issued.segments_used += 1;
                if let Some(node) = self.nodes.get_mut(issued.node) {
                    issued.stayed = node.stay_share(node.requests - issued.at_request);
                    node.handle_used(node.requests - issued.at_request);
                }
            }
            OutcomeKind::Late => issued.segments_late += 1,
            OutcomeKind::EvictedUnused | OutcomeKind::Expired => {
                issued.segments_unused += 1;
                issued.stayed = 1.0;
                if let Some(node) = self.nodes.get_mut(issued.node).filter(|_| kind == OutcomeKind::EvictedUnused) {
                    node.handle_unused(node.requests - issued.at_request);
                }
            }
        }
        self.close_if_ended(id);
    }

    /// An order that nobody answered, or whose node is gone: as if it had never been issued.
    pub(super) fn void(&mut self, id: CommandId) {
        if let Some(issued) = self.outstanding.remove(id) {
            self.close_void(&issued);
        }
    }

    /// An order so old that there is no room for it any more: taken for unused, which errs on the safe side.
    pub(super) fn give_up(&mut self, mut issued: Issued) {
        issued.segments_unused += std::mem::take(&mut issued.segments_open);
        self.close(&issued);
    }

    fn close_if_ended(&mut self, id: CommandId) {
        if self.outstanding.get_mut(id).is_none_or(|issued| issued.segments_open > 0) {
            return;
        }
        let Some(issued) = self.outstanding.remove(id) else { return };
        if issued.segments_used + issued.segments_late + issued.segments_unused == 0 {
            self.close_void(&issued);
        } else {
            self.close(&issued);
        }
        self.refresh_account(issued.node);
    }

    fn close_void(&mut self, issued: &Issued) {
        self.account.void += 1;
        self.learnt.labels.handle_gone(issued.node, issued.key);
        self.learnt.allowance.correct(issued.booked_bytes, 0.0);
    }

    /// Books what an order came to. It counts as used when any of its segments was.
    fn close(&mut self, issued: &Issued) {
        let used = issued.segments_used > 0;
        let late = !used && issued.segments_late > 0;
        let share = |segments: u32| f64::from(segments) / f64::from(issued.segments.max(1));
        let wasted = issued.bytes as f64 * share(issued.segments_unused);
        let settings = self.config.settings();
        let mut cost = settings.price_seconds_per_byte() * issued.bytes as f64;
        if let Some(node) = self.nodes.get_mut(issued.node) {
            cost += issued.bytes as f64 * issued.stayed * node.harm.seconds_per_byte();
            let gain = if used { issued.saved_seconds * share(issued.segments_used) } else { 0.0 };
            node.trust.learn(issued.claimed.corrected, used);
            self.account.expected_value_seconds += issued.value_seconds;
            self.account.realised_value_seconds += gain - cost;
        }
        self.account.wasted_bytes += wasted as u64;
        self.account.used += u64::from(used);
        self.account.late += u64::from(late);
        self.account.unused += u64::from(!used && !late);
        self.account.calibration.record(issued.claimed.corrected, used);
        let is_pushed = issued.sources.contains(CandidateSource::Demand);
        if self.is_learning {
            self.learnt.calibrators[usize::from(is_pushed)].learn(issued.claimed.raw, used);
            self.learnt.history.learn(issued.node, issued.key, used);
        }
        if !used {
            self.learnt.labels.handle_gone(issued.node, issued.key);
        }
        for source in issued.sources.iter() {
            let account = self.account.sources.of_mut(source);
            account.used += u64::from(used);
            account.late += u64::from(late);
            account.unused += u64::from(!used && !late);
        }
    }
}
