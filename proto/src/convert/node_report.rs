//! What a node says.

use std::time::Duration;

use nearcast_datasets::{ByteRange, ServedFrom, Timestamp};

use super::{
    BATCH_ENTRIES_MAX, MEMBERS_MAX,
    check::{free_text, key, known, list, micros, name, node_name, outward, present},
    placement,
    purge::position,
};
use crate::{
    Error, Result,
    message::{CommandId, NodeDescriptor, NodeReport, Outcome, OutcomeKind, Request, RequestBatch, RoundTrip},
    wire::{self, node_message::Body},
};

impl From<NodeReport> for wire::NodeMessage {
    fn from(report: NodeReport) -> Self {
        let body = match report {
            NodeReport::Hello { node, code_version, purges, placement, stream } => Body::Hello(wire::Hello {
                node: node.name.0.as_ref().to_owned(),
                region: node.region.as_ref().to_owned(),
                url: node.url.as_ref().to_owned(),
                capacity_bytes: node.capacity_bytes,
                segment_bytes: node.segment_bytes,
                code_version,
                purges: purges.map(Into::into),
                placement: placement.map(Into::into),
                stream,
            }),
            NodeReport::Inventory { held, last } => Body::Inventory(wire::InventoryPage { held: outward(held), last }),
            NodeReport::Delta { gained, lost } => {
                Body::Delta(wire::InventoryDelta { gained: outward(gained), lost: outward(lost) })
            }
            NodeReport::Requests(batch) => Body::Requests(wire::RequestBatch {
                sequence: batch.sequence,
                requests: outward(batch.requests),
                dropped_count: batch.dropped_count,
            }),
            NodeReport::Outcomes(outcomes) => Body::Outcomes(wire::OutcomeBatch { outcomes: outward(outcomes) }),
            NodeReport::Results(results) => Body::Results(wire::CommandResultBatch { results: outward(results) }),
            NodeReport::Purged { epoch, objects } => Body::Purged(wire::Purged { epoch, objects }),
            NodeReport::Placement { position, has_gap } => {
                Body::Placement(wire::PlacementHeld { position: position.map(Into::into), has_gap })
            }
            NodeReport::Leaving => Body::Leaving(wire::Leaving {}),
            NodeReport::RoundTrips(measured) => Body::RoundTrips(wire::RoundTrips { measured: outward(measured) }),
            NodeReport::Assigned { assignment, arm, clock } => {
                Body::Assigned(wire::Assigned { assignment, arm: arm.as_ref().to_owned(), clock_us: clock.micros() })
            }
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<wire::NodeMessage> for NodeReport {
    type Error = Error;

    fn try_from(wire: wire::NodeMessage) -> Result<Self> {
        Ok(match present("node message", "body", wire.body)? {
            Body::Hello(hello) => hello_report(hello)?,
            Body::Inventory(page) => {
                Self::Inventory { held: list("held", page.held, BATCH_ENTRIES_MAX)?, last: page.last }
            }
            Body::Delta(delta) => Self::Delta {
                gained: list("gained", delta.gained, BATCH_ENTRIES_MAX)?,
                lost: list("lost", delta.lost, BATCH_ENTRIES_MAX)?,
            },
            Body::Requests(batch) => Self::Requests(RequestBatch {
                sequence: batch.sequence,
                requests: list("requests", batch.requests, BATCH_ENTRIES_MAX)?,
                dropped_count: batch.dropped_count,
            }),
            Body::Outcomes(batch) => Self::Outcomes(list("outcomes", batch.outcomes, BATCH_ENTRIES_MAX)?),
            Body::Results(batch) => Self::Results(list("results", batch.results, BATCH_ENTRIES_MAX)?),
            Body::Purged(wire::Purged { epoch, objects }) => Self::Purged { epoch, objects },
            Body::Placement(wire::PlacementHeld { position, has_gap }) => {
                Self::Placement { position: position.map(placement::position).transpose()?, has_gap }
            }
            Body::Leaving(wire::Leaving {}) => Self::Leaving,
            Body::RoundTrips(wire::RoundTrips { measured }) => {
                Self::RoundTrips(list("measured", measured, MEMBERS_MAX)?)
            }
            Body::Assigned(assigned) => Self::Assigned {
                assignment: assigned.assignment,
                arm: name("arm", assigned.arm)?,
                clock: Timestamp::from_micros(assigned.clock_us),
            },
        })
    }
}

fn hello_report(hello: wire::Hello) -> Result<NodeReport> {
    let node = NodeDescriptor {
        name: node_name(hello.node)?,
        region: name("region", hello.region)?,
        url: free_text("url", hello.url)?.into(),
        capacity_bytes: hello.capacity_bytes,
        segment_bytes: segment_bytes(hello.segment_bytes)?,
    };
    let code_version = free_text("code_version", hello.code_version)?;
    let placement = hello.placement.map(placement::position).transpose()?;
    let (purges, stream) = (hello.purges.map(position).transpose()?, hello.stream);
    Ok(NodeReport::Hello { node, code_version, purges, placement, stream })
}

/// A node cannot cut objects into segments of nothing.
pub(super) fn segment_bytes(value: u64) -> Result<u64> {
    if value == 0 {
        return Err(Error::BadNumber { field: "segment_bytes", value: 0.0, expected: "positive" });
    }
    Ok(value)
}

impl From<RoundTrip> for wire::RoundTrip {
    fn from(measured: RoundTrip) -> Self {
        let node = measured.to.map_or_else(String::new, |peer| peer.0.as_ref().to_owned());
        Self { node, round_trip_us: micros(measured.round_trip) }
    }
}

impl TryFrom<wire::RoundTrip> for RoundTrip {
    type Error = Error;

    fn try_from(wire: wire::RoundTrip) -> Result<Self> {
        let to = if wire.node.is_empty() { None } else { Some(node_name(wire.node)?) };
        Ok(Self { to, round_trip: Duration::from_micros(wire.round_trip_us) })
    }
}

impl From<ServedFrom> for wire::ServedFrom {
    fn from(served: ServedFrom) -> Self {
        match served {
            ServedFrom::Memory => Self::Memory,
            ServedFrom::Disk => Self::Disk,
            ServedFrom::Prefetched => Self::Prefetched,
            ServedFrom::Peer => Self::Peer,
            ServedFrom::Origin => Self::Origin,
            ServedFrom::Error => Self::Error,
        }
    }
}

fn served_from(value: i32) -> Result<ServedFrom> {
    let meaning = match wire::ServedFrom::try_from(value) {
        Ok(wire::ServedFrom::Memory) => Some(ServedFrom::Memory),
        Ok(wire::ServedFrom::Disk) => Some(ServedFrom::Disk),
        Ok(wire::ServedFrom::Prefetched) => Some(ServedFrom::Prefetched),
        Ok(wire::ServedFrom::Peer) => Some(ServedFrom::Peer),
        Ok(wire::ServedFrom::Origin) => Some(ServedFrom::Origin),
        Ok(wire::ServedFrom::Error) => Some(ServedFrom::Error),
        Ok(wire::ServedFrom::Unspecified) | Err(_) => None,
    };
    known("served_from", value, meaning)
}

impl From<Request> for wire::Request {
    fn from(request: Request) -> Self {
        Self {
            timestamp_us: request.timestamp.micros(),
            client: request.client.as_ref().to_owned(),
            region: request.region.as_ref().to_owned(),
            key: request.key.as_ref().to_owned(),
            size_bytes: request.size_bytes,
            range_start: request.range.map(|range| range.start),
            range_end: request.range.map(|range| range.end),
            served_from: wire::ServedFrom::from(request.served).into(),
            latency_us: micros(request.latency),
        }
    }
}

impl TryFrom<wire::Request> for Request {
    type Error = Error;

    fn try_from(wire: wire::Request) -> Result<Self> {
        Ok(Self {
            timestamp: Timestamp::from_micros(wire.timestamp_us),
            client: name("client", wire.client)?,
            region: name("region", wire.region)?,
            key: key(wire.key)?,
            size_bytes: wire.size_bytes,
            range: range(wire.range_start, wire.range_end)?,
            served: served_from(wire.served_from)?,
            latency: Duration::from_micros(wire.latency_us),
        })
    }
}

fn range(start: Option<u64>, end: Option<u64>) -> Result<Option<ByteRange>> {
    match (start, end) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) if start < end => Ok(Some(ByteRange { start, end })),
        _ => Err(Error::BadRange { start, end }),
    }
}

impl From<OutcomeKind> for wire::OutcomeKind {
    fn from(kind: OutcomeKind) -> Self {
        match kind {
            OutcomeKind::EvictedUnused => Self::EvictedUnused,
            OutcomeKind::Expired => Self::Expired,
            OutcomeKind::Late => Self::Late,
            OutcomeKind::Used => Self::Used,
        }
    }
}

fn outcome_kind(value: i32) -> Result<OutcomeKind> {
    let meaning = match wire::OutcomeKind::try_from(value) {
        Ok(wire::OutcomeKind::EvictedUnused) => Some(OutcomeKind::EvictedUnused),
        Ok(wire::OutcomeKind::Expired) => Some(OutcomeKind::Expired),
        Ok(wire::OutcomeKind::Late) => Some(OutcomeKind::Late),
        Ok(wire::OutcomeKind::Used) => Some(OutcomeKind::Used),
        Ok(wire::OutcomeKind::Unspecified) | Err(_) => None,
    };
    known("kind", value, meaning)
}

impl From<Outcome> for wire::Outcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            command_id: outcome.command.0,
            key: outcome.key.as_ref().to_owned(),
            segment: outcome.segment,
            kind: wire::OutcomeKind::from(outcome.kind).into(),
            timestamp_us: outcome.at.micros(),
            residence_us: micros(outcome.residence),
        }
    }
}

impl TryFrom<wire::Outcome> for Outcome {
    type Error = Error;

    fn try_from(wire: wire::Outcome) -> Result<Self> {
        Ok(Self {
            command: CommandId(wire.command_id),
            key: key(wire.key)?,
            segment: wire.segment,
            kind: outcome_kind(wire.kind)?,
            at: Timestamp::from_micros(wire.timestamp_us),
            residence: Duration::from_micros(wire.residence_us),
        })
    }
}
