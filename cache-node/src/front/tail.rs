//! `GET /_nearcast/tail`: requests as they end, one JSON object a line, until the client has seen enough.
//!
//! The first line says who tells: `{"schema":"nearcast.tail/1","node":…,"region":…}`. Then come
//! [`RequestLine`](crate::line::RequestLine)s and, where the client is too slow, and every few seconds when there is nothing
//! to tell, `{"lost":N}` with the number of requests that it missed. The query is that of a [`Filter`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::json;
use tokio::sync::mpsc;

use super::{Front, body::ResponseBody, operate};
use crate::watch::{ClientName, Filter, Seen, Watch};

/// Answers with the requests that the query admits.
pub(super) fn handle(front: &Arc<Front>, query: &str) -> Response<ResponseBody> {
    let filter = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(error) => return operate::bad(front, error.to_string()),
    };
    let Some(watch) = front.watchers.join(filter, true, &front.shell.metrics) else { return operate::full(front) };
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    front.shell.tasks.spawn(follow(Arc::clone(front), watch, sender));
    let mut response = Response::new(ResponseBody::Stream(receiver));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Tells of requests until nobody listens or the node stops.
async fn follow(front: Arc<Front>, mut watch: Watch, sender: mpsc::Sender<Bytes>) {
    let config = &front.shell.config;
    let hello = json!({ "schema": "nearcast.tail/1", "node": &*config.name.0, "region": &*config.region });
    let mut batch = format!("{hello}\n").into_bytes();
    loop {
        tokio::select! {
            sent = sender.send(Bytes::from(std::mem::take(&mut batch))) => if sent.is_err() { return },
            () = front.stop.cancelled() => return,
        }
        let first = tokio::select! {
            first = watch.requests.recv() => first,
            () = tokio::time::sleep(SILENCE_MAX) => None,
            () = sender.closed() => return,
            () = front.stop.cancelled() => return,
        };
        let mut next = first;
        while let Some(seen) = next.take() {
            add(&front, &seen, &mut batch);
            if batch.len() < BATCH_BYTES {
                next = watch.requests.try_recv().ok();
            }
        }
        let lost = watch.take_lost();
        if lost > 0 || batch.is_empty() {
            batch.extend_from_slice(format!("{{\"lost\":{lost}}}\n").as_bytes());
        }
    }
}

/// Addresses are nothing that leaves the node: clients go by the name that the request log has too.
fn add(front: &Front, seen: &Seen, batch: &mut Vec<u8>) {
    let config = &front.shell.config;
    if let Some(line) = seen.line(&config.name.0, &config.region, ClientName::Pseudonym) {
        line.write_json(batch);
    }
}

/// Batches that wait for the client to read.
const BATCHES_MAX: usize = 2;
/// Bytes of lines that are sent together.
const BATCH_BYTES: usize = 32 << 10;
/// After that without a request, a line says that there was none.
const SILENCE_MAX: Duration = Duration::from_secs(5);
