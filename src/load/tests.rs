//! Plays against nodes, an origin and a predictor that are real over HTTP and gRPC but follow a script.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use nearcast_datasets::{LogSource, LogWriter, RequestEvent, Timestamp, WriteOptions};
use nearcast_proto::{ControlServer, wire};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Access, LoadConfig, Report, To, load};
use crate::origin::{content, target};

/// What happened to the cluster, in order.
type Events = Arc<Mutex<Vec<String>>>;

/// A node that answers every first request for a key as a miss and all others as hits.
#[derive(Clone)]
struct FakeNode {
    name: &'static str,
    size: u64,
    seen: Arc<Mutex<Vec<String>>>,
    prefetches: Arc<AtomicU64>,
    events: Events,
}

impl FakeNode {
    async fn start(name: &'static str, size: u64, events: &Events) -> String {
        let node = Self { name, size, seen: Arc::default(), prefetches: Arc::default(), events: Arc::clone(events) };
        let app = Router::new()
            .route("/_nearcast/status", get(Self::status))
            .route("/_nearcast/clear", post(Self::clear))
            .fallback(Self::object)
            .with_state(node);
        serve(app).await
    }

    async fn status(State(node): State<Self>) -> Json<Value> {
        let landed = node.prefetches.load(Ordering::Relaxed);
        let prefetch =
            json!({ "ordered": landed, "landed": landed, "landed_bytes": 10 * landed, "used": landed / 2, "late": 0 });
        Json(json!({
            "node": node.name, "region": node.name, "segments": { "prefetch": prefetch },
            "under_way": { "prefetches_queued": 0, "transfers": 0 }, "link": { "connected": true },
        }))
    }

    async fn clear(State(node): State<Self>) {
        node.seen.lock().unwrap().clear();
        node.events.lock().unwrap().push(format!("clear {}", node.name));
    }

    async fn object(State(node): State<Self>, request: Request) -> Response {
        let key = target::key(request.uri().path(), request.uri().query()).unwrap();
        if key == "/broken" {
            return (StatusCode::BAD_GATEWAY, "no origin").into_response();
        }
        node.prefetches.fetch_add(1, Ordering::Relaxed);
        let client = request.headers()["nearcast-client"].to_str().unwrap();
        node.events.lock().unwrap().push(format!("{} {client} {key}", node.name));
        let mut seen = node.seen.lock().unwrap();
        let said = if seen.contains(&key) {
            "nearcast; hit; detail=prefetched"
        } else {
            "nearcast; fwd=miss; detail=origin; cause=first"
        };
        seen.push(key.clone());
        drop(seen);
        let mut body = vec![0; usize::try_from(node.size).unwrap()];
        content(&key, 0).fill(&mut body);
        if key == "/forged" {
            body[3] ^= 1;
        }
        let part = request.headers().get("range").map(|range| range.to_str().unwrap().to_owned());
        let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if part.as_deref() == Some("bytes=2-4") {
            body = body[2..5].to_vec();
        }
        (status, [("cache-status", said)], body).into_response()
    }
}

/// A predictor that notes which arms are set.
struct FakeControl(Events);

#[tonic::async_trait]
impl wire::control_server::Control for FakeControl {
    async fn status(
        &self,
        _: tonic::Request<wire::StatusRequest>,
    ) -> Result<tonic::Response<wire::StatusReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn locate(
        &self,
        _: tonic::Request<wire::LocateRequest>,
    ) -> Result<tonic::Response<wire::LocateReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn explain(
        &self,
        _: tonic::Request<wire::ExplainRequest>,
    ) -> Result<tonic::Response<wire::ExplainReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn drain(
        &self,
        _: tonic::Request<wire::DrainRequest>,
    ) -> Result<tonic::Response<wire::DrainReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn experiment(
        &self,
        _: tonic::Request<wire::ExperimentRequest>,
    ) -> Result<tonic::Response<wire::ExperimentReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn purge(
        &self,
        _: tonic::Request<wire::PurgeRequest>,
    ) -> Result<tonic::Response<wire::PurgeReply>, tonic::Status> {
        Err(tonic::Status::unimplemented("not played"))
    }

