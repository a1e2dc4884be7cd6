//! What the shell counts. What the core counts is read from it when somebody asks.
//!
//! | metric | labels | meaning |
//! | --- | --- | --- |
//! | `nearcast_requests_total` | `served` | clients' requests by who answered |
//! | `nearcast_misses_total` | `cause` | clients' requests that this node could not answer alone |
//! | `nearcast_responses_total` | `class` | clients' requests by status: `2xx` to `5xx`, `aborted` where the client left first |
//! | `nearcast_sent_bytes_total` | `served` | payload bytes sent to clients by who answered |
//! | `nearcast_request_duration_seconds` | `served` | time from a request's head to its last byte |
//! | `nearcast_origin_bytes_total`, `nearcast_peer_bytes_total` | | payload bytes that transfers brought |
//! | `nearcast_origin_requests_total`, `nearcast_origin_failures_total` | | requests to the origin, and those without a usable answer |
//! | `nearcast_warmed_segments_total`, `nearcast_warmed_bytes_total` | | what operators had fetched ahead |
//! | `nearcast_access_log_dropped_total`, `…_failed_total` | | lines lost to a full queue, or to the disk |
//! | `nearcast_watchers`, `nearcast_watch_lost_total` | | who follows requests live, and what they were too slow for |
//! | `nearcast_tls_handshakes_total` | | handshakes that succeeded |
//! | `nearcast_tls_handshake_failures_total` | `reason` | handshakes that came to nothing: `closed`, `failed`, `plain`, `timeout` |
//! | `nearcast_tls_reloads_total`, `…_reload_failures_total` | | changed certificates and keys that were taken up, or could not be used |
//! | `nearcast_tls_certificate_not_after_timestamp_seconds` | | when the listener's certificate ends |
//! | `nearcast_peers_refused_total` | | peers of the map that are not asked because they are not reached over https |
//! | `nearcast_peer_requests_refused_total` | | requests that needed a peer's certificate and came without |
//! | `nearcast_config_last_reload_successful` | | 1, or 0 after a reload that changed nothing because something was wrong |
//! | `nearcast_config_last_reload_success_timestamp_seconds` | | when the configuration in force was read |

use http::StatusCode;
use nearcast_datasets::ServedFrom;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    clock::Stopwatch,
    core::MissCause,
    latency::{Latencies, LatencyMetric},
    reload::ReloadMetrics,
    tls::TlsMetrics,
};

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

/// The label of [`Metrics::responses`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClassLabel {
    class: &'static str,
}

