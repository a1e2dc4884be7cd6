//! Connections: accepted, bounded, made secure, served, drained.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::{Connection, Front, body::ResponseBody};
use crate::{config::FrontConfig, tls::HandshakeFailure};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP as it is.
    Plain,
    /// HTTP over TLS.
    Tls,
}

/// How many connections may be open, on all listeners together.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    max: Mutex<u32>,
}

impl ConnectionLimit {
    pub(crate) fn new(max: usize) -> Self {
        let max = bounded(max);
        Self { permits: Arc::new(Semaphore::new(max as usize)), max: Mutex::new(max) }
    }
}

fn bounded(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX).min(CONNECTIONS_MAX)
}

impl Front {
    /// Accepts and answers until `stop`; then requests under way finish, within the configured time.
    pub(crate) async fn serve(self: &Arc<Self>, listeners: Vec<(TcpListener, Transport)>) {
        let connections = TaskTracker::new();
        join_all(listeners.into_iter().map(|(listener, transport)| self.accept(listener, transport, &connections)))
            .await;
        connections.close();
        let drain_timeout = self.shell.live().front.drain_timeout;
        if tokio::time::timeout(drain_timeout, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections did not drain in time and are cut off");
        }
    }

    /// Lets another number of connections be open from now on. Those above it stay until they end.
    pub(crate) fn set_connections_max(&self, max: usize) {
        let wanted = bounded(max);
        let mut max = self.connection_limit.max.lock().unwrap_or_else(PoisonError::into_inner);
        let permits = Arc::clone(&self.connection_limit.permits);
        if wanted >= *max {
            permits.add_permits((wanted - *max) as usize);
        } else {
            let (surplus, stop) = (*max - wanted, self.stop.clone());
            // Permits go to whoever asked first: no connection is accepted before enough of the others have ended.
            self.shell.tasks.spawn(async move {
                tokio::select! {
                    permits = permits.acquire_many_owned(surplus) => permits.into_iter().for_each(OwnedSemaphorePermit::forget),
                    () = stop.cancelled() => {}
                }
            });
        }
        *max = wanted;
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener, transport: Transport, connections: &TaskTracker) {
        limit_unsent(&listener);
        let mut pause = ACCEPT_PAUSE_MIN;
        while let Some(permit) = self.next_permit().await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    connections.spawn(Arc::clone(self).handle_connection(stream, peer, transport, permit));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: connections that end will free some.
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    /// Waits until a further connection may be accepted; `None` when the node stops.
    async fn next_permit(&self) -> Option<OwnedSemaphorePermit> {
        let permits = &self.connection_limit.permits;
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Some(permit);
        }
        self.shell.metrics.connections_full.inc();
        tokio::select! {
            permit = Arc::clone(permits).acquire_owned() => permit.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    async fn handle_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        permit: OwnedSemaphorePermit,
    ) {
        let _permit = permit;
        self.shell.metrics.connections.inc();
        // Without it, small answers would wait for the client's acknowledgements.
        let _ = stream.set_nodelay(true);
        match transport {
            Transport::Plain => self.serve_stream(TokioIo::new(stream), peer, false).await,
            Transport::Tls => {
                let secured = tokio::select! {
                    secured = self.secure(stream) => secured,
                    () = self.stop.cancelled() => Err(HandshakeFailure::Closed),
                };
                match secured {
                    Ok(stream) => {
                        self.shell.metrics.tls.handshakes.inc();
                        let is_peer = stream.get_ref().1.peer_certificates().is_some();
                        self.serve_stream(TokioIo::new(stream), peer, is_peer).await;
                    }
                    Err(failure) => {
                        tracing::debug!(%peer, ?failure, "a TLS handshake came to nothing");
                        self.shell.metrics.tls.count_failure(failure);
                    }
                }
            }
        }
        self.shell.metrics.connections.dec();
    }

    /// Does the handshake, within its time.
    async fn secure(&self, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeFailure> {
        let limit = self.shell.live().tls.as_ref().map_or(HANDSHAKE_TIMEOUT, |tls| tls.handshake_timeout);
        let handshake = async {
            let tls = self.tls.as_ref().ok_or(HandshakeFailure::Failed)?;
            let mut first = [0; 1];
            match stream.peek(&mut first).await {
                Ok(1..) if first[0] == TLS_HANDSHAKE => {}
                Ok(1..) => {
                    explain_tls(&mut stream).await;
                    return Err(HandshakeFailure::Plain);
                }
                Ok(0) | Err(_) => return Err(HandshakeFailure::Closed),
            }
            tls.acceptor().accept(stream).await.map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => HandshakeFailure::Failed,
                _ => HandshakeFailure::Closed,
            })
        };
        tokio::time::timeout(limit, handshake).await.unwrap_or(Err(HandshakeFailure::Timeout))
    }

    /// Answers the requests of one connection. `is_peer` says whether it began with a peer's certificate.
    async fn serve_stream(
        self: &Arc<Self>,
        stream: impl Read + Write + Unpin + Send + 'static,
        peer: SocketAddr,
        is_peer: bool,
    ) {
        let connection = Arc::new(Connection { peer, is_peer, pseudonym: OnceLock::new() });
        let service = service_fn(|request: Request<Incoming>| {
            let (front, connection) = (Arc::clone(self), Arc::clone(&connection));
            async move { Ok::<Response<ResponseBody>, Infallible>(front.handle(&connection, request).await) }
        });
        let builder = builder(&self.shell.live().front);
        let serving = builder.serve_connection(stream, service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }
}

/// Tells a client that speaks plain HTTP why it gets nothing; whatever else it spoke, it would not understand.
async fn explain_tls(stream: &mut TcpStream) {
    let mut head = [0; 1024];
    // What has not been read when a connection is closed could keep the client from reading the answer.
    let is_http = matches!(stream.read(&mut head).await, Ok(1..)) && head[0].is_ascii_uppercase();
    if is_http {
        // A client that does not wait for it has no use for it.
        let _ = stream.write_all(PLAIN_REFUSAL).await;
        let _ = stream.shutdown().await;
    }
}

/// Bounds what the system takes of an answer before it has sent it: a long answer is copied piece by piece while the pieces
/// before it go out, which is easier on the processor's caches, and memory. How much may be under way is not bounded by it.
fn limit_unsent(listener: &TcpListener) {
    // Accepted connections inherit it. Only Linux has it, and without it everything works too.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT cannot be set");
    }
}

fn builder(config: &FrontConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(config.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX);
    builder
}

/// Bytes of answers that the system may hold unsent, per connection.
const UNSENT_BYTES_MAX: u32 = 128 << 10;
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// More than a process can have, and well within what a semaphore counts.
const CONNECTIONS_MAX: u32 = 1 << 24;
/// The type of the first record of every handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Should the section be missing; its own default is the same.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const PLAIN_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\ncontent-length: 38\r\n\r\nthis port speaks TLS: ask by https://\n";
