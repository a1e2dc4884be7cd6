//! Probes, metrics and status over HTTP.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use super::{input::Input, inputs::Inputs};
use crate::metrics::Metrics;

/// What the handlers answer from.
#[derive(Clone, Debug)]
pub(super) struct HttpState {
    pub(super) inputs: Inputs,
    pub(super) metrics: Metrics,
    /// Whether nodes may be sent here: after the first look at the registry, until shutdown begins.
    pub(super) ready: watch::Receiver<bool>,
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
    match state.inputs.ask(Input::Status).await {
        Ok(_) => "ok\n".into_response(),
        Err(gone) => (StatusCode::SERVICE_UNAVAILABLE, format!("engine: {gone}\n")).into_response(),
    }
}

async fn ready(State(state): State<HttpState>) -> Response {
    if *state.ready.borrow() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or shutting down\n").into_response()
}

async fn metrics(State(state): State<HttpState>) -> Response {
    if let Ok(document) = state.inputs.ask(Input::Status).await {
        state.metrics.show_arms(&document.arms, &document.experiments);
        if let Some(placement) = &document.placement {
            state.metrics.show_placement(placement);
        }
        if let Ok(account) = serde_json::to_value(&document.account) {
            state.metrics.show_account(&account);
        }
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], state.metrics.render()).into_response()
}

async fn status(State(state): State<HttpState>) -> Response {
    match state.inputs.ask(Input::Status).await {
        Ok(document) => Json(document).into_response(),
        Err(gone) => (StatusCode::SERVICE_UNAVAILABLE, format!("{gone}\n")).into_response(),
    }
}