/// Counters of one node.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Since when they count.
    pub(crate) started: Stopwatch,
    pub(crate) requests: Family<ServedLabel, Counter>,
    /// The counters of `requests`, by number of [`ServedFrom`]: found without a look-up by name.
    by_served: [Counter; ServedFrom::ALL.len()],
    pub(crate) misses: Family<CauseLabel, Counter>,
    pub(crate) responses: Family<ClassLabel, Counter>,
    /// The counters of `responses`, in the order of [`CLASSES`].
    by_class: [Counter; CLASSES.len()],
    pub(crate) latencies: Latencies,
    sent_bytes: Family<ServedLabel, Counter>,
    /// The counters of `sent_bytes`, by number of [`ServedFrom`].
    sent_by_served: [Counter; ServedFrom::ALL.len()],
    pub(crate) origin_bytes: Counter,
    pub(crate) peer_bytes: Counter,
    pub(crate) peer_failures: Counter,
    pub(crate) peer_segments_sent: Counter,
    pub(crate) validations: Counter,
    pub(crate) bodies_too_long: Counter,
    pub(crate) payloads_damaged: Counter,
    pub(crate) payloads_gone: Counter,
    pub(crate) commands: Counter,
    pub(crate) commands_recalled: Counter,
    pub(crate) commands_rejected: Counter,
    pub(crate) bad_requests: Counter,
    pub(crate) purges: Counter,
    pub(crate) purged_objects: Counter,
    pub(crate) connections: Gauge,
    pub(crate) connections_full: Counter,
    pub(crate) log_dropped: Counter,
    pub(crate) log_failed: Counter,
    pub(crate) log_upload_failed: Counter,
    pub(crate) link_connects: Counter,
    pub(crate) warmed_segments: Counter,
    pub(crate) warmed_bytes: Counter,
    pub(crate) access_log_dropped: Counter,
    pub(crate) access_log_failed: Counter,
    pub(crate) watchers: Gauge,
    pub(crate) watchers_full: Counter,
    pub(crate) watch_lost: Counter,
    pub(crate) tls: TlsMetrics,
    pub(crate) reload: ReloadMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<ServedLabel, Counter>::default();
        let sent_bytes = Family::<ServedLabel, Counter>::default();
        let responses = Family::<ClassLabel, Counter>::default();
        let by_served = |family: &Family<ServedLabel, Counter>| {
            ServedFrom::ALL.map(|served| family.get_or_create(&ServedLabel { served: served.as_str() }).clone())
        };
        let (requests_by_served, sent_by_served) = (by_served(&requests), by_served(&sent_bytes));
        let by_class = CLASSES.map(|class| responses.get_or_create(&ClassLabel { class }).clone());
        Self {
            started: Stopwatch::start(),
            requests,
            by_served: requests_by_served,
            misses: Family::default(),
            responses,
            by_class,
            latencies: Latencies::default(),
            sent_bytes,
            sent_by_served,
            origin_bytes: Counter::default(),
            peer_bytes: Counter::default(),
            peer_failures: Counter::default(),
            peer_segments_sent: Counter::default(),
            validations: Counter::default(),
            bodies_too_long: Counter::default(),
            payloads_damaged: Counter::default(),
            payloads_gone: Counter::default(),
            commands: Counter::default(),
            commands_recalled: Counter::default(),
            commands_rejected: Counter::default(),
            bad_requests: Counter::default(),
            purges: Counter::default(),
            purged_objects: Counter::default(),
            connections: Gauge::default(),
            connections_full: Counter::default(),
            log_dropped: Counter::default(),
            log_failed: Counter::default(),
            log_upload_failed: Counter::default(),
            link_connects: Counter::default(),
            warmed_segments: Counter::default(),
            warmed_bytes: Counter::default(),
            access_log_dropped: Counter::default(),
            access_log_failed: Counter::default(),
            watchers: Gauge::default(),
            watchers_full: Counter::default(),
            watch_lost: Counter::default(),
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

    /// Counts the status that a client got, or that it left before there was one.
    pub(crate) fn count_status(&self, status: Option<StatusCode>) {
        let class = match status.map(|status| status.as_u16()) {
            None => 4,
            Some(status) => usize::from((status / 100).clamp(2, 5)) - 2,
        };
        self.by_class[class].inc();
    }

    /// Counts payload bytes that a client got.
    pub(crate) fn count_sent(&self, served: ServedFrom, bytes: u64) {
        self.sent_by_served[served as usize].inc_by(bytes);
    }

    /// Payload bytes that clients got from `served`.
    pub(crate) fn sent(&self, served: ServedFrom) -> u64 {
        self.sent_by_served[served as usize].get()
    }

    /// Answers by class of their status, in the order of [`CLASSES`].
    pub(crate) fn responded(&self) -> [(&'static str, u64); CLASSES.len()] {
        let mut counts = CLASSES.map(|class| (class, 0));
        counts.iter_mut().zip(&self.by_class).for_each(|((_, count), counter)| *count = counter.get());
        counts
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
            LatencyMetric::of(&self.latencies),
        );
        registry.register("responses", "Clients' requests by class of the answer's status", self.responses.clone());
        registry.register("sent_bytes", "Payload bytes sent to clients by who answered", self.sent_bytes.clone());
        registry.register("watchers", "Who follows requests live", self.watchers.clone());
        registry.register("connections", "Connections that are open", self.connections.clone());
        self.tls.register(registry);
        self.reload.register(registry);
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 25] {
        [
            ("origin_bytes", "Payload bytes fetched from the origin, directly or through a peer", &self.origin_bytes),
            ("peer_bytes", "Payload bytes that peers held and gave", &self.peer_bytes),
            ("peer_failures", "Peers that failed when asked for a segment", &self.peer_failures),
            ("peer_segments_sent", "Segments given to peers", &self.peer_segments_sent),
            ("validations", "Stale objects that the origin confirmed", &self.validations),
            ("bodies_too_long", "Bodies above a configured bound, passed through", &self.bodies_too_long),
            ("payloads_damaged", "Held payloads that did not match their digest", &self.payloads_damaged),
            ("payloads_gone", "Held payloads that the store had lost", &self.payloads_gone),
            ("commands", "Commands received", &self.commands),
            ("commands_recalled", "Prefetches cancelled as another arm came into force", &self.commands_recalled),
            ("commands_rejected", "Commands refused on receipt", &self.commands_rejected),
            ("bad_requests", "Requests refused as malformed", &self.bad_requests),
            ("purges", "Purges carried out", &self.purges),
            ("purged_objects", "Objects that purges dropped or made stale", &self.purged_objects),
            ("connections_full", "Times that the bound on connections was reached", &self.connections_full),
            ("log_dropped", "Log rows dropped because the queue was full", &self.log_dropped),
            ("log_failed", "Log rows lost because a file could not be written", &self.log_failed),
            (
                "log_upload_failed",
                "Tries to send the log that the store refused; it stays here",
                &self.log_upload_failed,
            ),
            ("link_connects", "Times that the link to the predictor was made", &self.link_connects),
            ("warmed_segments", "Segments fetched ahead for operators", &self.warmed_segments),
            ("warmed_bytes", "Bytes fetched ahead for operators", &self.warmed_bytes),
            ("access_log_dropped", "Access-log lines dropped because the queue was full", &self.access_log_dropped),
            ("access_log_failed", "Access-log lines lost because they could not be written", &self.access_log_failed),
            ("watchers_full", "Times that the bound on watchers was reached", &self.watchers_full),
            ("watch_lost", "Requests that watchers were too slow for", &self.watch_lost),
        ]
    }
}

/// Classes of what clients get; the last is for clients that left before there was a status.
pub(crate) const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "aborted"];
