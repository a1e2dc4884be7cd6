//! What the node's listener shows and whom it recognises.

use std::sync::Arc;

use arc_swap::ArcSwap;
use nearcast_datasets::Timestamp;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::Ticketer,
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
        sign::SingleCertAndKey,
    },
};

use super::{
    identity::Identity,
    pem::{refused, roots},
    provider,
};
use crate::{
    config::{PeersTlsConfig, TlsConfig},
    error::Result,
};

/// The listener's side of TLS, which can be replaced while connections are open: they keep what they began with.
#[derive(Debug)]
pub(crate) struct ServerTls {
    loaded: ArcSwap<Loaded>,
}

/// What the files said at one moment.
#[derive(Debug)]
pub(crate) struct Loaded {
    config: Arc<ServerConfig>,
    /// When the certificate ends.
    pub(crate) not_after: Option<Timestamp>,
}

impl Loaded {
    /// Reads the listener's certificate and key, and who signs the certificates of peers.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn read(tls: &TlsConfig, peers: Option<&PeersTlsConfig>) -> Result<Self> {
        let identity = Identity::load(&tls.certificate, &tls.key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(&tls.certificate, error.to_string()))?
            .with_client_cert_verifier(client_verifier(peers)?);
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified)));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        // Clients keep what resumes their sessions; the node need not remember them.
        if let Ok(ticketer) = Ticketer::new() {
            config.ticketer = ticketer;
        }
        Ok(Self { config: Arc::new(config), not_after: identity.not_after })
    }
}

impl ServerTls {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self { loaded: ArcSwap::from_pointee(loaded) }
    }

    /// Uses what was read for handshakes from now on.
    pub(crate) fn replace(&self, loaded: Loaded) {
        self.loaded.store(Arc::new(loaded));
    }

    /// When the certificate in use ends.
    pub(crate) fn not_after(&self) -> Option<Timestamp> {
        self.loaded.load().not_after
    }

    /// What does the next handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.loaded.load().config))
    }
}

/// Clients need no certificate; one that is shown must be a peer's.
fn client_verifier(peers: Option<&PeersTlsConfig>) -> Result<Arc<dyn ClientCertVerifier>> {
    let Some(peers) = peers else { return Ok(Arc::new(NoClientAuth)) };
    let roots = Arc::new(roots(&peers.ca)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|error| refused(&peers.ca, error.to_string()))
}

/// What the listener speaks, the preferred first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
