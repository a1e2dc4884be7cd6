//! Keys with explicit holders: who is asked for them, how a node keeps up with the map, and what a stalled peer costs.

use std::sync::Arc;

use nearcast_proto::message::{
    Action, CommandStatus, Epoch, NodeName, NodeReport, PlacementPosition, PlacementUpdate, PredictorNotice,
};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    cluster::{joined, replicate, result},
    origin::{Behaviour, Origin},
    predictor::Predictor,
};

/// An update in one part.
fn update(map: &str, from: u64, epoch: u64, placed: &[(&str, &str)]) -> PredictorNotice {
    let placed = placed.iter().map(|(key, node)| (Arc::from(*key), vec![NodeName::from(*node)])).collect();
    PredictorNotice::Placement(PlacementUpdate {
        map: Arc::from(map),
        from: Epoch(from),
        epoch: Epoch(epoch),
        full: from == 0,
        part: 0,
        last: true,
        placed,
        removed: Vec::new(),
    })
}

/// What a node says of its copy of the map.
fn held(epoch: u64, gap: bool) -> impl Fn(&NodeReport) -> Option<()> {
    move |report| match report {
        NodeReport::Placement { position: Some(PlacementPosition { epoch: held, .. }), has_gap } => {
            (*held == Epoch(epoch) && *has_gap == gap).then_some(())
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_placed_key_is_asked_of_its_holder_and_gaps_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let holder = joined(&predictor, &origin, "n1", dir.path()).await;
    let other = joined(&predictor, &origin, "n2", dir.path()).await;
    predictor.share_map(2).await;
    holder.get("/x").await;
    predictor.tell("n2", update("m", 0, 3, &[("/x", "n1"), ("/later", "n9")])).await;
    predictor.wait_for("n2", "that it took the map over", held(3, false)).await;
    let asked = origin.seen().len();
    let answer = other.get("/x").await;
    assert_eq!(answer.body, origin.content("/x"));
    assert_eq!(origin.seen().len(), asked, "the holder was asked, wherever the key's home is");

    predictor.tell("n2", update("m", 5, 6, &[("/x", "n2")])).await;
    predictor.wait_for("n2", "the gap", held(3, true)).await;
    predictor.tell("n2", update("m", 2, 6, &[("/x", "n2")])).await;
    predictor.wait_for("n2", "that it goes on from where it was", held(6, false)).await;
    let status = other.status().await;
    assert_eq!((&status["link"]["placed_keys"], &status["link"]["placement_epoch"]), (&2.into(), &6.into()));
}

#[tokio::test]
async fn pinned_keys_are_released_by_command_and_when_another_map_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = joined(&predictor, &origin, "n1", dir.path()).await;
    node.get("/x").await;
    let order = |id: u64, action: Action| {
        let PredictorNotice::Commands(mut commands) = replicate(id, "/x", &[0, 1, 2], Vec::new()) else { panic!() };
        commands[0].action = action;
        PredictorNotice::Commands(commands)
    };
    predictor.tell("n1", update("m", 0, 1, &[])).await;
    for (id, action) in [(1, Action::Pin), (2, Action::Unpin), (3, Action::Unpin), (4, Action::Pin)] {
        predictor.tell("n1", order(id, action)).await;
        let ended = predictor.wait_for("n1", "the command's end", |report| result(report, id)).await;
        assert_eq!(ended, (CommandStatus::Done, 0), "{action:?}");
    }
    let pinned = async || node.status().await["held"]["pinned_bytes"].as_u64();
    assert_eq!(pinned().await, Some(10_000));
    predictor.tell("n1", update("m", 0, 2, &[])).await;
    predictor.wait_for("n1", "the same map anew", held(2, false)).await;
    assert_eq!(pinned().await, Some(10_000));
    predictor.tell("n1", update("another", 0, 1, &[])).await;
    node.wait_until("nothing is pinned", |status| status["held"]["pinned_bytes"] == 0).await;
    assert!(node.get("/x").await.cache().starts_with("hit"), "released is not dropped");
}

#[tokio::test]
async fn a_peer_that_takes_connections_and_never_answers_costs_little_and_is_then_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (predictor, origin) = (Predictor::start().await, Origin::start(Behaviour::default()).await);
    let node = joined(&predictor, &origin, "n1", dir.path()).await;
    // The system accepts for a process that is stopped.
    let stalled = TcpListener::bind("127.0.0.1:0").await.unwrap();
    predictor.add_member("n2", &format!("http://{}", stalled.local_addr().unwrap()));
    predictor.share_map(2).await;
    predictor.tell("n1", update("m", 0, 1, &[("/x", "n2"), ("/y", "n2")])).await;
    predictor.wait_for("n1", "that it took the map over", held(1, false)).await;
    let start = Instant::now();
    let answer = node.get("/x").await;
    let took = start.elapsed();
    assert_eq!((answer.status.as_u16(), &answer.body), (200, &origin.content("/x")));
    assert!(took.as_millis() >= 150 && took.as_millis() < 1_000, "{took:?}, of which 180 ms are for the peer");
    assert_eq!(node.status().await["peers"]["failures"], 1);
    let start = Instant::now();
    node.get("/y").await;
    assert!(start.elapsed().as_millis() < 150, "it is skipped for a while");
    drop(stalled);
}
