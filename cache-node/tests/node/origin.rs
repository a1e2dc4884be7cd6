//! A small origin whose behaviour tests choose, and which counts what it is asked.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Frame, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// How the origin answers.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) cache_control: &'static str,
    pub(crate) honours_ranges: bool,
    pub(crate) sends_length: bool,
    /// Bytes of every object.
    pub(crate) size: usize,
    /// What every object is, instead of bytes of its own.
    pub(crate) file: Option<Bytes>,
    /// Part of the content and of the entity tag.
    pub(crate) version: u8,
    pub(crate) status: StatusCode,
    /// Bytes that the body of another status than 200 has besides its words.
    pub(crate) error_padding: usize,
    /// Sends only half of what it announced.
    pub(crate) breaks_off: bool,
    /// Sends an entity tag.
    pub(crate) has_tag: bool,
    /// Further headers of every answer.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The request header that the content depends on.
    pub(crate) varies_by: Option<&'static str>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            cache_control: "max-age=600",
            honours_ranges: true,
            sends_length: true,
            size: 10_000,
            file: None,
            version: 1,
            status: StatusCode::OK,
            error_padding: 0,
            breaks_off: false,
            has_tag: true,
            headers: &[],
            varies_by: None,
        }
    }
}

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) range: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) headers: HeaderMap,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    /// While no permit is left, answers wait.
    gate: Semaphore,
    is_gated: AtomicBool,
}

/// A running origin; gone when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            is_gated: AtomicBool::new(false),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().expect("no panic"));
    }

    /// Holds answers back until [`Self::open_gate`].
    pub(crate) fn close_gate(&self) {
        self.shared.is_gated.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open_gate(&self) {
        self.shared.is_gated.store(false, Ordering::SeqCst);
        self.shared.gate.add_permits(10_000);
    }

    /// The content of an object.
    pub(crate) fn content(&self, target: &str) -> Bytes {
        let behaviour = self.shared.behaviour.lock().expect("no panic").clone();
        content(target, &behaviour)
    }

    /// Ends it at once; its port refuses connections from then on.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn content(target: &str, behaviour: &Behaviour) -> Bytes {
    if let Some(file) = &behaviour.file {
        return file.clone();
    }
    let mut bytes = vec![0; behaviour.size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(target.as_bytes()).update(&[behaviour.version]);
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let seen = Seen {
        method: request.method().to_string(),
        target: target.clone(),
        range: text(header::RANGE),
        if_none_match: text(header::IF_NONE_MATCH),
        headers: request.headers().clone(),
    };
    shared.seen.lock().expect("no panic").push(seen.clone());
    if shared.is_gated.load(Ordering::SeqCst) {
        let permit = tokio::time::timeout(Duration::from_secs(20), shared.gate.acquire()).await;
        permit.expect("the test opens the gate").expect("it is never closed").forget();
    }
    let behaviour = shared.behaviour.lock().expect("no panic").clone();
    let asked = behaviour.varies_by.and_then(|name| request.headers().get(name)?.to_str().ok()).unwrap_or_default();
    let tag = format!("\"v{}{asked}\"", behaviour.version);
    let whole = content(&format!("{target}{asked}"), &behaviour);
    let mut response = Response::builder()
        .header(header::CACHE_CONTROL, behaviour.cache_control)
        .header(header::CONTENT_TYPE, "application/x-test");
    if behaviour.has_tag {
        response = response.header(header::ETAG, &tag);
    }
    for (name, value) in behaviour.headers {
        response = response.header(*name, *value);
    }
    if behaviour.honours_ranges {
        response = response.header(header::ACCEPT_RANGES, "bytes");
    }
    if behaviour.status != StatusCode::OK {
        return response
            .status(behaviour.status)
            .body(full(["no such thing", &" ".repeat(behaviour.error_padding)].concat().into()))
            .expect("valid");
    }
    if seen.if_none_match.is_some_and(|known| known == tag) {
        return response.status(StatusCode::NOT_MODIFIED).body(full(Bytes::new())).expect("valid");
    }
    if text(header::IF_MATCH).is_some_and(|wanted| wanted != tag) {
        return response.status(StatusCode::PRECONDITION_FAILED).body(full(Bytes::new())).expect("valid");
    }
    let mut body = whole.clone();
    if let Some(range) = seen.range.filter(|_| behaviour.honours_ranges) {
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
        let (first, last): (usize, usize) = (first.parse().expect("digits"), last.parse().expect("digits"));
        if first >= whole.len() {
            let range = format!("bytes */{}", whole.len());
            let response = response.status(StatusCode::RANGE_NOT_SATISFIABLE).header(header::CONTENT_RANGE, range);
            return response.body(full(Bytes::new())).expect("valid");
        }
        body = whole.slice(first..(last + 1).min(whole.len()));
        let range = format!("bytes {first}-{}/{}", first + body.len() - 1, whole.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    if behaviour.sends_length {
        response = response.header(header::CONTENT_LENGTH, body.len());
    }
    let mut pieces: Vec<std::io::Result<Frame<Bytes>>> = vec![Ok(Frame::data(body.clone()))];
    if behaviour.breaks_off {
        pieces = vec![Ok(Frame::data(body.slice(..body.len() / 2))), Err(std::io::Error::other("broken off"))];
    }
    response.body(StreamBody::new(futures::stream::iter(pieces)).boxed_unsync()).expect("valid")
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
