//! What TLS counts; the names are listed in [`crate::metrics`].

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    /// The client went away.
    Closed,
    /// It broke the protocol, found nothing in common, or showed a certificate that no known one signed.
    Failed,
    /// The client spoke something else, such as plain HTTP.
    Plain,
    /// It took too long.
    Timeout,
}

/// The label of [`TlsMetrics::failures`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Counters of TLS.
#[derive(Debug, Default)]
pub(crate) struct TlsMetrics {
    /// Handshakes that succeeded.
    pub(crate) handshakes: Counter,
    failures: Family<ReasonLabel, Counter>,
    /// Changed files that were taken up.
    pub(crate) reloads: Counter,
    /// Changed files that could not be used.
    pub(crate) reload_failures: Counter,
    /// Peers that are not asked because they are not reached over https.
    pub(crate) peers_refused: Counter,
    /// Requests that needed a peer's certificate and came without.
    pub(crate) peer_requests_refused: Counter,
}

impl TlsMetrics {
    pub(crate) fn count_failure(&self, failure: HandshakeFailure) {
        let reason = match failure {
            HandshakeFailure::Closed => "closed",
            HandshakeFailure::Failed => "failed",
            HandshakeFailure::Plain => "plain",
            HandshakeFailure::Timeout => "timeout",
        };
        self.failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("tls_handshake_failures", "Handshakes that failed, by reason", self.failures.clone());
        for (name, help, counter) in [
            ("tls_handshakes", "Handshakes that succeeded", &self.handshakes),
            ("tls_reloads", "Changed certificates and keys that were taken up", &self.reloads),
            ("tls_reload_failures", "Changed certificates and keys that could not be used", &self.reload_failures),
            ("peers_refused", "Peers not asked because they are not reached over https", &self.peers_refused),
            ("peer_requests_refused", "Requests without the peer's certificate they need", &self.peer_requests_refused),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
