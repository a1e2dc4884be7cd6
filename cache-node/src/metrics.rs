//! What the shell counts. What the core counts is read from it when somebody asks.
//!
//! | metric | labels | meaning |
//! | --- | --- | --- |
//! | `nearcast_requests_total` | `served` | clients' requests by who answered |
//! | `nearcast_misses_total` | `cause` | clients' requests that this node could not answer alone |
//! | `nearcast_sent_bytes_total` | | payload bytes sent to clients |
//! | `nearcast_fetched_bytes_total` | `from` | payload bytes that transfers brought |
//! | `nearcast_tls_handshakes_total` | | handshakes that succeeded |
//! | `nearcast_tls_handshake_failures_total` | `reason` | handshakes that came to nothing: `closed`, `failed`, `plain`, `timeout` |
//! | `nearcast_tls_reloads_total`, `…_reload_failures_total` | | changed certificates and keys that were taken up, or could not be used |
//! | `nearcast_tls_certificate_not_after_timestamp_seconds` | | when the listener's certificate ends |
//! | `nearcast_peers_refused_total` | | peers of the map that are not asked because they are not reached over https |
//! | `nearcast_peer_requests_refused_total` | | requests that needed a peer's certificate and came without |
//! | `nearcast_config_last_reload_successful` | | 1, or 0 after a reload that changed nothing because something was wrong |
//! | `nearcast_config_last_reload_success_timestamp_seconds` | | when the configuration in force was read |

use nearcast_datasets::ServedFrom;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{core::MissCause, reload::ReloadMetrics, tls::TlsMetrics};

/// The label of [`Metrics::requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ServedLabel {
    served: &'static str,
}

/// The label of [`Metrics::misses`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    cause: &'static str,
}

/// Counters of one node.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<ServedLabel, Counter>,
    /// The counters of `requests`, by number of [`ServedFrom`]: found without a look-up by name.
    by_served: [Counter; ServedFrom::ALL.len()],
    pub(crate) misses: Family<CauseLabel, Counter>,
    pub(crate) latency_seconds: Histogram,
    pub(crate) sent_bytes: Counter,
    pub(crate) origin_bytes: Counter,
    pub(crate) peer_bytes: Counter,
    pub(crate) peer_failures: Counter,
    pub(crate) peer_segments_sent: Counter,
    pub(crate) validations: Counter,
    pub(crate) bodies_too_long: Counter,
    pub(crate) payloads_damaged: Counter,
    pub(crate) payloads_gone: Counter,
    pub(crate) commands: Counter,
    pub(crate) commands_rejected: Counter,
    pub(crate) bad_requests: Counter,
    pub(crate) purges: Counter,
    pub(crate) purged_objects: Counter,
    pub(crate) connections: Gauge,
    pub(crate) connections_full: Counter,
    pub(crate) log_dropped: Counter,
    pub(crate) log_failed: Counter,
    pub(crate) link_connects: Counter,
    pub(crate) tls: TlsMetrics,
    pub(crate) reload: ReloadMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<ServedLabel, Counter>::default();
        let by_served =
            ServedFrom::ALL.map(|served| requests.get_or_create(&ServedLabel { served: served.as_str() }).clone());
        Self {
            requests,
            by_served,
            misses: Family::default(),
            latency_seconds: Histogram::new(LATENCY_BUCKETS),
            sent_bytes: Counter::default(),
            origin_bytes: Counter::default(),
            peer_bytes: Counter::default(),
            peer_failures: Counter::default(),
            peer_segments_sent: Counter::default(),
            validations: Counter::default(),
            bodies_too_long: Counter::default(),
            payloads_damaged: Counter::default(),
            payloads_gone: Counter::default(),
            commands: Counter::default(),
            commands_rejected: Counter::default(),
            bad_requests: Counter::default(),
            purges: Counter::default(),
            purged_objects: Counter::default(),
            connections: Gauge::default(),
            connections_full: Counter::default(),
            log_dropped: Counter::default(),
            log_failed: Counter::default(),
            link_connects: Counter::default(),
            tls: TlsMetrics::default(),
            reload: ReloadMetrics::default(),
        }
    }
}

impl Metrics {
    /// Counts a client's request.
    pub(crate) fn count_request(&self, served: ServedFrom, cause: Option<MissCause>) {
        self.by_served[served as usize].inc();
        if let Some(cause) = cause {
            self.misses.get_or_create(&CauseLabel { cause: cause.as_str() }).inc();
        }
    }

    /// Clients' requests that were answered by `served`.
    pub(crate) fn served(&self, served: ServedFrom) -> u64 {
        self.by_served[served as usize].get()
    }

    /// Clients' requests that missed for `cause`.
    pub(crate) fn missed(&self, cause: MissCause) -> u64 {
        self.misses.get_or_create(&CauseLabel { cause: cause.as_str() }).get()
    }

    /// Names every counter in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Clients' requests by who answered", self.requests.clone());
        registry.register("misses", "Clients' requests that missed, by cause", self.misses.clone());
        registry.register(
            "request_duration_seconds",
            "Time from a request's head to its last byte",
            self.latency_seconds.clone(),
        );
        registry.register("connections", "Connections that are open", self.connections.clone());
        self.tls.register(registry);
        self.reload.register(registry);
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 18] {
        [
            ("sent_bytes", "Payload bytes sent to clients", &self.sent_bytes),
            ("origin_bytes", "Payload bytes fetched from the origin, directly or through a peer", &self.origin_bytes),
            ("peer_bytes", "Payload bytes that peers held and gave", &self.peer_bytes),
            ("peer_failures", "Peers that failed when asked for a segment", &self.peer_failures),
            ("peer_segments_sent", "Segments given to peers", &self.peer_segments_sent),
            ("validations", "Stale objects that the origin confirmed", &self.validations),
            ("bodies_too_long", "Bodies above a configured bound, passed through", &self.bodies_too_long),
            ("payloads_damaged", "Held payloads that did not match their digest", &self.payloads_damaged),
            ("payloads_gone", "Held payloads that the store had lost", &self.payloads_gone),
            ("commands", "Commands received", &self.commands),
            ("commands_rejected", "Commands refused on receipt", &self.commands_rejected),
            ("bad_requests", "Requests refused as malformed", &self.bad_requests),
            ("purges", "Purges carried out", &self.purges),
            ("purged_objects", "Objects that purges dropped or made stale", &self.purged_objects),
            ("connections_full", "Times that the bound on connections was reached", &self.connections_full),
            ("log_dropped", "Log rows dropped because the queue was full", &self.log_dropped),
            ("log_failed", "Log rows lost because a file could not be written", &self.log_failed),
            ("link_connects", "Times that the link to the predictor was made", &self.link_connects),
        ]
    }
}

const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
