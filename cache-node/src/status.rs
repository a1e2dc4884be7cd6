//! What the node says about itself: one JSON document, and the core's counters among the metrics.

use nearcast_datasets::ServedFrom;
use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::{
    clock,
    core::{MissCause, NodeCounters},
    latency::LatencySnapshot,
    shell::{Shell, State},
};

/// The document of `/_nearcast/status`, schema `nearcast.node-status/1`. Counts are since the node started.
#[derive(Debug, Serialize)]
pub(crate) struct NodeStatus {
    schema: &'static str,
    node: String,
    region: String,
    requests: u64,
    hits: u64,
    served: BTreeMap<&'static str, u64>,
    misses: BTreeMap<&'static str, u64>,
    /// By class of the answer's status.
    responses: BTreeMap<&'static str, u64>,
    /// By who answered.
    latency: BTreeMap<&'static str, LatencySnapshot>,
    uptime_seconds: f64,
    bytes: Bytes,
    /// What the core counted, by segment rather than by request, those of peers included.
    segments: NodeCounters,
    held: Held,
    under_way: UnderWay,
    repairs: Repairs,
    origin: Origin,
    peers: Peers,
    purges: Purges,
    warmed: Warmed,
    front: Front,
    link: Link,
}

#[derive(Debug, Serialize)]
struct Origin {
    requests: u64,
    failures: u64,
    under_way: usize,
    validations: u64,
}

#[derive(Debug, Serialize)]
struct Peers {
    known: usize,
    /// Not asked at present, because they failed a moment ago.
    skipped: usize,
    failures: u64,
    segments_sent: u64,
}

#[derive(Debug, Serialize)]
struct Purges {
    count: u64,
    objects: u64,
}

