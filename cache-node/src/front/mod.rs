//! The HTTP front: accepts connections (HTTP/1.1 and HTTP/2), bounds them and answers their requests.

mod accept;
mod account;
mod admin;
mod body;
mod check;
mod client;
mod conditional;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod object;
mod operate;
mod pass;
mod plan;
mod range;
mod respond;
mod tail;
mod top;
mod wants;
mod warm;
mod watched;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use hyper::body::Incoming;
use nearcast_proto::AdminToken;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::body::ResponseBody;
pub(crate) use self::{
    accept::{ConnectionLimit, Transport},
    client::Pseudonyms,
};
use crate::{access_log::AccessLog, log::RequestLog, reload::Reloading, shell::Shell, tls::ServerTls, watch::Watchers};

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) shell: Arc<Shell>,
    pub(crate) log: Option<RequestLog>,
    pub(crate) pseudonyms: Pseudonyms,
    /// What whoever changes the node's state must know.
    pub(crate) admin_token: ArcSwapOption<AdminToken>,
    /// What the TLS listener shows, when there is one.
    pub(crate) tls: Option<ServerTls>,
    pub(crate) connection_limit: ConnectionLimit,
    pub(crate) reloading: Reloading,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) watchers: Arc<Watchers>,
    /// Objects that may be fetched ahead for operators at a time.
    pub(crate) warming: Semaphore,
    pub(crate) stop: CancellationToken,
}

/// What all requests of one connection share.
#[derive(Debug)]
pub(super) struct Connection {
    peer: SocketAddr,
    /// Whether it showed a certificate that the peers' CA signed.
    is_peer: bool,
    /// Hashed once, on the first request that does not name its client.
    pseudonym: OnceLock<Arc<str>>,
}

impl Front {
    async fn handle(
        self: &Arc<Self>,
        connection: &Connection,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let checked = check::check(&request);
        if checked.is_ok() && request.uri().path().starts_with(admin::PREFIX) {
            return admin::handle(self, connection.is_peer, request).await;
        }
        let arrival = self.note_arrival(connection, &mut request);
        let mut response = match checked {
            Ok(()) => object::handle(self, connection, request).await,
            Err(refusal) => {
                self.shell.metrics.bad_requests.inc();
                respond::refuse(refusal, request.version())
            }
        };
        self.note_answer(connection, arrival, &mut response);
        response
    }
}
