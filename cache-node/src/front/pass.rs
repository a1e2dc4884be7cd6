//! Requests that are not for the cache: passed to the origin, and its answer back.

use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use nearcast_datasets::ServedFrom;
use url::Url;

use super::{
    Front,
    account::Account,
    body::ResponseBody,
    object::{CACHE_STATUS, failed, respond},
    respond::{cache_status, text},
};
use crate::{
    core::MissCause,
    key::Key,
    object::{CLIENT_HEADER, end_to_end},
    origin::OriginBody,
};

/// Passes a request to the origin as it is and streams the answer back, keeping nothing.
pub(super) async fn handle(
    front: &Arc<Front>,
    method: Method,
    asked: &HeaderMap,
    body: Incoming,
    key: Key,
    account: Account,
) -> Response<ResponseBody> {
    let body_bytes_max = front.shell.live().front.request_body_bytes_max;
    if body.size_hint().lower() > body_bytes_max {
        front.shell.metrics.bad_requests.inc();
        let words = format!("a request body is limited to {body_bytes_max} bytes");
        let mut refusal = text(StatusCode::PAYLOAD_TOO_LARGE, words);
        refusal.body_mut().carry(account);
        return refusal;
    }
    let mut headers = end_to_end(asked);
    headers.remove(header::HOST);
    headers.remove(CLIENT_HEADER);
    if method == Method::HEAD {
        // Ranges are defined for GET alone (RFC 9110, section 14.2).
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
    let body = Limited::new(body, usize::try_from(body_bytes_max).unwrap_or(usize::MAX)).boxed_unsync();
    let is_safe = matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    match front.shell.origin.pass(method, &key, headers, body).await {
        Err(error) => failed(&key, &error.into(), account),
        Ok(response) => {
            let status = response.status();
            if !is_safe && !status.is_client_error() && !status.is_server_error() {
                front.shell.invalidate(&key);
                invalidate_named(front, &key, response.headers());
            }
            hand_on(response, account)
        }
    }
}

/// Answers with a response of the origin that is for this request only.
pub(super) fn hand_on(response: Response<OriginBody>, mut account: Account) -> Response<ResponseBody> {
    let (head, body) = response.into_parts();
    let (served, cause) = (ServedFrom::Origin, Some(MissCause::Uncacheable));
    account.begin(body.size_hint().exact().unwrap_or(0), None, served, cause);
    let mut headers = end_to_end(&head.headers);
    headers.insert(CACHE_STATUS, cache_status(served, cause));
    respond(head.status, headers, ResponseBody::Passed(Box::new(body), Box::new(account)))
}

/// Drops what is held of the keys that the answer to an unsafe request names (RFC 9111, section 4.4). Addresses with a
/// host are left alone: whether it is this one, the node does not know.
fn invalidate_named(front: &Arc<Front>, key: &Key, headers: &HeaderMap) {
    let base = Url::parse("http://origin.invalid").and_then(|base| base.join(&key.to_target()));
    let Ok(base) = base else { return };
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let Some(named) = headers.get(name).and_then(|value| value.to_str().ok()) else { continue };
        let Ok(url) = base.join(named) else { continue };
        if url.host_str() == Some("origin.invalid")
            && let Ok(key) = Key::from_target(url.path(), url.query())
        {
            front.shell.invalidate(&key);
        }
    }
}
