//! The rules of HTTP caching, as clients and origins see them.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode};

use crate::{
    origin::Behaviour,
    running::{Node, config, pair},
};

fn small(cache_control: &'static str) -> Behaviour {
    Behaviour { cache_control, size: 1_000, ..Behaviour::default() }
}

#[tokio::test]
async fn what_a_client_says_reaches_the_origin_but_for_what_is_the_nodes_business() {
    let (origin, node, _dir) = pair(small("max-age=600")).await;
    let said = [
        ("accept-language", "de"),
        ("x-own", "1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("if-none-match", "\"old\""),
        ("nearcast-client", "c1"),
    ];
    assert_eq!(node.send(Method::GET, "/x", &said).await.body, origin.content("/x"));
    let heard = &origin.seen()[0].headers;
    assert_eq!((heard["accept-language"].as_bytes(), heard["x-own"].as_bytes()), (&b"de"[..], &b"1"[..]));
    for absent in ["x-hop", "connection", "if-none-match", "nearcast-client", "range"] {
        assert!(!heard.contains_key(absent), "{absent}: {heard:?}");
    }
}

#[tokio::test]
async fn variants_are_kept_side_by_side_and_each_client_gets_its_own() {
    let behaviour = Behaviour { headers: &[("vary", "X-Lang")], varies_by: Some("x-lang"), ..small("max-age=600") };
    let (origin, node, dir) = pair(behaviour).await;
    for round in 0..2 {
        for lang in ["de", "en"] {
            let answer = node.send(Method::GET, "/x", &[("x-lang", lang)]).await;
            assert_eq!(answer.body, origin.content(&format!("/x{lang}")), "{lang} in round {round}");
            assert_eq!(answer.cache().starts_with("hit"), round == 1, "{}", answer.cache());
        }
    }
    assert_eq!(node.get("/x").await.body, origin.content("/x"), "without the header it is a third");
    assert_eq!(origin.seen().len(), 3);
    let confirmed = node.send(Method::GET, "/x", &[("x-lang", "de"), ("if-none-match", "\"v1de\"")]).await;
    assert_eq!(confirmed.status, StatusCode::NOT_MODIFIED);
    node.stop().await;

    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    let kept = node.send(Method::GET, "/x", &[("x-lang", "en")]).await;
    assert_eq!((kept.cache(), &kept.body), ("hit; detail=disk", &origin.content("/xen")));
    // An unsafe request drops them all.
    node.send(Method::POST, "/x", &[]).await;
    for lang in ["de", "en"] {
        assert!(!node.send(Method::GET, "/x", &[("x-lang", lang)]).await.cache().starts_with("hit"), "{lang}");
    }
}

#[tokio::test]
async fn clients_that_wait_together_get_their_own_variants() {
    let behaviour = Behaviour { headers: &[("vary", "X-Lang")], varies_by: Some("x-lang"), ..small("max-age=600") };
    let (origin, node, _dir) = pair(behaviour).await;
    origin.close_gate();
    let node = Arc::new(node);
    let ask = |lang: &'static str| {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.send(Method::GET, "/x", &[("x-lang", lang)]).await.body })
    };
    let clients: Vec<_> = (0..10).flat_map(|_| ["de", "en", "fr"]).map(|lang| (lang, ask(lang))).collect();
    node.wait_until("all but one wait", |status| status["segments"]["joins"] == 29).await;
    origin.open_gate();
    for (lang, client) in clients {
        assert_eq!(client.await.unwrap(), origin.content(&format!("/x{lang}")), "{lang}");
    }
    assert_eq!(origin.seen().len(), 3, "one request per variant");
}

#[tokio::test]
async fn an_answer_that_varies_by_everything_is_nobody_elses() {
    let (origin, node, _dir) = pair(Behaviour { headers: &[("vary", "*")], ..small("max-age=600") }).await;
    for asked in 1..3 {
        assert_eq!(node.get("/x").await.body, origin.content("/x"));
        assert_eq!(origin.seen().len(), asked, "asked once per request");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_costs_the_origin_one_request_each() {
    for forbidding in ["no-store", "private", "max-age=0, no-cache=\"x\", no-store"] {
        let (origin, node, _dir) = pair(small(forbidding)).await;
        for asked in 1..4 {
            let answer = node.get("/x").await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &origin.content("/x")));
            assert_eq!(origin.seen().len(), asked, "{forbidding}");
        }
    }
}

#[tokio::test]
async fn credentials_are_passed_on_and_their_answers_kept_only_if_public() {
    let (origin, node, _dir) = pair(small("max-age=600")).await;
    let authorized = [("authorization", "Basic eDp5")];
    for asked in 1..3 {
        assert_eq!(node.send(Method::GET, "/me", &authorized).await.body, origin.content("/me"));
        assert_eq!(origin.seen().len(), asked);
    }
    assert_eq!(origin.seen()[0].headers["authorization"].as_bytes(), b"Basic eDp5");
    // Whoever sends credentials keeps nobody else from being served from what is held.
    node.get("/me").await;
    assert!(node.get("/me").await.cache().starts_with("hit"));
    origin.change(|behaviour| behaviour.cache_control = "public, max-age=600");
    node.send(Method::GET, "/all", &authorized).await;
    assert!(node.get("/all").await.cache().starts_with("hit"));
}

