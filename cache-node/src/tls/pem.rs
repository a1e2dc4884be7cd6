//! Reading PEM files.

use std::path::Path;

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

use crate::error::{Error, Result};

/// The certificates in a file, in the order in which they stand there; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| damaged(path, &error))?;
    if all.is_empty() {
        let instead = if PrivateKeyDer::from_pem_slice(&text).is_ok() {
            ", but a private key: is it the wrong file?"
        } else {
            ""
        };
        return Err(refused(path, format!("there is no `BEGIN CERTIFICATE` in it{instead}")));
    }
    Ok(all)
}

/// The first private key in a file, unencrypted, in PKCS #8, PKCS #1 or SEC 1.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(&text, b"ENCRYPTED PRIVATE KEY") => refused(
            path,
            "the private key is encrypted; decrypt it with `openssl pkey`, and protect the file by its mode".to_owned(),
        ),
        pem::Error::NoItemsFound if contains(&text, b"BEGIN CERTIFICATE") => {
            refused(path, "there is a certificate in it, but no private key: is it the wrong file?".to_owned())
        }
        pem::Error::NoItemsFound => refused(path, "there is no `BEGIN … PRIVATE KEY` in it".to_owned()),
        error => damaged(path, &error),
    })
}

/// The certificates in a file, as those that chains must end in.
pub(super) fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(path)?.into_iter().enumerate() {
        let number = index + 1;
        roots.add(certificate).map_err(|error| refused(path, format!("certificate {number} is unusable: {error}")))?;
    }
    Ok(roots)
}

/// Says that a file cannot be used for TLS, and why.
pub(super) fn refused(path: &Path, problem: String) -> Error {
    Error::Tls { path: path.to_path_buf(), problem }
}

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| refused(path, format!("{error}; check the path and the file's permissions")))
}

fn damaged(path: &Path, error: &pem::Error) -> Error {
    refused(path, format!("it is damaged or no PEM ({error}); `openssl x509 -in` or `openssl pkey -in` may tell more"))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
