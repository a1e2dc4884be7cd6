//! Requests that are not for the cache: passed to the origin, and its answer back.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use nearcast_datasets::ServedFrom;

use super::{
    Front,
    account::Account,
    body::ResponseBody,
    client::CLIENT_HEADER,
    object::{CACHE_STATUS, failed, respond},
    respond::{cache_status, text},
};
use crate::{core::MissCause, key::Key, object::end_to_end};

/// Passes a request to the origin as it is and streams the answer back, keeping nothing.
pub(super) async fn handle(
    front: &Arc<Front>,
    request: Request<Incoming>,
    key: Key,
    mut account: Account,
) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let body_bytes_max = front.shell.config.front.request_body_bytes_max;
    if body.size_hint().lower() > body_bytes_max {
        front.shell.metrics.bad_requests.inc();
        return text(StatusCode::PAYLOAD_TOO_LARGE, format!("a request body is limited to {body_bytes_max} bytes"));
    }
    let mut headers = end_to_end(&parts.headers);
    headers.remove(header::HOST);
    headers.remove(CLIENT_HEADER);
    let body = Limited::new(body, usize::try_from(body_bytes_max).unwrap_or(usize::MAX)).boxed_unsync();
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    match front.shell.origin.pass(parts.method, &key, headers, body).await {
        Err(error) => failed(&key, &error.into(), account),
        Ok(response) => {
            let (head, body) = response.into_parts();
            if !is_safe && !head.status.is_client_error() && !head.status.is_server_error() {
                front.shell.invalidate(&key);
            }
            let (served, cause) = (ServedFrom::Origin, Some(MissCause::Uncacheable));
            account.begin(body.size_hint().exact().unwrap_or(0), None, served, cause);
            let mut headers = end_to_end(&head.headers);
            headers.insert(CACHE_STATUS, cache_status(served, cause));
            respond(head.status, headers, ResponseBody::Passed(Box::new(body), Box::new(account)))
        }
    }
}
