//! Purged objects stay purged.

use std::{fs, path::Path, sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use nearcast_proto::message::NodeReport;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    origin::{Behaviour, Origin},
    predictor::Predictor,
    running::{Node, config},
};

fn tagged(tags: &'static [(&'static str, &'static str)]) -> Behaviour {
    Behaviour { size: 1_000, headers: tags, ..Behaviour::default() }
}

async fn purge(node: &Node, order: &str) -> u64 {
    let answer = node.post("/_nearcast/purge", &[], order).await;
    assert_eq!(answer.status, StatusCode::OK, "{order}: {}", String::from_utf8_lossy(&answer.body));
    let document: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(document["schema"], "nearcast.purge/1");
    document["objects"].as_u64().expect("a number")
}

async fn is_hit(node: &Node, target: &str) -> bool {
    node.get(target).await.cache().starts_with("hit")
}

#[tokio::test]
async fn keys_prefixes_and_tags_are_purged_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[("surrogate-key", "shop home")])).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    node.get("/tagged").await;
    origin.change(|behaviour| behaviour.headers = &[("cache-tag", "news,home")]);
    node.get("/tagged/too").await;
    origin.change(|behaviour| behaviour.headers = &[]);
    let plain = ["/a/1", "/a/2", "/ab", "/c?d"];
    for target in plain {
        node.get(target).await;
    }
    assert_eq!(purge(&node, r#"{"tags": ["home"]}"#).await, 2);
    assert_eq!(purge(&node, r#"{"tags": ["home"]}"#).await, 0, "there is nothing left");
    assert_eq!(purge(&node, r#"{"prefixes": ["/a/"], "keys": ["c?d", "/nowhere"]}"#).await, 3);
    for (target, is_held) in [("/tagged", false), ("/a/1", false), ("/a/2", false), ("/ab", true), ("/c?d", false)] {
        assert_eq!(is_hit(&node, target).await, is_held, "{target}");
        assert!(is_hit(&node, target).await, "{target} may be kept anew");
    }
    let status = node.get("/_nearcast/metrics").await;
    assert!(String::from_utf8_lossy(&status.body).contains("nearcast_purged_objects_total 5"));
}

#[tokio::test]
async fn all_variants_of_a_key_are_purged() {
    let dir = tempfile::tempdir().unwrap();
    let behaviour = Behaviour { varies_by: Some("x-lang"), ..tagged(&[("vary", "x-lang")]) };
    let origin = Origin::start(behaviour).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    for lang in ["de", "en", "fr"] {
        node.send(Method::GET, "/x", &[("x-lang", lang)]).await;
    }
    assert_eq!(purge(&node, r#"{"keys": ["/x"]}"#).await, 3);
    assert!(!node.send(Method::GET, "/x", &[("x-lang", "en")]).await.cache().starts_with("hit"));
}

#[tokio::test]
async fn a_soft_purge_asks_the_origin_and_serves_on_while_it_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[])).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    let expected = origin.content("/x");
    node.get("/x").await;
    assert_eq!(purge(&node, r#"{"keys": ["/x"], "soft": true}"#).await, 1);
    assert_eq!(node.get("/x").await.cache(), "fwd=stale; detail=origin; cause=expired");
    assert!(origin.seen().last().is_some_and(|seen| seen.if_none_match.is_some()), "a confirmation is enough");
    assert!(is_hit(&node, "/x").await, "confirmed once, it is fresh again");
    purge(&node, r#"{"keys": ["/x"], "soft": true}"#).await;
    origin.stop().await;
    assert_eq!(node.get("/x").await.body, expected);
}

#[tokio::test]
async fn a_transfer_that_was_under_way_does_not_bring_back_what_was_purged() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[])).await;
    let node = Arc::new(Node::start(config("n1", dir.path(), &origin.url(), "")).await);
    origin.close_gate();
    let waiting = tokio::spawn({
        let node = Arc::clone(&node);
        async move { node.get("/x").await }
    });
    while origin.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(purge(&node, r#"{"prefixes": ["/"]}"#).await, 0);
    origin.open_gate();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK, "who asked before gets what was asked for");
    assert!(!is_hit(&node, "/x").await, "it is not kept");
    assert!(is_hit(&node, "/x").await);
}

#[tokio::test]
async fn nobody_purges_without_the_token_and_bad_orders_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[])).await;
    let token = dir.path().join("token");
    fs::write(&token, "sesame\n").unwrap();
    let front = format!("[front]\nadmin_token_file = \"{}\"", token.display());
    let node = Node::start(config("n1", dir.path(), &origin.url(), &front)).await;
    node.get("/x").await;
    let order = r#"{"keys": ["/x"]}"#;
    for headers in [&[][..], &[("authorization", "Bearer open")], &[("authorization", "sesame")]] {
        for target in ["/_nearcast/purge", "/_nearcast/clear"] {
            assert_eq!(node.post(target, headers, order).await.status, StatusCode::UNAUTHORIZED, "{headers:?}");
        }
    }
    assert!(is_hit(&node, "/x").await);
    let token = [("authorization", "Bearer sesame")];
    for (order, said) in [
        ("", "no order such as"),
        (r#"{"key": "/x"}"#, "unknown field `key`"),
        ("{}", "nothing to purge"),
        (r#"{"keys": ["/a/../b"]}"#, "`..` segment"),
    ] {
        let answer = node.post("/_nearcast/purge", &token, order).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == StatusCode::BAD_REQUEST && body.contains(said), "{order}: {body}");
    }
    assert_eq!(node.post("/_nearcast/purge", &token, order).await.status, StatusCode::OK);
    assert!(!is_hit(&node, "/x").await);
}

/// A model of what may be served, against a node that is restarted at will, with a journal that may have lost its end.
/// In every other run a predictor orders some of the purges, some of them while the node is away.
#[tokio::test]
async fn a_purged_object_never_comes_back() {
    for seed in 0..8 {
        let (mut rng, dir) = (ChaCha8Rng::seed_from_u64(seed), tempfile::tempdir().unwrap());
        let origin = Origin::start(tagged(&[("surrogate-key", "all")])).await;
        let predictor = if seed % 2 == 1 { Some(Predictor::start().await) } else { None };
        let section = predictor.as_ref().map(Predictor::section).unwrap_or_default();
        let mut node = start_before(dir.path(), &origin, &section).await;
        // By object: whether serving what is held of it is right.
        let mut may_be_held = [false; 8];
        for step in 0..60 {
            let number = rng.random_range(0..may_be_held.len());
            let target = format!("/{}/{number}", number % 2);
            match rng.random_range(0..11) {
                0..=5 => {
                    let hit = is_hit(&node, &target).await;
                    assert!(!hit || may_be_held[number], "{target} came back in step {step}; seed {seed}");
                    may_be_held[number] = true;
                }
                6 => {
                    purge(&node, &format!(r#"{{"keys": ["{target}"]}}"#)).await;
                    may_be_held[number] = false;
                }
                7 => {
                    purge(&node, &format!(r#"{{"prefixes": ["/{}/"]}}"#, number % 2)).await;
                    may_be_held.iter_mut().skip(number % 2).step_by(2).for_each(|held| *held = false);
                }
                8 => {
                    purge(&node, r#"{"tags": ["all"]}"#).await;
                    may_be_held = [false; 8];
                }
                9 => {
                    let Some(predictor) = &predictor else { continue };
                    let epoch = predictor.purge(&target).await;
                    carried_out(predictor, epoch).await;
                    may_be_held[number] = false;
                }
                _ => {
                    node.stop().await;
                    if rng.random_bool(0.5) {
                        // As after `kill -9`: what the journal was told last never reached the disk.
                        let journal = dir.path().join("index.journal");
                        let bytes = fs::read(&journal).unwrap();
                        fs::write(&journal, &bytes[..rng.random_range(0..=bytes.len())]).unwrap();
                    }
                    if let Some(predictor) = predictor.as_ref().filter(|_| rng.random_bool(0.7)) {
                        predictor.purge(&target).await;
                        may_be_held[number] = false;
                    }
                    node = start_before(dir.path(), &origin, &section).await;
                }
            }
        }
        node.stop().await;
    }
}

/// Waits until a node has carried out every purge of the predictor's log.
async fn carried_out(predictor: &Predictor, epoch: u64) -> u64 {
    let found = |report: &NodeReport| match report {
        NodeReport::Purged { epoch: done, objects } if *done == epoch => Some(*objects),
        _ => None,
    };
    predictor.wait_for("n1", "that it has purged", found).await
}

async fn start_before(dir: &Path, origin: &Origin, section: &str) -> Node {
    Node::start(config("n1", dir, &origin.url(), section)).await
}

#[tokio::test]
async fn a_node_that_was_away_purges_what_it_missed_before_it_serves_it() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[])).await;
    let predictor = Predictor::start().await;
    let node = start_before(dir.path(), &origin, &predictor.section()).await;
    for target in ["/a", "/b", "/c"] {
        node.get(target).await;
    }
    let epoch = predictor.purge("/a").await;
    assert_eq!(carried_out(&predictor, epoch).await, 1, "who is there purges at once");
    assert!(!is_hit(&node, "/a").await);
    node.stop().await;
    let epoch = predictor.purge("/b").await;
    let node = start_before(dir.path(), &origin, &predictor.section()).await;
    assert_eq!(carried_out(&predictor, epoch).await, 1);
    assert_eq!([is_hit(&node, "/a").await, is_hit(&node, "/b").await, is_hit(&node, "/c").await], [true, false, true]);
}

#[tokio::test]
async fn without_the_predictor_what_a_former_run_held_is_served_only_when_the_origin_confirms_it() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[("cache-control", "max-age=600, stale-if-error=600")])).await;
    let predictor = Predictor::start().await;
    let (address, section) = (predictor.address, predictor.section());
    let node = start_before(dir.path(), &origin, &section).await;
    let targets = ["/a", "/b", "/c"];
    for target in targets {
        node.get(target).await;
    }
    node.stop().await;
    drop(predictor);
    let node = start_before(dir.path(), &origin, &section).await;
    assert_eq!(node.get("/a").await.cache(), "fwd=stale; detail=origin; cause=expired");
    assert!(origin.seen().last().is_some_and(|seen| seen.if_none_match.is_some()), "a confirmation is enough");
    assert!(is_hit(&node, "/a").await, "once confirmed it is served");
    let only_held = node.send(Method::GET, "/b", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(only_held.status, StatusCode::GATEWAY_TIMEOUT);
    let segment = "/_nearcast/segment?key=%2Fb&index=0&segment_bytes=4096";
    let copied = node.send(Method::GET, segment, &[("cache-control", "only-if-cached")]).await;
    assert_eq!(copied.status, StatusCode::NOT_FOUND, "no peer gets it either");
    origin.stop().await;
    assert!(node.get("/c").await.status.is_server_error(), "not even when the origin is away: it may be purged");
    let _predictor = Predictor::start_at(address).await;
    for _ in 0..1_000 {
        if is_hit(&node, "/c").await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the predictor said that nothing was purged, and /c is still in doubt");
}

#[tokio::test]
async fn when_the_predictor_has_lost_its_log_everything_is_confirmed_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(tagged(&[])).await;
    let node = start_before(dir.path(), &origin, "").await;
    for target in ["/a", "/b"] {
        node.get(target).await;
    }
    node.stop().await;
    // As if it had followed a log that is gone.
    let mark = r#"{"at_us":1,"order":{},"position":{"log":"another","epoch":7}}"#;
    fs::write(dir.path().join("purges.jsonl"), format!("{mark}\n")).unwrap();
    let predictor = Predictor::start().await;
    let is_new_log = |report: &NodeReport| match report {
        NodeReport::Hello { purges: Some(position), .. } if &*position.log != "another" => Some(()),
        _ => None,
    };
    for (target, is_second_life) in [("/a", false), ("/b", true)] {
        let node = start_before(dir.path(), &origin, &predictor.section()).await;
        if is_second_life {
            predictor.wait_for("n1", "the new log's name", is_new_log).await;
        }
        // Carrying this out means that it heard of the gap before.
        let epoch = predictor.purge("/elsewhere").await;
        carried_out(&predictor, epoch).await;
        assert!(!is_hit(&node, target).await, "{target}");
        assert!(is_hit(&node, target).await, "{target}");
        node.stop().await;
    }
}