#[derive(Debug, Serialize)]
struct Warmed {
    segments: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Front {
    connections: i64,
    connections_full: u64,
    bad_requests: u64,
    watchers: i64,
    watch_lost: u64,
}

#[derive(Debug, Serialize)]
struct Bytes {
    sent: u64,
    /// Of those, by who answered.
    sent_by: BTreeMap<&'static str, u64>,
    from_origin: u64,
    from_peers: u64,
}

#[derive(Debug, Serialize)]
struct Held {
    segments: usize,
    bytes: u64,
    /// Of those, what eviction leaves alone.
    pinned_bytes: u64,
    capacity_bytes: u64,
    entries_max: usize,
    memory_bytes: usize,
    memory_capacity_bytes: u64,
    disk_capacity_bytes: u64,
    keys_known: usize,
}

#[derive(Debug, Serialize)]
struct UnderWay {
    prefetches_queued: usize,
    transfers: usize,
}

#[derive(Debug, Serialize)]
struct Repairs {
    payloads_damaged: u64,
    payloads_gone: u64,
    journal_dropped: u64,
    log_dropped: u64,
    log_failed: u64,
    access_log_dropped: u64,
    access_log_failed: u64,
}

#[derive(Debug, Serialize)]
struct Link {
    connected: bool,
    connects: u64,
    reports_dropped: u64,
    /// Requests that no predictor has acknowledged yet.
    requests_unacknowledged: usize,
    commands: u64,
    commands_rejected: u64,
    peers: usize,
    /// Keys with explicit holders, and the version of the map that says so.
    placed_keys: usize,
    placement_epoch: Option<u64>,
    arm: Option<String>,
    model_version: Option<String>,
}

impl NodeStatus {
    /// The node as it is now.
    pub(crate) fn of(shell: &Shell) -> Self {
        let metrics = &shell.metrics;
        let served: BTreeMap<_, _> = ServedFrom::ALL.iter().map(|s| (s.as_str(), metrics.served(*s))).collect();
        let hits = ServedFrom::ALL.iter().filter(|s| s.is_hit()).map(|s| metrics.served(*s)).sum();
        let misses = MissCause::ALL.iter().map(|cause| (cause.as_str(), metrics.missed(*cause))).collect();
        let sent_by: BTreeMap<_, _> = ServedFrom::ALL.iter().map(|s| (s.as_str(), metrics.sent(*s))).collect();
        let latency = ServedFrom::ALL.iter().map(|s| (s.as_str(), metrics.latencies.snapshot(*s))).collect();
        let config = &shell.config;
        let in_force = shell.uplink.in_force();
        let state = shell.state();
        let (held_bytes, held_segments) = state.held();
        let (queued, transfers) = state.under_way();
        Self {
            schema: "nearcast.node-status/1",
            node: shell.config.name.to_string(),
            region: shell.config.region.to_string(),
            requests: served.values().sum(),
            hits,
            served,
            misses,
            responses: metrics.responded().into_iter().collect(),
            latency,
            uptime_seconds: metrics.started.elapsed().as_secs_f64(),
            bytes: Bytes {
                sent: sent_by.values().sum(),
                sent_by,
                from_origin: metrics.origin_bytes.get(),
                from_peers: metrics.peer_bytes.get(),
            },
            segments: state.counters().clone(),
            held: Held {
                segments: held_segments,
                bytes: held_bytes,
                pinned_bytes: state.pinned_bytes(),
                capacity_bytes: config.core.index.capacity_bytes,
                entries_max: config.core.index.entries_max,
                memory_capacity_bytes: config.store.memory_bytes,
                disk_capacity_bytes: config.store.disk_bytes,
                memory_bytes: shell.store.memory_used_bytes(),
                keys_known: state.key_count(),
            },
            under_way: UnderWay { prefetches_queued: queued, transfers },
            repairs: Repairs::of(shell),
            origin: Origin::of(shell),
            peers: Peers::of(shell, &state),
            purges: Purges { count: metrics.purges.get(), objects: metrics.purged_objects.get() },
            warmed: Warmed { segments: metrics.warmed_segments.get(), bytes: metrics.warmed_bytes.get() },
            front: Front::of(shell),
            link: Link {
                connected: shell.uplink.is_connected(),
                connects: metrics.link_connects.get(),
                reports_dropped: shell.uplink.dropped(),
                requests_unacknowledged: shell.uplink.unacknowledged(),
                commands: metrics.commands.get(),
                commands_rejected: metrics.commands_rejected.get(),
                peers: state.peer_count(),
                placed_keys: state.placed().0,
                placement_epoch: state.placed().1.map(|position| position.epoch.0),
                arm: in_force.arm,
                model_version: in_force.model_version,
            },
        }
    }
}

impl Repairs {
    fn of(shell: &Shell) -> Self {
        let metrics = &shell.metrics;
        Self {
            payloads_damaged: metrics.payloads_damaged.get(),
            payloads_gone: metrics.payloads_gone.get(),
            journal_dropped: shell.journal_dropped(),
            log_dropped: metrics.log_dropped.get(),
            log_failed: metrics.log_failed.get(),
            access_log_dropped: metrics.access_log_dropped.get(),
            access_log_failed: metrics.access_log_failed.get(),
        }
    }
}

impl Origin {
    fn of(shell: &Shell) -> Self {
        let metrics = &shell.metrics;
        let origin = shell.origin.counters();
        Self {
            requests: origin.requests.get(),
            failures: origin.failures.get(),
            under_way: shell.config.origin.concurrency_max.saturating_sub(shell.origin.free_permits()),
            validations: metrics.validations.get(),
        }
    }
}

impl Peers {
    fn of(shell: &Shell, state: &State) -> Self {
        let metrics = &shell.metrics;
        Self {
            known: state.peer_count(),
            skipped: state.peers_skipped(clock::now()),
            failures: metrics.peer_failures.get(),
            segments_sent: metrics.peer_segments_sent.get(),
        }
    }
}

impl Front {
    fn of(shell: &Shell) -> Self {
        let metrics = &shell.metrics;
        Self {
            connections: metrics.connections.get(),
            connections_full: metrics.connections_full.get(),
            bad_requests: metrics.bad_requests.get(),
            watchers: metrics.watchers.get(),
            watch_lost: metrics.watch_lost.get(),
        }
    }
}

/// Adds what the core and the store know to the metrics.
pub(crate) fn register(shell: &Shell, registry: &mut Registry) {
    let state = shell.state();
    let (held_bytes, held_segments) = state.held();
    let (queued, transfers) = state.under_way();
    let skipped = state.peers_skipped(clock::now());
    let under_way = shell.config.origin.concurrency_max.saturating_sub(shell.origin.free_permits());
    let origin = shell.origin.counters();
    let gauges = [
        ("held_bytes", "Payload bytes held", held_bytes),
        ("held_segments", "Segments held", held_segments as u64),
        ("capacity_bytes", "Payload bytes that may be held", shell.config.core.index.capacity_bytes),
        ("memory_capacity_bytes", "Payload bytes that may be in memory", shell.config.store.memory_bytes),
        ("entries_max", "Segments that may be held", shell.config.core.index.entries_max as u64),
        ("peers_skipped", "Peers that are not asked because they failed a moment ago", skipped as u64),
        ("origin_under_way", "Requests to the origin under way", under_way as u64),
        ("memory_bytes", "Payload bytes in memory", shell.store.memory_used_bytes() as u64),
        ("prefetches_queued", "Prefetches waiting for their transfer", queued as u64),
        ("transfers", "Transfers under way", transfers as u64),
        ("link_connected", "Whether the predictor listens", u64::from(shell.uplink.is_connected())),
        ("peers", "Other members of the cache map", state.peer_count() as u64),
        ("keys_known", "Keys whose names are remembered", state.key_count() as u64),
    ];
    for (name, help, value) in gauges {
        registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    }
    let counters = state.counters();
    let prefetch = &counters.prefetch;
    let totals = [
        ("segment_requests", "Requests for segments, by clients and peers", counters.requests),
        ("segment_hits", "Segments answered from what was held", counters.hits),
        ("segment_joins", "Misses that joined a transfer under way", counters.joins),
        ("flights_full", "Misses that could not be joined because the table was full", counters.flights_full),
        ("evicted", "Segments that made room for others", counters.evicted),
        ("refused", "Segments refused as too large", counters.refused),
        ("repaired", "Segments whose payload was gone or damaged", counters.repaired),
        ("prefetch_ordered", "Segments ordered", prefetch.ordered),
        ("prefetch_rejected", "Orders turned away", prefetch.rejected),
        ("prefetch_expired", "Orders dropped as too late", prefetch.expired),
        ("prefetch_failed", "Prefetches that failed at every source", prefetch.failed),
        ("prefetch_landed", "Prefetches that landed", prefetch.landed),
        ("prefetch_landed_bytes", "Bytes of prefetches that landed", prefetch.landed_bytes),
        ("prefetch_used", "Prefetched segments that somebody asked for", prefetch.used),
        ("prefetch_used_bytes", "Bytes of prefetched segments that somebody asked for", prefetch.used_bytes),
        ("prefetch_late", "Prefetches that demand overtook", prefetch.late),
        ("prefetch_evicted_unused", "Prefetched segments evicted unused", prefetch.evicted_unused),
        ("origin_requests", "Requests to the origin", origin.requests.get()),
        ("origin_failures", "Requests to the origin that brought no answer, or none in time", origin.failures.get()),
        ("prefetch_already_present", "Orders for what was there already", prefetch.already_present),
        ("prefetch_expired_unused", "Prefetched segments that went stale unused", prefetch.expired_unused),
        ("prefetch_evicted_unused_bytes", "Bytes of prefetched segments evicted unused", prefetch.evicted_unused_bytes),
        ("journal_dropped", "Index changes that were not written down", shell.journal_dropped()),
        ("reports_dropped", "Reports to the predictor that were dropped", shell.uplink.dropped()),
    ];
    for (name, help, value) in totals {
        registry.register(name, help, ConstCounter::new(value));
    }
}
