//! Nodes among peers and under a predictor.

use std::{path::Path, sync::Arc};

use hyper::StatusCode;
use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_proto::message::{
    Action, CacheMap, Command, CommandId, CommandStatus, Epoch, Member, NodeDescriptor, NodeName, NodeReport,
    OutcomeKind, PredictorNotice, SegmentSet, Source,
};

use crate::{
    origin::{Behaviour, Origin},
    predictor::Predictor,
    running::{Node, config},
};

/// On a busy machine a peer that is well may not say so within the 80 ms that it has by default; it would be given up
/// then, and a command that names no other source would fail.
pub(crate) const PATIENT_PEERS: &str = "[peers]\nprobe_timeout = \"5s\"\n";

pub(crate) fn replicate(id: u64, key: &str, segments: &[u32], sources: Vec<Source>) -> PredictorNotice {
    PredictorNotice::Commands(vec![Command {
        id: CommandId(id),
        epoch: Epoch(9),
        action: Action::Replicate,
        target: SegmentSet { key: Arc::from(key), size_bytes: 10_000, segments: segments.to_vec() },
        sources,
        deadline: Timestamp::MAX,
        probability: 0.5,
        expected_value_seconds: 1.0,
        arm: Arc::from("nearcast"),
        model_version: Arc::from("v0007"),
    }])
}

pub(crate) async fn joined(predictor: &Predictor, origin: &Origin, name: &str, dir: &Path) -> Node {
    joined_by(predictor, origin, name, dir, "").await
}

/// As [`joined`], with more in its configuration.
async fn joined_by(predictor: &Predictor, origin: &Origin, name: &str, dir: &Path, more: &str) -> Node {
    let more = format!("{more}{}", predictor.section());
    let node = Node::start(config(name, &dir.join(name), &origin.url(), &more)).await;
    predictor.wait_for(name, "the last page of its inventory", last_page).await;
    node.wait_until("the link is up", |status| status["link"]["connects"] != 0).await;
    node
}

pub(crate) fn last_page(report: &NodeReport) -> Option<Vec<SegmentSet>> {
    match report {
        NodeReport::Inventory { held, last: true } => Some(held.clone()),
        _ => None,
    }
}

pub(crate) fn result(report: &NodeReport, id: u64) -> Option<(CommandStatus, u64)> {
    let NodeReport::Results(results) = report else { return None };
    results.iter().find(|result| result.id == CommandId(id)).map(|result| (result.status, result.bytes))
}

fn outcome(report: &NodeReport, id: u64) -> Option<OutcomeKind> {
    let NodeReport::Outcomes(outcomes) = report else { return None };
    outcomes.iter().find(|outcome| outcome.command == CommandId(id)).map(|outcome| outcome.kind)
}

#[tokio::test]
async fn a_commanded_segment_is_there_before_its_first_request_and_its_use_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = joined(&predictor, &origin, "n1", dir.path()).await;
    predictor.tell("n1", replicate(5, "/next", &[0, 1, 2], vec![Source::Origin])).await;
    let ended = predictor.wait_for("n1", "the command's end", |report| result(report, 5)).await;
    assert_eq!(ended, (CommandStatus::Done, 10_000));
    let gained = predictor.wait_for("n1", "a gain", |report| match report {
        NodeReport::Delta { gained, .. } => gained.first().map(|set| set.key.to_string()),
        _ => None,
    });
    assert_eq!(gained.await, "/next");

    let asked = origin.seen().len();
    let answer = node.get("/next").await;
    assert_eq!((answer.cache(), &answer.body), ("hit; detail=prefetched", &origin.content("/next")));
    assert_eq!(node.get("/next").await.cache(), "hit; detail=memory");
    assert_eq!(origin.seen().len(), asked);
    let used = predictor.wait_for("n1", "the outcome", |report| outcome(report, 5)).await;
    assert_eq!(used, OutcomeKind::Used);
    let served = predictor.wait_for("n1", "the request", |report| match report {
        NodeReport::Requests(batch) => batch.requests.first().map(|request| (request.served, request.size_bytes)),
        _ => None,
    });
    assert_eq!(served.await, (ServedFrom::Prefetched, 10_000));

    predictor.tell("n1", replicate(6, "/next", &[0], vec![Source::Origin])).await;
    let again = predictor.wait_for("n1", "the second command's end", |report| result(report, 6)).await;
    assert_eq!(again, (CommandStatus::AlreadyPresent, 0));
}

