//! Probes, metrics and status over HTTP.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use nearcast_cache_node::exposition;
use tokio::sync::watch;

use super::{fleet::Standing, input::Input, inputs::Inputs};
use crate::metrics::Metrics;

/// What the handlers answer from.
#[derive(Clone, Debug)]
pub(super) struct HttpState {
    pub(super) inputs: Inputs,
    pub(super) metrics: Metrics,
    /// Whether nodes may be sent here: after the first look at the registry, until shutdown begins.
    pub(super) ready: watch::Receiver<bool>,
    /// How this predictor takes part in a fleet.
    pub(super) standing: Option<Standing>,
}

/// The routes; serving them is the caller's.
pub(super) fn router(state: HttpState) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(state)
}

/// Alive means that the engine takes messages, not only that a socket is open.
async fn live(State(state): State<HttpState>) -> Response {
    match state.inputs.ask(Input::Nodes).await {
        Ok(_) => "ok\n".into_response(),
        Err(gone) => (StatusCode::SERVICE_UNAVAILABLE, format!("engine: {gone}\n")).into_response(),
    }
}

async fn ready(State(state): State<HttpState>) -> Response {
    if !*state.ready.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or shutting down\n").into_response();
    }
    match state.standing.as_ref().and_then(Standing::trouble) {
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {trouble}\n")).into_response(),
        None => "ok\n".into_response(),
    }
}

async fn metrics(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    if let Ok(facts) = state.inputs.ask(Input::Facts).await {
        facts.show(&state.metrics);
    }
    if let Some(standing) = &state.standing {
        standing.show(&state.metrics);
    }
    let document = state.metrics.render();
    if exposition::wants_openmetrics(&headers) {
        return ([(header::CONTENT_TYPE, exposition::OPENMETRICS)], document).into_response();
    }
    ([(header::CONTENT_TYPE, exposition::PROMETHEUS)], exposition::prometheus(&document)).into_response()
}

async fn status(State(state): State<HttpState>) -> Response {
    match state.inputs.ask(Input::Status).await {
        Ok(document) => Json(document).into_response(),
        Err(gone) => (StatusCode::SERVICE_UNAVAILABLE, format!("{gone}\n")).into_response(),
    }
}
