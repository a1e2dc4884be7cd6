//! The node's endpoints for operators who look at it, or have it fetch ahead. All of them need the admin token, when there
//! is one: what clients ask for is nothing for everybody.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{
    Front,
    admin::{may_change, needs_token, not_allowed},
    body::ResponseBody,
    respond::text,
    tail, top, warm,
};

/// The paths.
pub(super) const PATHS: [&str; 3] = [TAIL, TOP, WARM];

/// Answers a request for one of [`PATHS`].
pub(super) async fn handle(front: &Arc<Front>, is_peer: bool, request: Request<Incoming>) -> Response<ResponseBody> {
    if !is_peer && !may_change(front, request.headers()) {
        return needs_token();
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, TAIL) => tail::handle(front, request.uri().query().unwrap_or_default()),
        (&Method::GET, TOP) => top::handle(front, request.uri().query().unwrap_or_default()).await,
        (&Method::POST, WARM) => warm::handle(front, request.into_body()).await,
        (_, WARM) => not_allowed("POST"),
        _ => not_allowed("GET"),
    }
}

/// The answer to a request that makes no sense.
pub(super) fn bad(front: &Front, problem: impl Into<String>) -> Response<ResponseBody> {
    front.shell.metrics.bad_requests.inc();
    text(StatusCode::BAD_REQUEST, problem)
}

/// The answer to one watcher too many.
pub(super) fn full(front: &Front) -> Response<ResponseBody> {
    let count = front.shell.config.front.watchers_max;
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{count} watch already, and `front.watchers_max` allows no more"))
}

const TAIL: &str = "/_nearcast/tail";
const TOP: &str = "/_nearcast/top";
const WARM: &str = "/_nearcast/warm";