    async fn set_arm(
        &self,
        request: tonic::Request<wire::SetArmRequest>,
    ) -> Result<tonic::Response<wire::SetArmReply>, tonic::Status> {
        let wire::SetArmRequest { arm, reset } = request.into_inner();
        if arm == "typo" {
            return Err(tonic::Status::invalid_argument("no such arm"));
        }
        self.0.lock().unwrap().push(format!("arm {arm} {reset}"));
        Ok(tonic::Response::new(wire::SetArmReply { arm }))
    }
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

fn write(path: &Path, rows: &[(i64, &str, &str, &str)]) -> LogSource {
    let mut writer =
        LogWriter::create(path, WriteOptions { optional_columns: true, ..WriteOptions::default() }).unwrap();
    for (millis, client, region, key) in rows {
        let range = (*key == "/part").then_some(nearcast_datasets::ByteRange { start: 2, end: 5 });
        let row = RequestEvent {
            timestamp: Timestamp::from_micros(millis * 1_000),
            client: (*client).into(),
            region: (*region).into(),
            key: (*key).into(),
            size_bytes: 100,
            range,
            node: None,
            outcome: None,
            latency_us: None,
            arm: None,
            model_version: None,
        };
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap();
    LogSource::from(path)
}

fn config(log: LogSource) -> LoadConfig {
    LoadConfig { log, speed: Some(10.0), skip: 0, limit: None, arms: Vec::new(), verify: true, concurrency: 8 }
}

async fn play(config: &LoadConfig, to: &To) -> anyhow::Result<(Report, Value)> {
    let report = load(config, to, &Access::default(), |_, _, _| {}).await?;
    let document = serde_json::to_value(&report)?;
    Ok((report, document))
}

#[tokio::test]
async fn requests_reach_the_node_of_their_region_and_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let log = write(
        &folder.path().join("log.parquet"),
        &[
            (0, "ann", "eu", "/a"),
            (1, "bob", "us", "/a"),
            (300, "ann", "eu", "/a"),
            (301, "ann", "eu", "/part"),
            (302, "cid", "mars", "b c"),
        ],
    );
    let events = Events::default();
    let to = To {
        places: vec![FakeNode::start("eu", 100, &events).await, FakeNode::start("us", 100, &events).await],
        ..To::default()
    };
    let (report, document) = play(&config(log), &to).await.unwrap();
    let arm = &document["arms"][0];
    assert_eq!((&document["schema"], &arm["arm"]), (&json!("nearcast.load/1"), &Value::Null));
    let total = &arm["total"];
    assert_eq!(
        (&total["requests"], &total["answered"], &total["hits"], &total["bytes"]),
        (&json!(5), &json!(5), &json!(1), &json!(403))
    );
    assert_eq!((&total["prefetched"], &total["miss_causes"]["first"]), (&json!(1), &json!(4)));
    assert!(report.is_sound() && report.text().contains("hit ratio"));
    let events = events.lock().unwrap();
    for sent in ["eu ann /a", "us bob /a", "eu ann /part"] {
        assert!(events.iter().any(|event| event == sent), "{sent} not in {events:?}");
    }
    assert!(events.iter().any(|event| event.ends_with(" cid /b c")), "a region without a node goes to any: {events:?}");
    // 302 ms of log at ten times the speed.
    assert!(arm["elapsed_seconds"].as_f64().unwrap() >= 0.030);
}

#[tokio::test]
async fn failures_are_counted_by_kind_and_wrong_bodies_fail_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [(0, "c", "eu", "/a"), (1, "c", "eu", "/broken"), (2, "c", "eu", "/forged"), (3, "c", "gone", "/a")];
    let log = write(&folder.path().join("log.parquet"), &rows);
    let node = FakeNode::start("eu", 100, &Events::default()).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let to = To { places: vec![node, format!("gone=http://{closed}")], ..To::default() };
    let (report, document) = play(&config(log.clone()), &to).await.unwrap();
    let errors = json!({ "status 502": 1, "wrong content": 1, "cannot connect": 1 });
    assert_eq!(document["arms"][0]["total"]["errors"], errors);
    assert!(!report.is_sound());
    let short = To { places: vec![FakeNode::start("eu", 99, &Events::default()).await], ..To::default() };
    let (report, document) = play(&LoadConfig { limit: Some(1), ..config(log) }, &short).await.unwrap();
    assert_eq!(document["arms"][0]["total"]["errors"], json!({ "wrong length": 1 }));
    assert!(!report.is_sound());
}

