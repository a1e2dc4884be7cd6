//! Certificates and keys in the form that tonic takes. They are read twice, first for the errors: tonic's name no file.

use std::path::Path;

use tonic::transport::{Certificate, Identity as TonicIdentity};

use super::{
    identity::Identity,
    pem::{read, roots},
};
use crate::error::Result;

/// The certificates in a file, as those that chains must end in.
pub(super) fn ca(path: &Path) -> Result<Certificate> {
    roots(path)?;
    Ok(Certificate::from_pem(read(path)?))
}

/// A certificate with its key.
pub(super) fn identity(certificate: &Path, key: &Path) -> Result<TonicIdentity> {
    Identity::load(certificate, key)?;
    Ok(TonicIdentity::from_pem(read(certificate)?, read(key)?))
}
