//! The node's own request log.

use std::path::Path;

use hyper::Method;
use nearcast_datasets::{ByteRange, LogSource, RequestEvent, ServedFrom, read_events};

use crate::{
    origin::{Behaviour, Origin},
    running::{Node, config},
};

fn events(folder: &Path) -> Vec<RequestEvent> {
    let source = LogSource::parse(&folder.display().to_string()).expect("a folder");
    read_events(&source).expect("a log").map(|event| event.expect("a row")).collect()
}

#[tokio::test]
async fn what_a_node_logs_is_what_the_trainer_reads() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "[log]\nrows_max = 2")).await;
    node.send(Method::GET, "/a", &[("nearcast-client", "alice")]).await;
    node.send(Method::GET, "/a", &[("nearcast-client", "bob"), ("range", "bytes=10-19")]).await;
    node.get("/b").await;
    origin.stop().await;
    node.get("/c").await;
    node.stop().await;

    let events = events(&dir.path().join("logs"));
    let told: Vec<_> = events.iter().map(|e| (&*e.key, e.size_bytes, e.outcome, e.range)).collect();
    let range = Some(ByteRange { start: 10, end: 20 });
    assert_eq!(
        told,
        [
            ("/a", 10_000, Some(ServedFrom::Origin), None),
            ("/a", 10_000, Some(ServedFrom::Memory), range),
            ("/b", 10_000, Some(ServedFrom::Origin), None),
            ("/c", 0, Some(ServedFrom::Error), None),
        ]
    );
    assert_eq!((&*events[0].client, &*events[1].client), ("alice", "bob"));
    assert_eq!(events[2].client, events[3].client);
    assert!(!events[2].client.contains("127.0.0.1") && events[2].client.len() == 16, "{}", events[2].client);
    assert!(events.iter().all(|event| event.node.as_deref() == Some("n1") && event.region == "eu"));
    assert!(events.iter().all(|event| event.latency_us.is_some_and(|latency| latency > 0)));
    assert!(events.is_sorted_by_key(|event| event.timestamp));
}
