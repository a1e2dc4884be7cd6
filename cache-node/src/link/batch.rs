//! Reports gathered for one round of messages.

use std::{collections::BTreeMap, sync::Arc};

use nearcast_proto::message::{CommandResult, NodeReport, Outcome, Request, RequestBatch, SegmentSet};

use super::{Report, SegmentReport};

/// Reports by kind, each kind in its order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: Vec<Request>,
    outcomes: Vec<Outcome>,
    results: Vec<CommandResult>,
    /// What is a message of its own.
    told: Vec<NodeReport>,
    /// Of several the last counts: after a gap, every one says so until what was missing has come.
    placement: Option<NodeReport>,
    /// Per segment the object's size and whether it is held now: of several changes the last counts.
    changes: Changes,
}

/// By key and segment: the object's size and whether the segment is held.
type Changes = BTreeMap<(Arc<str>, u32), (u64, bool)>;

impl Batch {
    pub(super) fn add(&mut self, report: Report) {
        match report {
            Report::Gained(segment) => self.change(segment, true),
            Report::Lost(segment) => self.change(segment, false),
            Report::Outcome(outcome) => self.outcomes.push(outcome),
            Report::Request(request) => self.requests.push(request),
            Report::Result(result) => self.results.push(result),
            Report::Purged { epoch, objects } => self.told.push(NodeReport::Purged { epoch, objects }),
            Report::Assigned { assignment, arm, clock } => {
                self.told.push(NodeReport::Assigned { assignment, arm, clock });
            }
            Report::Placement { position, has_gap } => {
                self.placement = Some(NodeReport::Placement { position, has_gap });
            }
        }
    }

    /// How many reports there are.
    pub(super) fn len(&self) -> usize {
        let reports = self.requests.len() + self.outcomes.len() + self.results.len() + self.told.len();
        reports + usize::from(self.placement.is_some()) + self.changes.len()
    }

    /// Requests alone, leaving the rest.
    pub(super) fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Forgets what the next connection is told anyway, with the inventory.
    pub(super) fn forget_state(&mut self) {
        (self.told, self.placement, self.changes) = Default::default();
    }

    /// Lets go of the oldest outcomes and results beyond so many of each.
    pub(super) fn bound(&mut self, ends_max: usize) {
        let over = self.outcomes.len().saturating_sub(ends_max);
        self.outcomes.drain(..over);
        let over = self.results.len().saturating_sub(ends_max);
        self.results.drain(..over);
    }

    /// The messages to send, leaving the batch empty. `number` makes a batch of requests of what there is of those.
    pub(super) fn take(
        &mut self,
        dropped_count: u64,
        number: impl FnOnce(Vec<Request>, u64) -> RequestBatch,
    ) -> Vec<NodeReport> {
        let Self { requests, outcomes, results, told, placement, changes } = std::mem::take(self);
        let mut messages = Vec::new();
        // What is held goes first, so that the predictor judges requests and outcomes knowing it.
        if !changes.is_empty() {
            let (gained, lost) = changes.into_iter().partition(|(_, (_, is_held))| *is_held);
            messages.push(NodeReport::Delta { gained: changed(gained), lost: changed(lost) });
        }
        messages.extend(told);
        messages.extend(placement);
        if !results.is_empty() {
            messages.push(NodeReport::Results(results));
        }
        if !outcomes.is_empty() {
            messages.push(NodeReport::Outcomes(outcomes));
        }
        if !requests.is_empty() || dropped_count > 0 {
            messages.push(NodeReport::Requests(number(requests, dropped_count)));
        }
        messages
    }

    fn change(&mut self, segment: SegmentReport, is_held: bool) {
        let SegmentReport { key, size_bytes, index } = segment;
        self.changes.insert((key, index), (size_bytes, is_held));
    }
}

fn changed(changes: Changes) -> Vec<SegmentSet> {
    sets(changes.into_iter().map(|((key, index), (size_bytes, _))| SegmentReport { key, size_bytes, index }))
}

/// Brings segments of one object together. Neighbours only, so the caller sorts.
pub(super) fn sets(segments: impl Iterator<Item = SegmentReport>) -> Vec<SegmentSet> {
    let mut sets: Vec<SegmentSet> = Vec::new();
    for SegmentReport { key, size_bytes, index } in segments {
        match sets.last_mut() {
            Some(set) if set.key == key && set.size_bytes == size_bytes => set.segments.push(index),
            _ => sets.push(SegmentSet { key, size_bytes, segments: vec![index] }),
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(key: &str, index: u32) -> SegmentReport {
        SegmentReport { key: Arc::from(key), size_bytes: 100, index }
    }

    #[test]
    fn of_several_changes_of_a_segment_the_last_counts() {
        let mut batch = Batch::default();
        batch.add(Report::Gained(segment("/a", 0)));
        batch.add(Report::Lost(segment("/a", 0)));
        batch.add(Report::Lost(segment("/b", 1)));
        batch.add(Report::Gained(segment("/b", 0)));
        batch.add(Report::Gained(segment("/b", 1)));
        let never = |_, _| panic!("there are no requests");
        let [NodeReport::Delta { gained, lost }] = &batch.take(0, never)[..] else { panic!("one delta") };
        assert_eq!(gained[..], [SegmentSet { key: Arc::from("/b"), size_bytes: 100, segments: vec![0, 1] }]);
        assert_eq!(lost[..], [SegmentSet { key: Arc::from("/a"), size_bytes: 100, segments: vec![0] }]);
        assert_eq!(batch.len(), 0);
    }

    #[test]
    fn dropped_requests_are_told_even_when_none_got_through() {
        let number = |requests, dropped_count| RequestBatch { sequence: 5, requests, dropped_count };
        let messages = Batch::default().take(3, number);
        let expected = RequestBatch { sequence: 5, requests: Vec::new(), dropped_count: 3 };
        assert_eq!(messages, [NodeReport::Requests(expected)]);
    }
}
