//! Whom the node trusts when it asks others, and what it shows them.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{ClientConfig, sign::SingleCertAndKey};

use super::{
    identity::Identity,
    pem::{refused, roots},
    provider,
};
use crate::{config::PeersTlsConfig, error::Result};

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
    let server_ca = config.server_ca.as_deref().unwrap_or(&config.ca);
    let identity = Identity::load(&config.certificate, &config.key)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(server_ca, error.to_string()))?;
    let builder = builder.with_root_certificates(roots(server_ca)?);
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified))))
}
