//! What operators do with a node: follow its requests, ask for the hottest keys, have it fetch ahead.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

use crate::{
    origin::{Behaviour, Origin},
    running::{Node, config, pair},
};

/// Somebody who follows a node's requests.
struct Tail {
    body: Incoming,
    text: String,
}

impl Tail {
    /// Begins to follow; returns once the node has said hello.
    async fn start(node: &Node, query: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(HttpConnector::new());
        let url = format!("{}/_nearcast/tail?{query}", node.url());
        let response =
            client.request(Request::get(url).body(Empty::new()).expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let mut tail = Self { body: response.into_body(), text: String::new() };
        let hello = tail.line().await.expect("a first line");
        assert_eq!(hello, json!({"schema": "nearcast.tail/1", "node": "n1", "region": "eu"}));
        tail
    }

    /// The next line; `None` when the node has ended.
    async fn line(&mut self) -> Option<Value> {
        while !self.text.contains('\n') {
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await.expect("in time")?;
            let data = frame.expect("unbroken").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&data).expect("text"));
        }
        let (line, rest) = self.text.split_once('\n').expect("a line");
        let (line, rest) = (serde_json::from_str(line).expect("JSON"), rest.to_owned());
        self.text = rest;
        Some(line)
    }

    /// The next request.
    async fn request(&mut self) -> Value {
        loop {
            let line = self.line().await.expect("a line");
            if line.get("lost").is_none() {
                return line;
            }
        }
    }
}

#[tokio::test]
async fn requests_are_followed_as_they_end() {
    let (_origin, node, _dir) = pair(Behaviour::default()).await;
    let mut tail = Tail::start(&node, "").await;
    let mut misses = Tail::start(&node, "cause=first&key_prefix=/b").await;
    let client = [("nearcast-client", "alice"), ("user-agent", "test/1")];
    for target in ["/a", "/a", "/b?c"] {
        node.send(Method::GET, target, &client).await;
    }
    let (first, second, third) = (tail.request().await, tail.request().await, tail.request().await);
    assert_eq!((&first["key"], &first["outcome"], &first["cause"]), (&"/a".into(), &"origin".into(), &"first".into()));
    assert_eq!(
        (&second["outcome"], &second["cause"], &second["bytes"]),
        (&"memory".into(), &Value::Null, &10_000.into())
    );
    assert_eq!((&third["target"], &third["client"]), (&"/b?c".into(), &"alice".into()));
    assert_eq!((&third["user_agent"], &third["status"]), (&"test/1".into(), &200.into()));
    assert!(first["latency_us"].as_u64() > Some(0), "{first}");
    assert_eq!(misses.request().await["key"], "/b?c");
    // Without a name, the client is a pseudonym: its address stays at the node.
    node.get("/a").await;
    let unnamed = tail.request().await["client"].as_str().expect("a client").to_owned();
    assert!(unnamed.len() == 16 && !unnamed.contains("127.0.0.1"), "{unnamed}");
    // Whoever leaves is forgotten, and a node that stops ends what is left.
    drop(misses);
    node.wait_until("one watcher", |status| status["front"]["watchers"] == 1).await;
    let (_, last) = tokio::join!(node.stop(), async { while tail.line().await.is_some() {} });
    assert_eq!(last, ());
}

#[tokio::test]
async fn a_slow_follower_loses_requests_and_makes_none_wait() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 10, ..Behaviour::default() }).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "[front]\nwatch_queue_max = 4")).await;
    let mut tail = Tail::start(&node, "").await;
    // Long lines that nobody reads: they fill the socket, then the queue.
    let agent = "x".repeat(8_000);
    for _ in 0..3_000 {
        node.send(Method::GET, "/a", &[("user-agent", &agent)]).await;
    }
    let status = node.status().await;
    let lost = status["front"]["watch_lost"].as_u64().expect("a number");
    assert!(status["requests"] == 3_000 && lost > 0, "{status:#}");
    // Once it reads, it is told how many.
    let (mut read, mut told) = (0, 0);
    while read + told < 3_000 {
        let line = tail.line().await.expect("a line");
        match line["lost"].as_u64() {
            Some(lost) => told += lost,
            None => read += 1,
        }
    }
    assert_eq!((read + told, told), (3_000, lost));
    node.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_so_is_who_does_not_know_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "open sesame").unwrap();
    let more = format!("[front]\nadmin_token_file = \"{}\"\nwatchers_max = 1", token.display());
    let node = Node::start(config("n1", dir.path(), "http://127.0.0.1:9", &more)).await;
    let known = [("authorization", "Bearer open sesame")];
    for (method, target) in [(Method::GET, "tail"), (Method::GET, "top?seconds=0.01"), (Method::POST, "warm")] {
        let target = format!("/_nearcast/{target}");
        assert_eq!(node.send(method.clone(), &target, &[]).await.status, 401, "{target}");
        let other = if method == Method::GET { Method::POST } else { Method::GET };
        assert_eq!(node.send(other, &target, &known).await.status, 405, "{target}");
    }
    for target in ["tail?status=2", "tail?outcome=hit", "top?by=host", "top?seconds=61"] {
        assert_eq!(node.send(Method::GET, &format!("/_nearcast/{target}"), &known).await.status, 400, "{target}");
    }
    for body in ["", "{\"keys\": 5}", "{\"keys\": [], \"more\": 1}"] {
        assert_eq!(node.post("/_nearcast/warm", &known, body).await.status, 400, "{body}");
    }
    let looking = node.send(Method::GET, "/_nearcast/top?seconds=30", &known);
    let crowded = async {
        node.wait_until("somebody looks", |status| status["front"]["watchers"] == 1).await;
        node.send(Method::GET, "/_nearcast/top?seconds=0.01", &known).await.status
    };
    tokio::select! {
        answer = looking => panic!("too soon: {answer:?}"),
        status = crowded => assert_eq!(status, 503, "one is the bound"),
    }
    node.stop().await;
}

