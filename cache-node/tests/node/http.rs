//! What clients see.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use crate::{origin::Behaviour, running::pair};

#[tokio::test]
async fn a_miss_is_fetched_once_and_then_hit_byte_for_byte() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    let expected = origin.content("/a/b%20c.bin");
    let first = node.get("/a/b%20c.bin").await;
    assert_eq!((first.status, first.cache()), (StatusCode::OK, "fwd=miss; detail=origin; cause=first"));
    assert_eq!(first.body, expected);
    let second = node.get("/a/b%20c.bin").await;
    assert_eq!((second.cache(), second.header("content-type")), ("hit; detail=memory", "application/x-test"));
    assert_eq!(second.body, expected);
    assert_eq!(second.header("etag"), "\"v1\"");
    // Three segments of 4 KiB in one piece.
    assert_eq!(origin.seen().len(), 1, "{:?}", origin.seen());
    assert!(origin.seen().iter().all(|seen| seen.target == "/a/b%20c.bin"), "{:?}", origin.seen());
    let status = node.status().await;
    assert_eq!((&status["requests"], &status["hits"], &status["misses"]["first"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(status["bytes"]["from_origin"], 10_000);
}

#[tokio::test]
async fn a_range_fetches_only_the_segments_that_it_needs() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    let expected = origin.content("/x");
    let check = async |range: &str, from: usize, to: usize| {
        let answer = node.send(Method::GET, "/x", &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.body, expected.slice(from..to), "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/10000", to - 1));
    };
    check("bytes=5000-5009", 5_000, 5_010).await;
    assert_eq!(origin.seen().len(), 1);
    check("bytes=4000-8999", 4_000, 9_000).await;
    check("bytes=-10", 9_990, 10_000).await;
    check("bytes=9000-", 9_000, 10_000).await;
    assert_eq!(origin.seen().len(), 3, "each segment once: {:?}", origin.seen());
    let beyond = node.send(Method::GET, "/x", &[("range", "bytes=10000-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10000"));
}

#[tokio::test]
async fn an_origin_that_ignores_ranges_is_asked_once_for_the_whole() {
    for sends_length in [true, false] {
        let behaviour = Behaviour { honours_ranges: false, sends_length, ..Behaviour::default() };
        let (origin, node, _dir) = pair(behaviour).await;
        let expected = origin.content("/x");
        let part = node.send(Method::GET, "/x", &[("range", "bytes=9000-9999")]).await;
        assert_eq!((part.status, &part.body), (StatusCode::PARTIAL_CONTENT, &expected.slice(9_000..)));
        assert_eq!(node.get("/x").await.body, expected);
        assert_eq!(origin.seen().len(), 1, "{:?}", origin.seen());
    }
}

#[tokio::test]
async fn many_requests_for_one_cold_key_cost_the_origin_one() {
    let (origin, node, _dir) = pair(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    let expected = origin.content("/hot");
    origin.close_gate();
    let node = Arc::new(node);
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.get("/hot").await.body })
        })
        .collect();
    node.wait_until("all but one wait", |status| status["segments"]["joins"] == 99).await;
    origin.open_gate();
    for client in clients {
        assert_eq!(client.await.unwrap(), expected);
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_end_the_transfer_for_others() {
    let (origin, node, _dir) = pair(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    origin.close_gate();
    let impatient = tokio::time::timeout(std::time::Duration::from_millis(100), node.get("/slow")).await;
    assert!(impatient.is_err());
    origin.open_gate();
    node.wait_until("the segment landed", |status| status["held"]["segments"] == 1).await;
    assert_eq!(node.get("/slow").await.cache(), "hit; detail=memory");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn conditional_and_head_requests_are_answered_from_what_is_known() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    node.get("/x").await;
    let asked = origin.seen().len();
    let same = node.send(Method::GET, "/x", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (StatusCode::NOT_MODIFIED, 0, "\"v1\""));
    let head = node.send(Method::HEAD, "/x", &[]).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "10000"));
    assert_eq!(origin.seen().len(), asked);
}

#[tokio::test]
async fn a_stale_object_is_confirmed_by_the_origin_or_replaced() {
    let (origin, node, _dir) =
        pair(Behaviour { cache_control: "max-age=0", size: 4_000, ..Behaviour::default() }).await;
    node.get("/x").await;
    let confirmed = node.get("/x").await;
    assert_eq!(confirmed.cache(), "fwd=stale; detail=origin; cause=expired");
    assert_eq!(origin.seen().last().unwrap().if_none_match.as_deref(), Some("\"v1\""));
    assert_eq!(node.status().await["bytes"]["from_origin"], 4_000, "a confirmation carries no bytes");
    origin.change(|behaviour| behaviour.version = 2);
    let replaced = node.get("/x").await;
    assert_eq!((replaced.header("etag"), &replaced.body), ("\"v2\"", &origin.content("/x")));
    assert_eq!(origin.seen().len(), 3, "{:?}", origin.seen());
}

