//! TLS, through rustls: what certificates and keys in files say, and what is served and trusted because of them.
//!
//! | file | concern |
//! | --- | --- |
//! | `pem` | reading certificates and keys, with errors that name the file and what to try |
//! | `identity` | a certificate with its key, and until when it is valid |
//! | `metrics` | what is counted |
//! | `server` | the node's listener |
//! | `client` | whom to trust when asking origin, peers and predictor |
//! | `grpc` | the same in tonic's form |
//! | `service` | how a predictor shows itself, and whom it lets in |

mod client;
mod grpc;
mod identity;
mod metrics;
mod pem;
mod server;
mod service;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use self::{client::ClientTls, service::ServiceTls};
pub(crate) use self::{
    metrics::{HandshakeFailure, TlsMetrics},
    server::{Loaded, ServerTls},
};

/// The one provider of cryptography; said each time, so that no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
