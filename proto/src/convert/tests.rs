//! Every message survives the wire, and what is malformed is refused with its field's name.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{ByteRange, ServedFrom, Timestamp};
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message;

use super::*;
use crate::{
    Error,
    message::{
        Action, CacheMap, Command, CommandId, CommandResult, CommandStatus, Epoch, Member, NodeDescriptor, NodeName,
        NodeReport, Outcome, OutcomeKind, PlacementPosition, PlacementUpdate, PredictorNotice, Purge, PurgePosition,
        PurgeUpdate, Request, RequestBatch, RoundTrip, SegmentSet, Source,
    },
    wire,
};

fn name() -> impl Strategy<Value = Arc<str>> + Clone {
    "[a-zäé0-9-]{1,20}".prop_map(Arc::from)
}

fn key() -> impl Strategy<Value = Arc<str>> {
    "/[^\0]{0,40}".prop_map(Arc::from)
}

fn instant() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn span() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn segment_set() -> impl Strategy<Value = SegmentSet> {
    (key(), any::<u64>(), vec(any::<u32>(), 0..4)).prop_map(|(key, size_bytes, segments)| SegmentSet {
        key,
        size_bytes,
        segments,
    })
}

fn descriptor() -> impl Strategy<Value = NodeDescriptor> {
    (name(), name(), name(), any::<u64>(), 1..u64::MAX).prop_map(
        |(node, region, url, capacity_bytes, segment_bytes)| NodeDescriptor {
            name: NodeName(node),
            region,
            url,
            capacity_bytes,
            segment_bytes,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let range = option::of((0..1_000_u64, 1..1_000_u64))
        .prop_map(|range| range.map(|(start, len)| ByteRange { start, end: start + len }));
    (instant(), name(), name(), key(), any::<u64>(), range, select(&ServedFrom::ALL[..]), span()).prop_map(
        |(timestamp, client, region, key, size_bytes, range, served, latency)| Request {
            timestamp,
            client,
            region,
            key,
            size_bytes,
            range,
            served,
            latency,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let kinds = [OutcomeKind::EvictedUnused, OutcomeKind::Expired, OutcomeKind::Late, OutcomeKind::Used];
    (any::<u64>(), key(), any::<u32>(), select(kinds.to_vec()), instant(), span()).prop_map(
        |(id, key, segment, kind, at, residence)| Outcome { command: CommandId(id), key, segment, kind, at, residence },
    )
}

fn result() -> impl Strategy<Value = CommandResult> {
    let statuses = [
        CommandStatus::AlreadyPresent,
        CommandStatus::Done,
        CommandStatus::Expired,
        CommandStatus::Failed,
        CommandStatus::Rejected,
    ];
    (any::<u64>(), select(statuses.to_vec()), any::<u64>(), "[a-z ]{0,20}")
        .prop_map(|(id, status, bytes, detail)| CommandResult { id: CommandId(id), status, bytes, detail })
}

fn command() -> impl Strategy<Value = Command> {
    let source = prop_oneof![Just(Source::Origin), name().prop_map(|node| Source::Peer(NodeName(node)))];
    let actions = select(vec![Action::Evict, Action::Pin, Action::Replicate, Action::Unpin]);
    let names = (name(), "[v0-9]{0,5}");
    (any::<[u64; 2]>(), actions, segment_set(), vec(source, 0..3), instant(), 0.0..=1.0_f32, -9.0..9.0_f64, names)
        .prop_map(|([id, epoch], action, target, sources, deadline, probability, value, (arm, version))| Command {
            id: CommandId(id),
            epoch: Epoch(epoch),
            action,
            target,
            sources,
            deadline,
            probability,
            expected_value_seconds: value,
            arm,
            model_version: version.into(),
        })
}

fn position() -> impl Strategy<Value = PurgePosition> {
    (name(), any::<u64>()).prop_map(|(log, epoch)| PurgePosition { log, epoch })
}

fn placement() -> impl Strategy<Value = PlacementPosition> {
    (name(), any::<u64>()).prop_map(|(map, epoch)| PlacementPosition { map, epoch: Epoch(epoch) })
}

fn purge() -> impl Strategy<Value = Arc<Purge>> {
    let texts = || vec("[a-z/]{1,9}", 1..3);
    (any::<u64>(), texts(), texts(), texts(), any::<bool>())
        .prop_map(|(epoch, keys, prefixes, tags, soft)| Arc::new(Purge { epoch, keys, prefixes, tags, soft }))
}

fn report() -> impl Strategy<Value = NodeReport> {
    let sets = || vec(segment_set(), 0..4);
    prop_oneof![
        (descriptor(), "[0-9.]{0,8}", option::of(position()), option::of(placement()), any::<u64>()).prop_map(
            |(node, code_version, purges, placement, stream)| {
                NodeReport::Hello { node, code_version, purges, placement, stream }
            }
        ),
        (option::of(placement()), any::<bool>())
            .prop_map(|(position, has_gap)| NodeReport::Placement { position, has_gap }),
        Just(NodeReport::Leaving),
        vec((option::of(name().prop_map(NodeName)), span()), 0..4).prop_map(|measured| {
            NodeReport::RoundTrips(measured.into_iter().map(|(to, round_trip)| RoundTrip { to, round_trip }).collect())
        }),
        any::<[u64; 2]>().prop_map(|[epoch, objects]| NodeReport::Purged { epoch, objects }),
        (any::<u64>(), name(), any::<i64>()).prop_map(|(assignment, arm, clock)| NodeReport::Assigned {
            assignment,
            arm,
            clock: Timestamp::from_micros(clock)
        }),
        (sets(), any::<bool>()).prop_map(|(held, last)| NodeReport::Inventory { held, last }),
        (sets(), sets()).prop_map(|(gained, lost)| NodeReport::Delta { gained, lost }),
        (any::<u64>(), vec(request(), 0..4), any::<u64>()).prop_map(|(sequence, requests, dropped_count)| {
            NodeReport::Requests(RequestBatch { sequence, requests, dropped_count })
        }),
        vec(outcome(), 0..4).prop_map(NodeReport::Outcomes),
        vec(result(), 0..4).prop_map(NodeReport::Results),
    ]
}

fn notice() -> impl Strategy<Value = PredictorNotice> {
    let member = (descriptor(), any::<bool>()).prop_map(|(node, alive)| Member { node, alive });
    let placed = vec((key(), vec(name().prop_map(NodeName), 0..3)), 0..3);
    prop_oneof![
        (any::<[u64; 2]>(), name(), name()).prop_map(|([epoch, assignment], arm, model_version)| {
            PredictorNotice::Welcome { epoch: Epoch(epoch), arm, model_version, assignment }
        }),
        vec(command(), 0..3).prop_map(PredictorNotice::Commands),
        (placement(), any::<(u64, bool, u32, bool)>(), placed, vec(key(), 0..3)).prop_map(
            |(PlacementPosition { map, epoch }, (from, full, part, last), placed, removed)| {
                let from = Epoch(from);
                PredictorNotice::Placement(PlacementUpdate { map, from, epoch, full, part, last, placed, removed })
            }
        ),
        (any::<u64>(), vec(member, 0..3))
            .prop_map(|(epoch, members)| PredictorNotice::Map(CacheMap { epoch: Epoch(epoch), members })),
        any::<u64>().prop_map(|sequence| PredictorNotice::Ack { sequence }),
        (name(), vec(purge(), 0..3), any::<[u64; 2]>(), any::<bool>()).prop_map(
            |(log, purges, [upto, latest], has_gap)| {
                PredictorNotice::Purges(PurgeUpdate { log, purges, upto, has_gap, latest })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn node_reports_survive_the_wire(report in report()) {
        let bytes = wire::NodeMessage::from(report.clone()).encode_to_vec();
        let decoded = wire::NodeMessage::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(NodeReport::try_from(decoded).unwrap(), report);
    }

    #[test]
    fn predictor_notices_survive_the_wire(notice in notice()) {
        let bytes = wire::PredictorMessage::from(notice.clone()).encode_to_vec();
        let decoded = wire::PredictorMessage::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(PredictorNotice::try_from(decoded).unwrap(), notice);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = wire::NodeMessage::decode(bytes.as_slice()) {
            let _ = NodeReport::try_from(message);
        }
    }
}

fn wire_request() -> wire::Request {
    wire::Request {
        timestamp_us: 1,
        client: "c".to_owned(),
        region: "eu".to_owned(),
        key: "/k".to_owned(),
        size_bytes: 1,
        range_start: None,
        range_end: None,
        served_from: wire::ServedFrom::Memory.into(),
        latency_us: 1,
    }
}

fn refusal(change: impl FnOnce(&mut wire::Request)) -> Option<Error> {
    let mut request = wire_request();
    change(&mut request);
    Request::try_from(request).err()
}

#[test]
fn keys_are_accepted_up_to_the_limit_and_refused_beyond() {
    for bytes in [KEY_BYTES_MAX - 1, KEY_BYTES_MAX] {
        assert!(refusal(|request| request.key = "k".repeat(bytes)).is_none());
    }
    let error = refusal(|request| request.key = "k".repeat(KEY_BYTES_MAX + 1)).unwrap();
    assert!(matches!(error, Error::TextTooLong { field: "key", bytes: 2_049, .. }), "{error}");
}

#[test]
fn malformed_requests_are_refused() {
    assert!(matches!(refusal(|r| r.key.clear()), Some(Error::EmptyText { field: "key" })));
    assert!(matches!(refusal(|r| r.key.push('\0')), Some(Error::NulInText { field: "key" })));
    assert!(matches!(refusal(|r| r.client.clear()), Some(Error::EmptyText { field: "client" })));
    assert!(matches!(refusal(|r| r.served_from = 0), Some(Error::UnknownValue { field: "served_from", value: 0 })));
    assert!(matches!(refusal(|r| r.served_from = 99), Some(Error::UnknownValue { value: 99, .. })));
    assert!(matches!(refusal(|r| r.range_start = Some(3)), Some(Error::BadRange { .. })));
    let reversed = refusal(|r| (r.range_start, r.range_end) = (Some(3), Some(3)));
    assert!(matches!(reversed, Some(Error::BadRange { .. })));
}

#[test]
fn oversize_batches_are_refused() {
    let batch = |count| {
        let requests = vec![wire_request(); count];
        let body = wire::node_message::Body::Requests(wire::RequestBatch { sequence: 1, requests, dropped_count: 0 });
        NodeReport::try_from(wire::NodeMessage { body: Some(body) })
    };
    assert!(batch(BATCH_ENTRIES_MAX).is_ok());
    assert!(matches!(batch(BATCH_ENTRIES_MAX + 1), Err(Error::TooMany { field: "requests", .. })));
}

#[test]
fn absent_oneofs_are_refused() {
    assert!(matches!(NodeReport::try_from(wire::NodeMessage { body: None }), Err(Error::MissingField { .. })));
    assert!(matches!(Source::try_from(wire::Source { from: None }), Err(Error::MissingField { field: "from", .. })));
    let no_origin = wire::Source { from: Some(wire::source::From::Origin(false)) };
    assert!(Source::try_from(no_origin).is_err());
}
