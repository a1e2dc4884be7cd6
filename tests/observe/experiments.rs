//! A predictor in front of the predictor, whose status is another and which takes what is done to experiments.

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
    change: fn(&mut Value),
}

impl Front {
    /// What `/api/status` says goes through `change`.
    pub(crate) async fn start(predictor: &str, change: fn(&mut Value)) -> Self {
        let told = Arc::default();
        let behind = Behind { http: Http::new(), url: predictor.to_owned(), told: Arc::clone(&told), change };
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
    let mut body = answer.body.to_vec();
    if uri.path() == "/api/status" {
        let mut document = serde_json::from_slice(&body).expect("JSON");
        (behind.change)(&mut document);
        body = serde_json::to_vec(&document).expect("JSON");
    }
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

pub(crate) fn with_experiments(document: &mut Value) {
    document["controls"]["experiment"] = "/api/experiment".into();
    let look = |block: u32| {
        let half = 0.028 / f64::from(block + 1).sqrt();
        json!({ "block": block, "effect": { "estimate": 0.009, "low": 0.009 - half, "high": 0.009 + half } })
    };
    let design = json!({ "start": "2026-01-02T03:04:05Z", "block_seconds": 600.0, "goal": "hit_ratio" });
    document["experiments"] = json!([
        {
            "name": NAME, "control_version": "v0003", "arm": "v0004", "stage": "ab", "is_paused": false,
            "design": design, "verdict": "INCONCLUSIVE", "flaws": [],
            "looks": (0..12).map(look).collect::<Vec<_>>(),
            "metrics": [
                {
                    "name": "hit_ratio", "role": { "goal": { "least": 0.005 } }, "better": "higher",
                    "effect": { "estimate": 0.009, "low": 0.001, "high": 0.017 }, "control": 0.612, "finding": "open",
                },
                {
                    "name": "p99_ms", "role": { "guardrail": { "relative": 0.05 } },
                    "better": "lower", "effect": { "estimate": -2.0, "low": -7.0, "high": 3.0 }, "control": 180.0,
                    "finding": "good",
                },
                {
                    "name": "origin_ratio", "role": { "guardrail": { "absolute": 0.02 } }, "better": "lower",
                    "effect": { "estimate": 0.04, "low": null, "high": null }, "control": 0.512, "finding": "open",
                },
            ],
            "changes": [{
                "number": 1, "at_micros": 1_767_000_000_000_000_u64, "action": "start", "who": "ada",
                "why": "v0004 did better offline",
            }],
            "actions": ["promote", "abort"],
        },
        {
            "name": "quiet", "control_version": "", "arm": "none", "stage": "canary", "is_paused": true,
            "design": design, "verdict": "INVALID", "flaws": ["node edu-1 logged nothing under b"],
            "looks": [], "metrics": [], "changes": [], "actions": [],
        },
    ]);
}

/// A name that must stay text.
pub(crate) const NAME: &str = "wider <b>embeddings</b>";
