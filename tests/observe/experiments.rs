//! A predictor in front of the predictor, whose status has experiments and which takes what is done to them.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::http::Http;

/// Where it is, and what it was told.
pub(crate) struct Front {
    pub(crate) url: String,
    pub(crate) told: Arc<Mutex<Vec<(String, Value)>>>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Behind {
    http: Http,
    url: String,
    told: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Front {
    pub(crate) async fn start(predictor: &str) -> Self {
        let told = Arc::default();
        let behind = Behind { http: Http::new(), url: predictor.to_owned(), told: Arc::clone(&told) };
        let routes = Router::new().route("/api/experiment", post(act)).fallback(pass_on).with_state(behind);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket"));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        Self { url, told, serving }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn act(State(behind): State<Behind>, headers: HeaderMap, body: String) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let change = serde_json::from_str(&body).expect("JSON");
    behind.told.lock().unwrap_or_else(PoisonError::into_inner).push((authorization.to_owned(), change));
    axum::Json(json!({})).into_response()
}

async fn pass_on(State(behind): State<Behind>, uri: Uri) -> Response {
    let url = format!("{}{}", behind.url, uri.path_and_query().map_or("/", |path| path.as_str()));
    let answer = behind.http.get(&url, "test").await.expect("the predictor answers");
    let body = if uri.path() == "/api/status" { with_experiments(&answer.body) } else { answer.body.to_vec() };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(answer.status.as_u16()).expect("a status");
    let kind = match Path::new(uri.path()).extension().and_then(|extension| extension.to_str()) {
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        _ if uri.path().starts_with("/api/") => "application/json",
        _ => "text/html; charset=utf-8",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let policy = HeaderValue::from_static("default-src 'self'; require-trusted-types-for 'script'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn with_experiments(document: &[u8]) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(document).expect("JSON");
    document["controls"]["experiment"] = "/api/experiment".into();
    let looks = |estimate: f64, width: f64| -> Vec<Value> {
        (1..=12_u32)
            .map(|look| {
                let half = width / f64::from(look).sqrt();
                json!([LAST_LOOK_MS - f64::from(12 - look) * 600_000.0, estimate, estimate - half, estimate + half])
            })
            .collect()
    };
    document["status"]["experiments"] = json!([
        {
            "name": NAME, "control": "nearcast v0003", "treated": "nearcast v0004", "stage": "ab", "paused": false,
            "started_at": "2026-01-02T03:04:05Z", "verdict": "INCONCLUSIVE", "flaws": [],
            "metrics": [
                {
                    "name": "hit_ratio", "unit": "points", "role": { "goal": { "least": 0.5 } }, "better": "higher",
                    "effect": { "estimate": 0.9, "low": 0.1, "high": 1.7 }, "control": 61.2, "finding": "open",
                    "looks": looks(0.9, 2.8),
                },
                {
                    "name": "p99_latency", "unit": "ms", "role": { "guardrail": { "relative": 0.05 } },
                    "better": "lower", "effect": { "estimate": -2.0, "low": -7.0, "high": 3.0 }, "control": 180.0,
                    "finding": "good", "looks": looks(-2.0, 17.0),
                },
                {
                    "name": "origin_bytes", "unit": "MiB", "role": "watched", "better": "lower",
                    "effect": { "estimate": 4.0, "low": null, "high": null }, "control": 512.0, "finding": "open",
                },
            ],
            "changes": [{
                "number": 1, "at_micros": 1_767_000_000_000_000_u64, "action": "start", "who": "ada",
                "why": "v0004 did better offline",
            }],
            "actions": ["promote", "abort"],
        },
        {
            "name": "quiet", "control": "a", "treated": "b", "stage": "canary", "paused": true, "verdict": "INVALID",
            "flaws": ["node edu-1 logged nothing under b"], "metrics": [], "changes": [], "actions": [],
        },
    ]);
    serde_json::to_vec(&document).expect("JSON")
}

/// Some time in 2026, always the same, so that nothing is drawn anew.
const LAST_LOOK_MS: f64 = 1_770_000_000_000.0;

/// A name that must stay text.
pub(crate) const NAME: &str = "wider <b>embeddings</b>";
