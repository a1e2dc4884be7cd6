//! What survives a restart, and what damage comes to.

use std::{fs, path::Path};

use crate::{
    origin::{Behaviour, Origin},
    running::{Node, config},
};

#[tokio::test]
async fn a_restarted_node_serves_what_it_had_without_the_origin() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let target = format!("/object/{number}");
        assert_eq!(node.get(&target).await.body, origin.content(&target));
        expected.push((target.clone(), origin.content(&target)));
    }
    let held = node.status().await["held"]["segments"].clone();
    node.stop().await;
    let url = origin.url();
    origin.stop().await;

    let node = Node::start(config("n1", dir.path(), &url, "")).await;
    assert_eq!(node.status().await["held"]["segments"], held);
    for (target, content) in &expected {
        let answer = node.get(target).await;
        assert_eq!((answer.cache(), &answer.body), ("hit; detail=disk", content), "{target}");
        assert_eq!(answer.header("content-type"), "application/x-test");
    }
    node.stop().await;
}

#[tokio::test]
async fn damaged_payloads_are_fetched_again_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    for number in 0..5 {
        node.get(&format!("/object/{number}")).await;
    }
    node.stop().await;
    let damaged = damage_payloads(dir.path(), &origin.content("/object/3"));
    assert_eq!(damaged, 1, "the payload lies on disk as it is");

    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    let asked = origin.seen().len();
    for number in 0..5 {
        let target = format!("/object/{number}");
        assert_eq!(node.get(&target).await.body, origin.content(&target), "{target}");
    }
    assert_eq!(origin.seen().len(), asked + 1, "only the damaged one is fetched again");
    let status = node.status().await;
    assert_eq!((&status["segments"]["repaired"], &status["misses"]["capacity"]), (&1.into(), &1.into()));
    node.stop().await;
}

#[tokio::test]
async fn lost_payloads_are_misses_that_repair_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    node.get("/x").await;
    node.stop().await;
    fs::remove_dir_all(dir.path().join("payloads")).unwrap();

    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
    assert_eq!(node.status().await["repairs"]["payloads_gone"], 1);
    assert_eq!(node.get("/x").await.cache(), "hit; detail=memory");
    node.stop().await;
}

#[tokio::test]
async fn what_was_cleared_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    node.get("/x").await;
    assert_eq!(node.send(hyper::Method::POST, "/_nearcast/clear", &[]).await.status, 200);
    assert_eq!(node.get("/x").await.cache(), "fwd=stale; detail=origin; cause=expired");
    assert_eq!(node.send(hyper::Method::POST, "/_nearcast/clear", &[]).await.status, 200);
    node.stop().await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    assert_eq!(node.status().await["held"]["segments"], 0);
    node.stop().await;
}

#[tokio::test]
async fn two_nodes_do_not_share_a_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    node.get("/x").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = config("n2", dir.path(), &origin.url(), "");
    let error = nearcast_cache_node::run(listener, second, std::future::pending::<()>()).await.unwrap_err();
    assert!(error.to_string().contains("in use by another node"), "{error}");
    node.stop().await;
}

/// Flips a byte in every place below `dir` where `payload` is stored; returns how many there were.
fn damage_payloads(dir: &Path, payload: &[u8]) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(dir.join("payloads")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a file");
        let place = bytes.windows(payload.len()).position(|window| window == payload);
        if let Some(place) = place {
            bytes[place + payload.len() / 2] ^= 1;
            fs::write(&path, &bytes).expect("a file");
            damaged += 1;
        }
    }
    damaged
}
