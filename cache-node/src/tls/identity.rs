//! A certificate with its key, and until when it is valid.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::DateTime;
use nearcast_datasets::Timestamp;
use tokio_rustls::rustls::{
    self, CertificateError, InconsistentKeys, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{
    pem::{certificates, private_key, refused},
    provider,
};
use crate::{clock, error::Result};

/// A chain of certificates with the key of the first.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// When the first certificate ends.
    pub(super) not_after: Option<Timestamp>,
}

impl Identity {
    /// Reads a pair of files and checks that they belong together. A certificate that has ended is warned of.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let chain = certificates(certificate)?;
        let not_after = not_after(&chain[0]);
        let certified = CertifiedKey::from_der(chain, private_key(key)?, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => refused(
                key,
                format!(
                    "it is not the key of the first certificate in {}; put the node's own certificate first, and \
                     replace both files together",
                    certificate.display()
                ),
            ),
            rustls::Error::InvalidCertificate(problem) => {
                refused(certificate, format!("its first certificate cannot be read: {problem:?}"))
            }
            error => {
                refused(key, format!("the private key is unusable: {error}; use RSA, ECDSA P-256/P-384 or Ed25519"))
            }
        })?;
        if let Some(end) = not_after.filter(|end| *end < clock::now()) {
            tracing::warn!(
                file = %certificate.display(),
                not_after = %date(end),
                "the certificate has expired; clients will refuse it until it is renewed"
            );
        }
        Ok(Self { certified: Arc::new(certified), not_after })
    }
}

/// When a certificate ends. rustls tells that to whoever uses one later, so it is tried at the end of time.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let algorithms = provider().signature_verification_algorithms.all;
    let refusal =
        verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], end_of_time, algorithms);
    match refusal {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(Timestamp::from_micros(i64::try_from(not_after.as_secs()).ok()?.checked_mul(1_000_000)?))
        }
        _ => None,
    }
}

fn date(at: Timestamp) -> String {
    DateTime::from_timestamp_micros(at.micros()).unwrap_or_default().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_whether_it_has_passed_or_not() {
        for year in [2_001, 2_049, 2_999] {
            let mut params = CertificateParams::new(vec!["node.example".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(2_000, 1, 1), date_time_ymd(year, 2, 3));
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(date(not_after(certificate.der()).unwrap()), format!("{year}-02-03 00:00:00 UTC"));
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_and_what_to_try_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let pair = || rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let crt = write("node.crt", &one.cert.pem());
        let key = write("node.key", &one.signing_key.serialize_pem());
        assert!(Identity::load(&crt, &key).unwrap().not_after.is_some());
        let check = |certificate: &Path, key: &Path, expected: [&str; 2]| {
            let error = Identity::load(certificate, key).unwrap_err().to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        };
        let strange = write("other.key", &other.signing_key.serialize_pem());
        check(&crt, &strange, ["other.key", "not the key of the first certificate in"]);
        check(&key, &key, ["node.key", "a private key: is it the wrong file?"]);
        check(&crt, &crt, ["node.crt", "a certificate in it, but no private key"]);
        check(&dir.path().join("absent.crt"), &key, ["absent.crt", "check the path"]);
        check(&write("empty.crt", ""), &key, ["empty.crt", "no `BEGIN CERTIFICATE`"]);
        check(&write("cut.crt", &one.cert.pem()[..200]), &key, ["cut.crt", "damaged"]);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        check(&crt, &write("locked.key", encrypted), ["locked.key", "is encrypted"]);
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(&write("odd.crt", nonsense), &key, ["odd.crt", "cannot be read"]);
    }
}
