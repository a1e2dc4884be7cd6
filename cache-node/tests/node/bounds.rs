//! Bounds, protocols and origins other than the usual ones.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nearcast_cache_node::index::PolicyKind;

use crate::{
    origin::{Behaviour, Origin},
    running::{Node, config},
};

#[tokio::test]
async fn a_full_node_makes_room_and_says_that_this_is_why_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 4_096, ..Behaviour::default() }).await;
    let mut config = config("n1", dir.path(), &origin.url(), "");
    config.core.index.capacity_bytes = 10 * 4_096;
    config.core.index.policy = PolicyKind::Lru;
    let node = Node::start(config).await;
    for number in 0..30 {
        let target = format!("/{number}");
        assert_eq!(node.get(&target).await.body, origin.content(&target));
        assert!(node.status().await["held"]["bytes"].as_u64().unwrap() <= 10 * 4_096);
    }
    assert_eq!(node.get("/29").await.cache(), "hit; detail=memory");
    assert_eq!(node.get("/0").await.cache(), "fwd=miss; detail=origin; cause=capacity");
    assert_eq!(node.status().await["held"]["segments"], 10);
}

#[tokio::test]
async fn http2_without_tls_is_spoken_too() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build(HttpConnector::new());
    let request = || Request::get(format!("{}/x", node.url())).body(Full::default()).unwrap();
    let (one, two) = tokio::join!(client.request(request()), client.request(request()));
    for response in [one.unwrap(), two.unwrap()] {
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), origin.content("/x"));
    }
}

#[tokio::test]
async fn an_object_store_is_an_origin() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = dir.path().join("bucket/sub");
    std::fs::create_dir_all(&bucket).unwrap();
    let content: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(bucket.join("a b.bin"), &content).unwrap();
    std::fs::write(bucket.join("empty"), b"").unwrap();
    let url = format!("file://{}", dir.path().join("bucket").display());
    let node = Node::start(config("n1", &dir.path().join("data"), &url, "")).await;
    for expected in ["fwd=miss; detail=origin; cause=first", "hit; detail=memory"] {
        let answer = node.get("/sub/a%20b.bin").await;
        assert_eq!((answer.status, answer.cache()), (StatusCode::OK, expected));
        assert!(answer.body == content);
    }
    let part = node.send(Method::GET, "/sub/a%20b.bin", &[("range", "bytes=39990-")]).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &content[39_990..]));
    assert_eq!(node.get("/sub/absent").await.status, StatusCode::NOT_FOUND);
    assert_eq!(node.get("/sub/empty").await.status, StatusCode::OK);
    assert_eq!(node.send(Method::POST, "/sub/x", &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_emulated_round_trip_delays_misses_and_not_hits() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    let emulation = "[emulation]\norigin = \"300ms\"";
    let node = Node::start(config("n1", dir.path(), &origin.url(), emulation)).await;
    let timed = async |target: &str| {
        #[expect(clippy::disallowed_methods, reason = "measures what a client feels")]
        let started = Instant::now();
        assert_eq!(node.get(target).await.status, StatusCode::OK);
        started.elapsed()
    };
    assert!(timed("/x").await >= Duration::from_millis(300));
    assert!(timed("/x").await < Duration::from_millis(250));
}

#[tokio::test]
async fn a_long_object_does_not_cost_a_round_trip_per_segment() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 64 * 4_096, ..Behaviour::default() }).await;
    let emulation = "[front]\nread_ahead_max = 8\n[emulation]\norigin = \"50ms\"";
    let node = Node::start(config("n1", dir.path(), &origin.url(), emulation)).await;
    #[expect(clippy::disallowed_methods, reason = "measures what a client feels")]
    let started = Instant::now();
    assert_eq!(node.get("/long").await.body, origin.content("/long"));
    assert!(started.elapsed() < Duration::from_millis(64 * 50 / 2), "{:?}", started.elapsed());
    assert_eq!(origin.seen().len(), 64, "each segment once");
}

#[tokio::test]
async fn a_client_that_wants_only_what_is_held_gets_that_or_504() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(node.send(Method::GET, "/x", &only).await.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(origin.seen().is_empty());
    node.get("/x").await;
    assert_eq!(node.send(Method::GET, "/x", &only).await.body, origin.content("/x"));
}
