//! How a gRPC service shows itself, and whom it lets in.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tonic::transport::ServerTlsConfig;

use super::grpc;
use crate::error::Result;

/// The files that say who a service is, and by whose certificates it knows those who ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTls {
    /// The service's certificate (PEM), then those in between.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates (PEM) that those of whoever asks must end in; without, everybody may ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

impl ServiceTls {
    /// The same files, where relative paths start at `base`.
    #[must_use]
    pub fn below(self, base: &Path) -> Self {
        Self {
            certificate: base.join(self.certificate),
            key: base.join(self.key),
            client_ca: self.client_ca.map(|ca| base.join(ca)),
        }
    }

    /// For gRPC servers. Files that change later are not looked at.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn for_grpc(&self) -> Result<ServerTlsConfig> {
        let server = ServerTlsConfig::new().identity(grpc::identity(&self.certificate, &self.key)?);
        Ok(match &self.client_ca {
            Some(ca) => server.client_ca_root(grpc::ca(ca)?),
            None => server,
        })
    }
}
