//! Serves the objects of a log over HTTP.

use std::{
    future::Future,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    Objects,
    conditions::{Validators, Wanted, wanted},
    content, target,
};

/// What an origin has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Served {
    /// Requests for objects, whatever the answer.
    pub(crate) requests: u64,
    /// Body bytes handed to the network.
    pub(crate) bytes: u64,
    /// Requests for keys that the log does not know.
    pub(crate) not_found: u64,
    /// Requests that had to wait because `requests_max` were being answered.
    pub(crate) waited: u64,
}

/// The document at `/_nearcast/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Names this document's form: `nearcast.origin-status/1`.
    pub(crate) schema: String,
    /// Number of objects.
    pub(crate) objects: u64,
    /// What was done so far.
    #[serde(flatten)]
    pub(crate) served: Served,
}

#[derive(Debug)]
struct Shared {
    objects: Objects,
    modified: SystemTime,
    slots: Arc<Semaphore>,
    requests: AtomicU64,
    bytes: AtomicU64,
    not_found: AtomicU64,
    waited: AtomicU64,
}

/// Serves until `stop` ends, then lets answers under way finish.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    objects: Objects,
    requests_max: usize,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, app(objects, requests_max)).with_graceful_shutdown(stop).await
}

/// The application, apart from its port.
pub(super) fn app(objects: Objects, requests_max: usize) -> Router {
    let since = u64::try_from(objects.since.micros()).unwrap_or(0);
    let shared = Shared {
        // HTTP dates have whole seconds.
        modified: SystemTime::UNIX_EPOCH + Duration::from_secs(since / 1_000_000),
        objects,
        slots: Arc::new(Semaphore::new(requests_max)),
        requests: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        not_found: AtomicU64::new(0),
        waited: AtomicU64::new(0),
    };
    Router::new()
        .route("/_nearcast/livez", get(async || "ok\n"))
        .route("/_nearcast/readyz", get(async || "ok\n"))
        .route("/_nearcast/status", get(status))
        .route("/_nearcast/metrics", get(metrics))
        .fallback(object)
        .with_state(Arc::new(shared))
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    let (schema, objects) = ("nearcast.origin-status/1".to_owned(), shared.objects.len() as u64);
    Json(Status { schema, objects, served: shared.served() })
}

async fn metrics(State(shared): State<Arc<Shared>>) -> String {
    let served = shared.served();
    let line = |name: &str, help: &str, value: u64| {
        format!(
            "# HELP nearcast_origin_{name} {help}\n# TYPE nearcast_origin_{name} counter\nnearcast_origin_{name} {value}\n"
        )
    };
    [
        line("requests_total", "Requests for objects.", served.requests),
        line("sent_bytes_total", "Body bytes handed to the network.", served.bytes),
        line("not_found_total", "Requests for unknown keys.", served.not_found),
        line("waited_total", "Requests that waited for a slot.", served.waited),
    ]
    .concat()
}

async fn object(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "only GET and HEAD\n").into_response();
    }
    let key = target::key(request.uri().path(), request.uri().query());
    let Some((key, size)) = key.and_then(|key| shared.objects.size(&key).map(|size| (key, size))) else {
        shared.not_found.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::NOT_FOUND, "the log knows no such key\n").into_response();
    };
    let validators = Validators { etag: etag(&key, size), modified: shared.modified };
    let (status, range) = match wanted(request.headers(), &validators, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing(status) => (status, 0..0),
    };
    let has_body = status.is_success() && request.method() == Method::GET;
    let body = if has_body { shared.body(&key, range.clone()).await } else { Body::empty() };
    respond(status, &validators, size, &range, body)
}

fn respond(status: StatusCode, validators: &Validators, size: u64, range: &Range<u64>, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value: String| {
        // All values are made of digits, letters and plain punctuation.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, validators.etag.clone());
    set(header::LAST_MODIFIED, httpdate::fmt_http_date(validators.modified));
    set(header::CACHE_CONTROL, "max-age=86400".into());
    set(header::ACCEPT_RANGES, "bytes".into());
    if status.is_success() {
        set(header::CONTENT_LENGTH, (range.end - range.start).to_string());
        set(header::CONTENT_TYPE, "application/octet-stream".into());
    }
    match status {
        StatusCode::PARTIAL_CONTENT => {
            set(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1));
        }
        StatusCode::RANGE_NOT_SATISFIABLE => set(header::CONTENT_RANGE, format!("bytes */{size}")),
        _ => {}
    }
    response
}

impl Shared {
    fn served(&self) -> Served {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Served {
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            not_found: read(&self.not_found),
            waited: read(&self.waited),
        }
    }

    /// The bytes of a range, made piece by piece as the network takes them; holds a slot until its end.
    async fn body(self: &Arc<Self>, key: &str, range: Range<u64>) -> Body {
        if self.slots.available_permits() == 0 {
            self.waited.fetch_add(1, Ordering::Relaxed);
        }
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return Body::empty() };
        let (shared, content) = (Arc::clone(self), content(key, range.start));
        let pieces = futures::stream::unfold((content, range.end - range.start, slot), move |state| {
            let (mut content, left, slot) = state;
            let shared = Arc::clone(&shared);
            async move {
                let bytes = usize::try_from(left.min(PIECE_BYTES)).ok().filter(|bytes| *bytes > 0)?;
                let mut piece = vec![0; bytes];
                content.fill(&mut piece);
                shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                let piece = Ok::<Bytes, std::convert::Infallible>(piece.into());
                Some((piece, (content, left - bytes as u64, slot)))
            }
        });
        Body::from_stream(pieces)
    }
}

/// An entity tag that changes with the content and the size.
fn etag(key: &str, size: u64) -> String {
    let hash = blake3::Hasher::new().update(key.as_bytes()).update(&size.to_le_bytes()).finalize();
    format!("\"{}\"", &hash.to_hex()[..16])
}

/// Bytes of a body that are made at once.
const PIECE_BYTES: u64 = 64 << 10;