#[tokio::test]
async fn what_cannot_be_kept_is_shared_among_those_who_wait_only_if_it_says_nothing_of_them() {
    for (status, asked) in [(StatusCode::NOT_FOUND, 3), (StatusCode::BAD_GATEWAY, 3), (StatusCode::FOUND, 4)] {
        let (origin, node, _dir) = pair(Behaviour { status, has_tag: false, ..small("max-age=0") }).await;
        origin.close_gate();
        let node = Arc::new(node);
        let ask = |headers: &'static [(&'static str, &'static str)]| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.send(Method::GET, "/x", headers).await.status })
        };
        let mut clients = vec![ask(&[])];
        node.wait_until("the first asks", |status| status["under_way"]["transfers"] == 1).await;
        clients.extend([ask(&[]), ask(&[("cookie", "a")]), ask(&[("cookie", "b")])]);
        node.wait_until("the others wait", |status| status["segments"]["joins"] == 3).await;
        origin.open_gate();
        for client in clients {
            assert_eq!(client.await.unwrap(), status);
        }
        assert_eq!(origin.seen().len(), asked, "{status}: those with cookies ask for themselves");
    }
}

#[tokio::test]
async fn errors_and_redirects_are_kept_when_they_say_so() {
    for status in [StatusCode::NOT_FOUND, StatusCode::MOVED_PERMANENTLY, StatusCode::GONE, StatusCode::FOUND] {
        let (origin, node, _dir) = pair(Behaviour { status, ..small("max-age=600") }).await;
        for _ in 0..2 {
            let answer = node.send(Method::GET, "/x", &[("range", "bytes=0-3")]).await;
            assert_eq!((answer.status, &answer.body[..]), (status, &b"no such thing"[..]));
        }
        let head = node.send(Method::HEAD, "/x", &[("if-none-match", "\"v1\"")]).await;
        assert_eq!((head.status, head.header("content-length")), (status, "13"));
        assert_eq!(origin.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_stale_object_is_served_at_once_while_it_is_being_confirmed() {
    let (origin, node, _dir) = pair(small("max-age=0, stale-while-revalidate=60")).await;
    node.get("/x").await;
    origin.change(|behaviour| behaviour.version = 2);
    origin.close_gate();
    let stale = node.get("/x").await;
    assert!(stale.header("etag") == "\"v1\"" && stale.cache().starts_with("hit"), "{}", stale.cache());
    origin.open_gate();
    for _ in 0..500 {
        if node.get("/x").await.header("etag") == "\"v2\"" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never confirmed: {:?}", origin.seen());
}

#[tokio::test]
async fn a_stale_object_stands_in_for_an_origin_in_trouble_where_that_is_allowed() {
    for (allowing, on_error, when_away) in [
        ("max-age=0, stale-if-error=60", StatusCode::OK, StatusCode::OK),
        ("max-age=0", StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK),
        ("max-age=0, must-revalidate, stale-if-error=60", StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY),
        ("no-cache, stale-if-error=60", StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY),
    ] {
        let (origin, node, _dir) = pair(small(allowing)).await;
        let expected = origin.content("/x");
        node.get("/x").await;
        origin.change(|behaviour| behaviour.status = StatusCode::SERVICE_UNAVAILABLE);
        let answer = node.get("/x").await;
        assert_eq!(answer.status, on_error, "{allowing}");
        assert!(answer.body == expected || answer.status != StatusCode::OK);
        // The error was not about the object.
        origin.change(|behaviour| behaviour.status = StatusCode::OK);
        assert_eq!(node.get("/x").await.body, expected, "{allowing}");
        assert!(origin.seen().last().is_some_and(|seen| seen.if_none_match.is_some()), "{allowing}");
        origin.stop().await;
        assert_eq!(node.get("/x").await.status, when_away, "{allowing}");
    }
}

#[tokio::test]
async fn an_error_that_is_too_long_to_be_shared_is_never_cut_short() {
    let (origin, node, _dir) = pair(small("max-age=0, must-revalidate")).await;
    node.get("/x").await;
    origin.change(|behaviour| (behaviour.status, behaviour.error_padding) = (StatusCode::SERVICE_UNAVAILABLE, 100_000));
    let answer = node.get("/x").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(String::from_utf8_lossy(&answer.body).contains("too long"), "{answer:?}");
    origin.change(|behaviour| behaviour.status = StatusCode::OK);
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
}

#[tokio::test]
async fn a_field_meant_for_caches_like_this_one_goes_before_the_one_for_all() {
    let behaviour = Behaviour { headers: &[("cdn-cache-control", "max-age=600")], ..small("no-store") };
    let (origin, node, _dir) = pair(behaviour).await;
    node.get("/x").await;
    let hit = node.get("/x").await;
    assert_eq!((hit.cache(), hit.header("cache-control")), ("hit; detail=memory", "no-store"));
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn an_unsafe_request_also_drops_what_its_answer_names() {
    let (origin, node, _dir) = pair(small("max-age=600")).await;
    for target in ["/a/x", "/a/y", "/z"] {
        node.get(target).await;
    }
    origin.change(|behaviour| behaviour.headers = &[("location", "y"), ("content-location", "http://elsewhere/z")]);
    node.send(Method::PUT, "/a/x", &[]).await;
    for (target, is_held) in [("/a/x", false), ("/a/y", false), ("/z", true)] {
        assert_eq!(node.get(target).await.cache().starts_with("hit"), is_held, "{target}");
    }
}

#[tokio::test]
async fn an_answer_says_how_old_it_is() {
    let (_origin, node, _dir) = pair(Behaviour { headers: &[("age", "100")], ..small("max-age=600") }).await;
    node.get("/x").await;
    let age: u64 = node.get("/x").await.header("age").parse().expect("a number");
    assert!((100..110).contains(&age), "{age}");
}
