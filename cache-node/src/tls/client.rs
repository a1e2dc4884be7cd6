//! Whom to trust when asking others, and what to show them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_rustls::ConfigBuilderExt;
use tokio_rustls::rustls::{ClientConfig, sign::SingleCertAndKey};
use tonic::transport::ClientTlsConfig;

use super::{
    grpc,
    identity::Identity,
    pem::{refused, roots},
    provider,
};
use crate::{
    config::{LinkConfig, PeersTlsConfig},
    error::Result,
};

/// The files that say whom to trust, and who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificates (PEM) that a server's chain must end in, instead of the public ones.
    pub ca: Option<PathBuf>,
    /// The certificate (PEM) to show to whoever asks for one, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    /// For HTTP clients.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn for_http(&self) -> Result<ClientConfig> {
        let identity = self.identity.as_ref().map(|(certificate, key)| Identity::load(certificate, key)).transpose()?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(self.ca.as_deref().unwrap_or_else(|| Path::new("")), error.to_string()))?;
        let builder = match &self.ca {
            Some(ca) => builder.with_root_certificates(roots(ca)?),
            None => builder.with_webpki_roots(),
        };
        Ok(match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified))),
            None => builder.with_no_client_auth(),
        })
    }

    /// For gRPC clients.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn for_grpc(&self) -> Result<ClientTlsConfig> {
        let client = ClientTlsConfig::new();
        let client = match &self.ca {
            Some(ca) => client.ca_certificate(grpc::ca(ca)?),
            None => client.with_webpki_roots(),
        };
        Ok(match &self.identity {
            Some((certificate, key)) => client.identity(grpc::identity(certificate, key)?),
            None => client,
        })
    }

    /// How peers are asked: they must show a certificate of theirs, and this node shows its own.
    pub(crate) fn of_peers(config: &PeersTlsConfig) -> Self {
        Self {
            ca: Some(config.server_ca.as_ref().unwrap_or(&config.ca).clone()),
            identity: Some((config.certificate.clone(), config.key.clone())),
        }
    }

    /// How a predictor is asked: as peers are, where there are certificates for that.
    pub(crate) fn of_link(config: &LinkConfig, peers: Option<&PeersTlsConfig>) -> Self {
        let peers = peers.map(Self::of_peers).unwrap_or_default();
        Self { ca: config.ca.clone().or(peers.ca), identity: peers.identity }
    }

    /// Trusts whoever a certificate in `ca` signed, and shows nothing.
    pub(crate) fn trusting(ca: &Path) -> Self {
        Self { ca: Some(ca.to_path_buf()), identity: None }
    }
}
