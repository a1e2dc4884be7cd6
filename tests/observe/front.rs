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
