//! How a gRPC service shows itself, and whom it lets in.

use std::path::PathBuf;

use tonic::transport::{Certificate, Identity as TonicIdentity, ServerTlsConfig};

use super::{
    identity::Identity,
    pem::{read, roots},
};
use crate::error::Result;

/// The files that say who a service is, and by whose certificates it knows those who ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTls {
    /// The service's certificate (PEM), then those in between.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates (PEM) that those of whoever asks must end in; without, everybody may ask.
    pub client_ca: Option<PathBuf>,
}

impl ServiceTls {
    /// For gRPC servers. Files that change later are not looked at.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn for_grpc(&self) -> Result<ServerTlsConfig> {
        // Read for its errors: tonic's do not name the file.
        Identity::load(&self.certificate, &self.key)?;
        let identity = TonicIdentity::from_pem(read(&self.certificate)?, read(&self.key)?);
        let server = ServerTlsConfig::new().identity(identity);
        Ok(match &self.client_ca {
            Some(ca) => {
                roots(ca)?;
                server.client_ca_root(Certificate::from_pem(read(ca)?))
            }
            None => server,
        })
    }
}
