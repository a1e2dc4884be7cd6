//! The HTTP front: accepts connections (HTTP/1.1 and HTTP/2), bounds them and answers their requests.

mod account;
mod admin;
mod body;
mod check;
mod client;
mod conditional;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod object;
mod pass;
mod plan;
mod range;
mod respond;
mod wants;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::body::ResponseBody;
pub(crate) use self::{admin::AdminToken, client::Pseudonyms};
use crate::{config::FrontConfig, log::RequestLog, shell::Shell};

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) shell: Arc<Shell>,
    pub(crate) log: Option<RequestLog>,
    pub(crate) pseudonyms: Pseudonyms,
    /// What whoever changes the node's state must know.
    pub(crate) admin_token: Option<AdminToken>,
    pub(crate) stop: CancellationToken,
}

/// What all requests of one connection share.
#[derive(Debug)]
pub(super) struct Connection {
    peer: SocketAddr,
    /// Hashed once, on the first request that does not name its client.
    pseudonym: OnceLock<Arc<str>>,
}

impl Front {
    /// Accepts and answers until `stop`; then requests under way finish, within the configured time.
    pub(crate) async fn serve(self: &Arc<Self>, listener: TcpListener) {
        let config = &self.shell.config.front;
        limit_unsent(&listener);
        let permits = Arc::new(Semaphore::new(config.connections_max));
        let connections = TaskTracker::new();
        let mut pause = ACCEPT_PAUSE_MIN;
        while let Some(permit) = self.next_permit(&permits).await {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    connections.spawn(Arc::clone(self).handle_connection(stream, peer, permit));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: connections that end will free some.
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(config.drain_timeout, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections did not drain in time and are cut off");
        }
    }

    /// Waits until a further connection may be accepted; `None` when the node stops.
    async fn next_permit(&self, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Some(permit);
        }
        self.shell.metrics.connections_full.inc();
        tokio::select! {
            permit = Arc::clone(permits).acquire_owned() => permit.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    async fn handle_connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let _permit = permit;
        self.shell.metrics.connections.inc();
        // Without it, small answers would wait for the client's acknowledgements.
        let _ = stream.set_nodelay(true);
        let connection = Arc::new(Connection { peer, pseudonym: OnceLock::new() });
        let service = service_fn(|request: Request<Incoming>| {
            let (front, connection) = (Arc::clone(&self), Arc::clone(&connection));
            async move { Ok::<Response<ResponseBody>, Infallible>(front.handle(&connection, request).await) }
        });
        let builder = builder(&self.shell.config.front);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
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
        self.shell.metrics.connections.dec();
    }

    async fn handle(self: &Arc<Self>, connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
        if let Err(refusal) = check::check(&request) {
            self.shell.metrics.bad_requests.inc();
            return respond::refuse(refusal, request.version());
        }
        if request.uri().path().starts_with(admin::PREFIX) {
            return admin::handle(self, request).await;
        }
        object::handle(self, connection, request).await
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