#[tokio::test]
async fn the_hottest_keys_are_those_asked_for_most() {
    let (_origin, node, _dir) = pair(Behaviour { size: 100, ..Behaviour::default() }).await;
    let top = async |query: &str| -> Value {
        let asking = node.get(query);
        let playing = async {
            node.wait_until("somebody looks", |status| status["front"]["watchers"] == 1).await;
            for number in 0..10 {
                node.get("/img/hot").await;
                node.get(&format!("/css/{number}")).await;
            }
        };
        let (answer, ()) = tokio::join!(asking, playing);
        serde_json::from_slice(&answer.body).expect("JSON")
    };
    let by_key = top("/_nearcast/top?seconds=3&limit=2").await;
    assert_eq!(by_key["schema"], "nearcast.top/1");
    assert_eq!((&by_key["requests"], &by_key["lost"]), (&20.into(), &0.into()), "{by_key:#}");
    let hot = &by_key["top"][0];
    assert_eq!((&hot["name"], &hot["weight"], &hot["bytes"]), (&"/img/hot".into(), &10.into(), &1_000.into()));
    assert_eq!((&hot["misses"], &hot["causes"]["first"]), (&1.into(), &1.into()));
    let by_prefix = top("/_nearcast/top?seconds=3&by=prefix&sort=requests&key_prefix=/css").await;
    assert_eq!((&by_prefix["top"][0]["name"], &by_prefix["top"][0]["weight"]), (&"/css/".into(), &10.into()));
    node.stop().await;
}

#[tokio::test]
async fn warming_fetches_what_is_missing_and_is_no_client_s_request() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    node.get("/held").await;
    let requests = node.status().await["requests"].clone();
    let order = json!({"keys": ["/held", "/new", "/new", "no\u{0}key"]}).to_string();
    let answer = node.post("/_nearcast/warm", &[], &order).await;
    let report: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(report["schema"], "nearcast.warm/1");
    let objects = report["objects"].as_array().expect("a list");
    let told: Vec<_> = objects.iter().map(|object| (object["key"].as_str(), object["outcome"].as_str())).collect();
    assert_eq!((told[0], told[2]), ((Some("/held"), Some("held")), (Some("no\u{0}key"), Some("failed"))));
    let fetched = objects.iter().filter(|object| object["outcome"] == "fetched").collect::<Vec<_>>();
    assert!(!fetched.is_empty(), "{report:#}");
    // 10,000 bytes in segments of 4 KiB.
    assert_eq!(
        (&fetched[0]["held_segments"], &fetched[0]["segments"], &fetched[0]["size"]),
        (&3.into(), &3.into(), &10_000.into())
    );
    let status = node.status().await;
    assert_eq!(status["requests"], requests, "warming is no request");
    assert_eq!((&status["segments"]["prefetch"]["ordered"], &status["warmed"]["bytes"]), (&0.into(), &10_000.into()));
    // What was warmed is there although the origin is gone.
    let content = origin.content("/new");
    origin.stop().await;
    let answer = node.get("/new").await;
    assert!(answer.body == content && answer.cache().starts_with("hit"), "{}", answer.cache());
    node.stop().await;
}

#[tokio::test]
async fn warming_tells_what_could_not_be_kept_or_had() {
    let (origin, node, _dir) = pair(Behaviour { cache_control: "no-store", ..Behaviour::default() }).await;
    let warm = async |key: &str| -> Value {
        let order = json!({"keys": [key], "bytes_per_second": 100_000_000}).to_string();
        let answer = node.post("/_nearcast/warm", &[], &order).await;
        let report: Value = serde_json::from_slice(&answer.body).expect("JSON");
        report["objects"][0].clone()
    };
    let uncacheable = warm("/private").await;
    assert_eq!(
        (&uncacheable["outcome"], &uncacheable["held_segments"]),
        (&"not_kept".into(), &0.into()),
        "{uncacheable}"
    );
    origin.stop().await;
    let unreachable = warm("/away").await;
    assert_eq!(unreachable["outcome"], "failed");
    assert!(unreachable["detail"].as_str().is_some_and(|detail| detail.contains("origin")), "{unreachable}");
    node.stop().await;
}
