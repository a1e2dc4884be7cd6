//! Whom the node trusts when it asks others, and what it shows them.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{ClientConfig, sign::SingleCertAndKey};
use tonic::transport::{Certificate, ClientTlsConfig, Identity as TonicIdentity};

use super::{
    identity::Identity,
    pem::{read, refused, roots},
    provider,
};
use crate::{
    config::{LinkConfig, PeersTlsConfig},
    error::Result,
};

/// How an https origin is asked whose certificate `ca` signed.
///
/// # Errors
/// When the file cannot be used.
pub(crate) fn origin_client(ca: &Path) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(ca, error.to_string()))?;
    Ok(builder.with_root_certificates(roots(ca)?).with_no_client_auth())
}

/// How peers are asked: they must show a certificate of theirs, and this node shows its own.
///
/// # Errors
/// When a file cannot be used.
pub(crate) fn peers_client(config: &PeersTlsConfig) -> Result<ClientConfig> {
    let server_ca = server_ca(config);
    let identity = Identity::load(&config.certificate, &config.key)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(server_ca, error.to_string()))?;
    let builder = builder.with_root_certificates(roots(server_ca)?);
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified))))
}

/// How an https predictor is asked: as peers are, where there are certificates for that.
///
/// # Errors
/// When a file cannot be used.
pub(crate) fn predictor_client(config: &LinkConfig, peers: Option<&PeersTlsConfig>) -> Result<ClientTlsConfig> {
    let mut client = ClientTlsConfig::new();
    client = match config.ca.as_deref().or_else(|| peers.map(server_ca)) {
        Some(ca) => {
            // Read for its errors: tonic's do not name the file.
            roots(ca)?;
            client.ca_certificate(Certificate::from_pem(read(ca)?))
        }
        None => client.with_webpki_roots(),
    };
    if let Some(peers) = peers {
        Identity::load(&peers.certificate, &peers.key)?;
        client = client.identity(TonicIdentity::from_pem(read(&peers.certificate)?, read(&peers.key)?));
    }
    Ok(client)
}

fn server_ca(config: &PeersTlsConfig) -> &Path {
    config.server_ca.as_deref().unwrap_or(&config.ca)
}
