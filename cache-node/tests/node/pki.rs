//! Certificates made for a test, and clients that use them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Somebody who signs certificates.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes its own certificate.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, self.certificate.pem()).expect("a file");
        path
    }

    /// Signs a certificate for this machine, which serves servers and clients alike.
    pub(crate) fn issue(&self, dir: &Path, name: &str) -> Pair {
        self.issue_until(dir, name, 2_999)
    }

    pub(crate) fn issue_until(&self, dir: &Path, name: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("valid names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2_000, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let pair = Pair { certificate: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&pair.certificate, certificate.pem()).expect("a file");
        std::fs::write(&pair.key, key.serialize_pem()).expect("a file");
        pair
    }

    /// A client that trusts this CA alone and shows `pair`, if any.
    pub(crate) fn client_config(&self, pair: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a CA");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the defaults")
            .with_root_certificates(roots);
        let Some(pair) = pair else { return builder.with_no_client_auth() };
        let chain = vec![CertificateDer::from_pem_file(&pair.certificate).expect("a certificate")];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).expect("a key")).expect("a pair")
    }

    pub(crate) fn client(&self, pair: Option<&Pair>) -> HttpsClient {
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.client_config(pair)).https_only();
        Client::builder(TokioExecutor::new()).build(builder.enable_all_versions().build())
    }

    /// A client that does not know HTTP/2, and opens a connection for every request.
    pub(crate) fn http1_client(&self) -> HttpsClient {
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.client_config(None)).https_only();
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(builder.enable_http1().build())
    }
}

impl Pair {
    /// Takes the place of another pair, as a tool that renews certificates would do it.
    pub(crate) fn replace(&self, other: &Self) {
        std::fs::rename(&self.certificate, &other.certificate).expect("same folder");
        std::fs::rename(&self.key, &other.key).expect("same folder");
    }

    /// The `[tls]` section that uses it, checked often.
    pub(crate) fn section(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\npoll_interval = \"20ms\"\n")
    }
}

pub(crate) type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;
