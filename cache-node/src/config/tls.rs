//! `[tls]` and `[peers.tls]`: certificates, who signs them, and where they are shown.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    raw::{RawPeersTls, RawTls},
    sections::span,
    socket_address, value,
};
use crate::error::Result;

/// `[tls]`: how the node is reached over TLS, by HTTP/2 or HTTP/1.1 as the client prefers. All files are PEM.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The node's certificate, followed by those between it and a certificate that clients know.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Where to listen for TLS beside the plain HTTP of the node's own `listen`. Without it, `listen` itself speaks TLS and
    /// nothing is answered in plain.
    pub listen: Option<SocketAddr>,
    /// Time for a handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// How often the files are looked at for changes; a new pair is taken up once it stays the same that long.
    /// Default 5 s.
    pub poll_interval: Duration,
}

impl TryFrom<RawTls> for TlsConfig {
    type Error = crate::Error;

    fn try_from(raw: RawTls) -> Result<Self> {
        let poll_interval = span(raw.poll_interval, Duration::from_secs(5));
        if poll_interval < POLL_INTERVAL_MIN {
            return Err(value(
                "tls.poll_interval",
                "it is below 10ms, which would read the files all the time".to_owned(),
            ));
        }
        Ok(Self {
            certificate: raw.certificate,
            key: raw.key,
            listen: raw.listen.map(|text| socket_address("tls.listen", &text)).transpose()?,
            handshake_timeout: span(raw.handshake_timeout, Duration::from_secs(10)),
            poll_interval,
        })
    }
}

impl RawTls {
    pub(super) fn start_at(&mut self, base: &Path) {
        self.certificate = base.join(&self.certificate);
        self.key = base.join(&self.key);
    }
}

/// `[peers.tls]`: mutual TLS between nodes. With it, peers are asked only over https, and segments are handed out only to
/// whoever shows a certificate that `ca` signed; such a certificate also opens what else needs the admin token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeersTlsConfig {
    /// Who signs the certificates by which nodes know each other.
    pub ca: PathBuf,
    /// The certificate, with its chain, that this node shows to peers that it asks.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Who signs what peers show on their listeners (`[tls]`), where that is not `ca`.
    pub server_ca: Option<PathBuf>,
}

impl From<&RawPeersTls> for PeersTlsConfig {
    fn from(raw: &RawPeersTls) -> Self {
        Self {
            ca: raw.ca.clone(),
            certificate: raw.certificate.clone(),
            key: raw.key.clone(),
            server_ca: raw.server_ca.clone(),
        }
    }
}

impl RawPeersTls {
    pub(super) fn start_at(&mut self, base: &Path) {
        for path in [&mut self.ca, &mut self.certificate, &mut self.key].into_iter().chain(&mut self.server_ca) {
            *path = base.join(&*path);
        }
    }
}

const POLL_INTERVAL_MIN: Duration = Duration::from_millis(10);
