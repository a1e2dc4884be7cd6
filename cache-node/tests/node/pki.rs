//! Clients that use a test's certificates.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

pub(crate) use crate::ca::{Ca, Pair};

impl Ca {
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