#[tokio::test]
async fn commands_that_name_nothing_the_node_trusts_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let _node = joined(&predictor, &origin, "n1", dir.path()).await;
    let stranger = vec![Source::Peer(NodeName::from("stranger"))];
    for (id, notice) in [
        (1, replicate(1, "/x", &[0], stranger)),
        (2, replicate(2, "/a/../b", &[0], vec![Source::Origin])),
        (3, replicate(3, "/x", &[3], vec![Source::Origin])),
    ] {
        predictor.tell("n1", notice).await;
        let ended = predictor.wait_for("n1", "the command's end", |report| result(report, id)).await;
        assert_eq!(ended, (CommandStatus::Rejected, 0), "command {id}");
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_command_pulls_from_a_peer_without_asking_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let holder = joined_by(&predictor, &origin, "n1", dir.path(), PATIENT_PEERS).await;
    let other = joined_by(&predictor, &origin, "n2", dir.path(), PATIENT_PEERS).await;
    holder.get("/x").await;
    let asked = origin.seen().len();
    predictor.share_map(2).await;
    predictor.tell("n2", replicate(1, "/x", &[0, 1, 2], vec![Source::Peer(NodeName::from("n1"))])).await;
    let ended = predictor.wait_for("n2", "the command's end", |report| result(report, 1)).await;
    assert_eq!(ended, (CommandStatus::Done, 10_000));
    let answer = other.get("/x").await;
    assert_eq!((answer.cache(), &answer.body), ("hit; detail=prefetched", &origin.content("/x")));
    assert_eq!(answer.header("content-type"), "application/x-test");
    assert_eq!(origin.seen().len(), asked);

    // A copy is no use: a prefetched segment that a peer copies is still unused where it lies.
    predictor.tell("n1", replicate(7, "/z", &[0], vec![Source::Origin])).await;
    predictor.wait_for("n1", "the command's end", |report| result(report, 7)).await;
    predictor.tell("n2", replicate(8, "/z", &[0], vec![Source::Peer(NodeName::from("n1"))])).await;
    predictor.wait_for("n2", "the command's end", |report| result(report, 8)).await;
    assert_eq!(holder.status().await["segments"]["prefetch"]["used"], 0);
    assert_eq!(holder.get("/z").await.cache().split("; ").next(), Some("hit"));
    let asked = origin.seen().len();

    // What the peer does not hold it must not fetch for a prefetch.
    predictor.tell("n2", replicate(2, "/y", &[0], vec![Source::Peer(NodeName::from("n1"))])).await;
    let ended = predictor.wait_for("n2", "the command's end", |report| result(report, 2)).await;
    assert_eq!(ended, (CommandStatus::Failed, 0));
    assert_eq!(origin.seen().len(), asked);
}

#[tokio::test]
async fn one_cold_key_costs_the_origin_one_request_whichever_nodes_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    let behaviour = Behaviour { size: 4_000, ..Behaviour::default() };
    let (predictor, origin) = (Predictor::start().await, Origin::start(behaviour).await);
    let nodes =
        [joined(&predictor, &origin, "n1", dir.path()).await, joined(&predictor, &origin, "n2", dir.path()).await];
    predictor.share_map(2).await;
    for node in &nodes {
        node.wait_until("the map arrived", |status| status["link"]["peers"] == 1).await;
    }
    for number in 0..10 {
        let target = format!("/cold/{number}");
        let (one, two) = tokio::join!(nodes[0].get(&target), nodes[1].get(&target));
        assert_eq!((&one.body, &two.body), (&origin.content(&target), &origin.content(&target)), "{target}");
    }
    assert_eq!(origin.seen().len(), 10, "{:?}", origin.seen());
}

#[tokio::test]
async fn a_dead_peer_costs_a_detour_and_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = joined(&predictor, &origin, "n1", dir.path()).await;
    let gone = NodeDescriptor {
        name: NodeName::from("gone"),
        region: Arc::from("us"),
        // Nobody listens on the discard port.
        url: Arc::from("http://127.0.0.1:9"),
        capacity_bytes: 1 << 40,
        segment_bytes: 4_096,
    };
    let map = CacheMap { epoch: Epoch(2), members: vec![Member { node: gone, alive: true }] };
    predictor.tell("n1", PredictorNotice::Map(map)).await;
    node.wait_until("the map arrived", |status| status["link"]["peers"] == 1).await;
    let answer = node.get("/x").await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &origin.content("/x")));
    let metrics = node.get("/_nearcast/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("nearcast_peer_failures_total 1\n"), "skipped after the first failure:\n{metrics}");
}

#[tokio::test]
async fn without_its_predictor_a_node_serves_on_and_announces_itself_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = joined(&predictor, &origin, "n1", dir.path()).await;
    let address = predictor.address;
    drop(predictor);
    node.wait_until("the loss is noticed", |status| status["link"]["connected"] == false).await;
    for target in ["/a", "/a", "/b"] {
        assert_eq!(node.get(target).await.body, origin.content(target));
    }

    let predictor = Predictor::start_at(address).await;
    let mut keys: Vec<_> =
        predictor.wait_for("n1", "its inventory", last_page).await.iter().map(|set| set.key.to_string()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["/a", "/b"]);
    node.wait_until("the link is up", |status| status["link"]["connects"] == 2).await;
    predictor.tell("n1", replicate(1, "/c", &[0], vec![Source::Origin])).await;
    let ended = predictor.wait_for("n1", "the command's end", |report| result(report, 1)).await;
    assert_eq!(ended, (CommandStatus::Done, 4_096));
    node.stop().await;
}
