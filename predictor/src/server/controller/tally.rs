//! What nodes report, added up: by node, by the arm in force, and by what became of prefetched segments.

use std::{collections::BTreeMap, sync::Arc};

use nearcast_datasets::ServedFrom;
use nearcast_proto::message::{OutcomeKind, Request};
use serde::Serialize;

use crate::engine::NodeIndex;

/// Requests, since the predictor started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(in crate::server) struct Tally {
    /// Requests that were answered.
    pub(in crate::server) requests: u64,
    /// Of those, answered from what the node held.
    pub(in crate::server) hits: u64,
    /// Of those, the first use of a prefetched segment.
    pub(in crate::server) prefetched: u64,
    /// Answered by another node.
    pub(in crate::server) peer: u64,
    /// Answered by the origin.
    pub(in crate::server) origin: u64,
    /// Requests that failed, which are not among the others.
    pub(in crate::server) errors: u64,
    /// Time to the last byte of answered requests, added up.
    pub(in crate::server) latency_seconds: f64,
}

impl Tally {
    fn record(&mut self, request: &Request) {
        if request.served == ServedFrom::Error {
            self.errors += 1;
            return;
        }
        self.requests += 1;
        self.hits += u64::from(request.served.is_hit());
        self.prefetched += u64::from(request.served == ServedFrom::Prefetched);
        self.peer += u64::from(request.served == ServedFrom::Peer);
        self.origin += u64::from(request.served == ServedFrom::Origin);
        self.latency_seconds += request.latency.as_secs_f64();
    }
}

/// Prefetched segments by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::server) struct Outcomes {
    pub(in crate::server) used: u64,
    pub(in crate::server) late: u64,
    pub(in crate::server) evicted_unused: u64,
    pub(in crate::server) expired: u64,
}

impl Outcomes {
    pub(super) fn record(&mut self, kind: OutcomeKind) {
        *match kind {
            OutcomeKind::EvictedUnused => &mut self.evicted_unused,
            OutcomeKind::Expired => &mut self.expired,
            OutcomeKind::Late => &mut self.late,
            OutcomeKind::Used => &mut self.used,
        } += 1;
    }
}

/// Every tally. As many nodes as may join, as many arms as there are.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Tallies {
    pub(in crate::server) nodes: BTreeMap<NodeIndex, NodeTally>,
    /// By the arm that was in force when the requests arrived.
    pub(in crate::server) arms: BTreeMap<Arc<str>, Tally>,
    pub(in crate::server) outcomes: Outcomes,
}

/// One node's.
#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct NodeTally {
    pub(in crate::server) name: Arc<str>,
    #[serde(flatten)]
    pub(in crate::server) tally: Tally,
}

impl Tallies {
    /// Adds a batch of a node.
    pub(super) fn record(&mut self, node: NodeIndex, name: &Arc<str>, arm: &Arc<str>, requests: &[Request]) {
        let of_node = self.nodes.entry(node);
        let of_node = of_node.or_insert_with(|| NodeTally { name: Arc::clone(name), tally: Tally::default() });
        let of_arm = self.arms.entry(Arc::clone(arm)).or_default();
        for request in requests {
            of_node.tally.record(request);
            of_arm.record(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearcast_datasets::Timestamp;

    use super::*;

    fn request(served: ServedFrom) -> Request {
        Request {
            timestamp: Timestamp::from_micros(0),
            client: "c".into(),
            region: "eu".into(),
            key: "/a".into(),
            size_bytes: 10,
            range: None,
            served,
            latency: Duration::from_millis(500),
        }
    }

    #[test]
    fn errors_are_kept_apart_and_arms_and_nodes_add_up_alike() {
        let mut tallies = Tallies::default();
        let requests = ServedFrom::ALL.map(request);
        tallies.record(NodeIndex(0), &"eu-1".into(), &"nearcast".into(), &requests[..3]);
        tallies.record(NodeIndex(1), &"us-1".into(), &"nearcast".into(), &requests[3..]);
        tallies.record(NodeIndex(1), &"us-1".into(), &"none".into(), &requests[..1]);
        let expected =
            Tally { requests: 5, hits: 3, prefetched: 1, peer: 1, origin: 1, errors: 1, latency_seconds: 2.5 };
        assert_eq!(tallies.arms["nearcast"], expected);
        assert_eq!((tallies.arms["none"].requests, tallies.arms["none"].hits), (1, 1));
        let us = &tallies.nodes[&NodeIndex(1)];
        assert_eq!((us.name.as_ref(), us.tally.requests, us.tally.errors), ("us-1", 3, 1));
    }

    #[test]
    fn each_outcome_has_its_own_counter() {
        let mut outcomes = Outcomes::default();
        for kind in [OutcomeKind::Used, OutcomeKind::Late, OutcomeKind::EvictedUnused, OutcomeKind::Expired] {
            outcomes.record(kind);
        }
        assert_eq!(outcomes, Outcomes { used: 1, late: 1, evicted_unused: 1, expired: 1 });
    }
}