#[tokio::test]
async fn every_arm_starts_from_empty_caches_and_is_counted_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log =
        write(&folder.path().join("log.parquet"), &[(0, "c", "eu", "/a"), (1, "c", "eu", "/b"), (50, "c", "eu", "/a")]);
    let events = Events::default();
    let node = FakeNode::start("eu", 100, &events).await;
    let control = tonic::service::Routes::new(ControlServer::new(FakeControl(Arc::clone(&events))));
    let predictor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = predictor.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(predictor, control.into_axum_router()).await });
    let cluster = json!({
        "schema": "nearcast.cluster/1", "origin": null, "speed": 5.0,
        "predictor": { "grpc": format!("http://{address}"), "http": "http://127.0.0.1:1" },
        "nodes": [{ "name": "eu", "region": "eu", "url": node }],
    });
    std::fs::write(folder.path().join("cluster.json"), cluster.to_string()).unwrap();
    let to = To { places: vec![folder.path().display().to_string()], ..To::default() };
    let arms = LoadConfig { arms: vec!["none".into(), "nearcast".into()], speed: None, ..config(log) };
    let (report, document) = play(&arms, &to).await.unwrap();
    assert_eq!(document["speed"], json!(5.0));
    for (index, arm) in ["none", "nearcast"].into_iter().enumerate() {
        let document = &document["arms"][index];
        assert_eq!((&document["arm"], &document["total"]["hits"]), (&json!(arm), &json!(1)));
        let prefetch = &document["prefetch"];
        assert_eq!(
            (&prefetch["issued"], &prefetch["landed"], &prefetch["landed_bytes"]),
            (&json!(3), &json!(3), &json!(30))
        );
    }
    assert!(report.text().contains("nearcast"));
    let events: Vec<String> = events.lock().unwrap().iter().filter(|event| !event.contains('/')).cloned().collect();
    let expected = [
        "clear eu",
        "arm none false",
        "clear eu",
        "arm none true",
        "clear eu",
        "arm none false",
        "clear eu",
        "arm nearcast true",
    ];
    assert_eq!(events, expected);
    let typo = LoadConfig { arms: vec!["typo".into()], ..arms };
    let error = play(&typo, &to).await.unwrap_err();
    assert_eq!(error.to_string(), "the predictor refuses arm \"typo\"");
}

#[tokio::test]
async fn a_cluster_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = write(&folder.path().join("log.parquet"), &[(0, "c", "eu", "/a")]);
    let file = folder.path().join("cluster.json");
    let check = async |places: &[String], expected: &str| {
        let to = To { places: places.to_vec(), ..To::default() };
        let error = play(&config(log.clone()), &to).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error:#}");
    };
    let place = file.display().to_string();
    check(std::slice::from_ref(&place), "is `nearcast up` running?").await;
    std::fs::write(&file, "{}").unwrap();
    check(std::slice::from_ref(&place), "does not describe a cluster").await;
    std::fs::write(&file, r#"{"schema":"nearcast.cluster/9","nodes":[]}"#).unwrap();
    check(std::slice::from_ref(&place), "expected \"nearcast.cluster/1\"").await;
    check(&[place, "http://127.0.0.1:1".into()], "not both").await;
    check(&["http://127.0.0.1:1".into()], "does not say its region").await;
}