#[tokio::test]
async fn segments_of_two_versions_are_never_mixed() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    node.send(Method::GET, "/x", &[("range", "bytes=0-9")]).await;
    origin.change(|behaviour| behaviour.version = 2);
    // The first segment is of version 1, the others can only be had of version 2.
    match node.try_send(Method::GET, "/x", &[]).await {
        Ok(answer) => assert_eq!(answer.body, origin.content("/x")),
        Err(_broken_off) => {}
    }
    let after = node.get("/x").await;
    assert_eq!((after.header("etag"), &after.body), ("\"v2\"", &origin.content("/x")));
}

#[tokio::test]
async fn what_must_not_be_kept_is_passed_through() {
    let (origin, node, _dir) = pair(Behaviour { cache_control: "private", ..Behaviour::default() }).await;
    for _ in 0..2 {
        let answer = node.get("/me").await;
        assert_eq!(
            (answer.cache(), &answer.body),
            ("fwd=bypass; detail=origin; cause=uncacheable", &origin.content("/me"))
        );
    }
    let status = node.status().await;
    assert_eq!((&status["held"]["segments"], &status["misses"]["uncacheable"]), (&0.into(), &2.into()));
    let posted = node.send(Method::POST, "/form", &[]).await;
    assert_eq!((posted.status, origin.seen().last().unwrap().method.as_str()), (StatusCode::OK, "POST"));
}

#[tokio::test]
async fn an_unsafe_method_drops_what_is_held() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    node.get("/x").await;
    assert_eq!(node.send(Method::DELETE, "/x", &[]).await.status, StatusCode::OK);
    assert_eq!(node.get("/x").await.cache(), "fwd=stale; detail=origin; cause=expired");
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn an_origins_error_is_its_own_and_is_not_kept() {
    let behaviour = Behaviour { status: StatusCode::NOT_FOUND, cache_control: "no-store", ..Behaviour::default() };
    let (origin, node, _dir) = pair(behaviour).await;
    let absent = node.get("/x").await;
    assert_eq!((absent.status, &absent.body[..]), (StatusCode::NOT_FOUND, &b"no such thing"[..]));
    origin.change(|behaviour| behaviour.status = StatusCode::OK);
    assert_eq!(node.get("/x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unreachable_origin_is_a_502_that_says_so_while_hits_go_on() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    let expected = origin.content("/held");
    node.get("/held").await;
    origin.stop().await;
    let failed = node.get("/other").await;
    let body = String::from_utf8_lossy(&failed.body).into_owned();
    assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
    assert!(body.contains("/other") && body.contains("cannot be reached"), "{body}");
    assert_eq!(node.get("/held").await.body, expected);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_neither_served_as_whole_nor_kept() {
    let (origin, node, _dir) = pair(Behaviour { breaks_off: true, ..Behaviour::default() }).await;
    assert_eq!(node.get("/x").await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(node.status().await["held"]["segments"], 0);
    origin.change(|behaviour| behaviour.breaks_off = false);
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let (origin, node, _dir) = pair(Behaviour { size: 0, ..Behaviour::default() }).await;
    for expected in ["fwd=miss; detail=origin; cause=first", "hit; detail=memory"] {
        let answer = node.get("/empty").await;
        assert_eq!((answer.status, answer.cache(), answer.body.len()), (StatusCode::OK, expected, 0));
    }
    assert_eq!(origin.seen().len(), 1);
    let part = node.send(Method::GET, "/empty/too", &[("range", "bytes=0-9")]).await;
    assert_eq!(part.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(origin.seen().len(), 3, "a range that cannot be, then none");
}

#[tokio::test]
async fn malformed_keys_are_refused_and_queries_belong_to_the_key() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    for target in ["/a/%2e%2e/b", "/a%00", "/%ff"] {
        assert_eq!(node.get(target).await.status, StatusCode::BAD_REQUEST, "{target}");
    }
    assert!(origin.seen().is_empty());
    assert_eq!(node.get("/map?1,2").await.body, origin.content("/map?1,2"));
    assert_eq!(node.get("/map?3,4").await.body, origin.content("/map?3,4"));
}
