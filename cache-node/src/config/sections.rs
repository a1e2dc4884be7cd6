//! The sections of the configuration, checked, with their defaults.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nearcast_datasets::store::Location;
use nearcast_proto::topology::Topology;
use url::Url;

use super::{
    http_url,
    raw::{RawEmulation, RawFront, RawIndex, RawLink, RawLog, RawOrigin, RawPeers, RawPrefetch, RawStore},
    tls::PeersTlsConfig,
    units::Span,
    value,
};
use crate::{
    core::{NodeCoreConfig, routing::RoutingConfig},
    error::{Error, Result},
    index::{IndexConfig, PolicyKind},
};

/// `[origin]`: where objects come from.
#[derive(Clone, Debug)]
pub struct OriginConfig {
    /// `http://`, `https://`, `s3://`, `gs://`, `az://` or `file://`; keys are appended to its path.
    pub url: Url,
    /// Time to connect. Default 2 s.
    pub connect_timeout: Duration,
    /// Time to the response's head. Default 10 s.
    pub response_timeout: Duration,
    /// The longest pause within a body. Default 10 s.
    pub read_timeout: Duration,
    /// Idle connections kept. Default 64.
    pub idle_connections_max: usize,
    /// Objects larger than this are passed through and not kept. Default 64 GiB.
    pub object_bytes_max: u64,
    /// Bytes buffered of a body whose length the origin does not say. Default 16 MiB.
    pub unsized_body_bytes_max: u64,
    /// Freshness of objects from an object store, which states none. Default 1 h.
    pub default_max_age: Duration,
    /// Requests to the origin at a time. Default 1,024.
    pub concurrency_max: usize,
    /// Certificates (PEM) that an `https://` origin's chain must end in, instead of the public ones.
    pub ca: Option<PathBuf>,
}

impl TryFrom<RawOrigin> for OriginConfig {
    type Error = Error;

    fn try_from(raw: RawOrigin) -> Result<Self> {
        let url = Url::parse(&raw.url).map_err(|error| value("origin.url", format!("`{}`: {error}", raw.url)))?;
        if !matches!(url.scheme(), "http" | "https" | "s3" | "gs" | "az" | "file") {
            let problem = format!("`{}` is none of http://, https://, s3://, gs://, az://, file://", raw.url);
            return Err(value("origin.url", problem));
        }
        if raw.ca.is_some() && url.scheme() != "https" {
            return Err(value("origin.ca", format!("`{}` is not https://, so no certificate is checked", raw.url)));
        }
        Ok(Self {
            url,
            connect_timeout: span(raw.connect_timeout, Duration::from_secs(2)),
            response_timeout: span(raw.response_timeout, Duration::from_secs(10)),
            read_timeout: span(raw.read_timeout, Duration::from_secs(10)),
            idle_connections_max: raw.idle_connections_max.unwrap_or(64),
            object_bytes_max: raw.object_size_max.map_or(64 << 30, |size| size.0),
            unsized_body_bytes_max: raw.unsized_body_max.map_or(16 << 20, |size| size.0),
            default_max_age: span(raw.default_max_age, Duration::from_secs(3_600)),
            concurrency_max: positive("origin.concurrency_max", raw.concurrency_max, 1_024)?,
            ca: raw.ca,
        })
    }
}

/// `[store]`: where payloads are kept.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Payload bytes kept in memory. Default the capacity, at most 256 MiB.
    pub memory_bytes: u64,
    /// Bytes that the disk tier may take, alignment and blocks being reclaimed included.
    /// Default one and a half times the capacity and a few blocks.
    pub disk_bytes: u64,
    /// Bytes per block: what the disk tier reclaims at once.
    pub block_bytes: u64,
    /// Bytes buffered for one write. Default 16 MiB.
    pub write_buffer_bytes: u64,
    /// Bytes waiting to be written above which payloads stay in memory only. Default 64 MiB.
    pub write_queue_bytes: u64,
    /// Index changes waiting to be written. Default 65,536.
    pub journal_queue_max: usize,
}

impl StoreConfig {
    pub(super) fn checked(raw: &RawStore, capacity_bytes: u64, segment_bytes: u64) -> Self {
        // A block holds at least two of the largest entries; a small store has at least sixteen blocks.
        let block_bytes = (capacity_bytes / 16).min(16 << 20).max(2 * (segment_bytes + ENTRY_OVERHEAD_BYTES));
        let disk_bytes = raw.disk.map_or(capacity_bytes + capacity_bytes / 2 + 8 * block_bytes, |size| size.0);
        Self {
            memory_bytes: raw.memory.map_or_else(|| capacity_bytes.clamp(1 << 20, 256 << 20), |size| size.0),
            disk_bytes: disk_bytes.max(4 * block_bytes),
            block_bytes,
            write_buffer_bytes: raw.write_buffer.map_or(16 << 20, |size| size.0).max(block_bytes),
            write_queue_bytes: raw.write_queue.map_or(64 << 20, |size| size.0),
            journal_queue_max: raw.journal_queue_max.unwrap_or(65_536).max(1),
        }
    }
}

/// `[peers]`: how other nodes are asked.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// Time for one peer to answer with a whole segment. Default 5 s.
    pub timeout: Duration,
    /// Time after which a peer that has not answered is asked whether it is alive. Default 100 ms.
    pub probe_after: Duration,
    /// Time that it has to say so, before the next source is tried. Default 80 ms, so that with `probe_after` a stalled
    /// peer costs less than 200 ms.
    pub probe_timeout: Duration,
    /// How misses are routed: whether keys have home nodes (`hash_homes`, default true), how many peers are asked
    /// before the origin (`attempts_max`, default 2) and how long a failed one is skipped (`failure_backoff`, 5 s).
    pub routing: RoutingConfig,
    /// Mutual TLS between nodes, when they use it.
    pub tls: Option<PeersTlsConfig>,
}

impl From<&RawPeers> for PeersConfig {
    fn from(raw: &RawPeers) -> Self {
        let defaults = RoutingConfig::default();
        Self {
            timeout: span(raw.timeout, Duration::from_secs(5)),
            probe_after: span(raw.probe_after, Duration::from_millis(100)),
            probe_timeout: span(raw.probe_timeout, Duration::from_millis(80)),
            routing: RoutingConfig {
                hash_homes: raw.hash_homes.unwrap_or(defaults.hash_homes),
                sources_max: raw.attempts_max.unwrap_or(2),
                failure_backoff: span(raw.failure_backoff, defaults.failure_backoff),
                ..defaults
            },
            tls: raw.tls.as_ref().map(PeersTlsConfig::from),
        }
    }
}

/// `[front]`: how clients are served.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Connections served at a time; more wait in the system's accept queue. Default 4,096.
    pub connections_max: usize,
    /// Time to send a request's head. Default 30 s.
    pub header_read_timeout: Duration,
    /// Bytes of a request's head. Default 32 KiB.
    pub header_bytes_max: usize,
    /// Bytes of a request's body that is passed through. Default 64 MiB.
    pub request_body_bytes_max: u64,
    /// Time that requests under way get when the node stops. Default 10 s.
    pub drain_timeout: Duration,
    /// Segments asked for ahead of what a client has read. Default 4.
    pub read_ahead_max: usize,
    /// Ranges of one request; a request for more gets the whole object. Default 64.
    pub ranges_max: usize,
    /// The file with the word that whoever changes the node's state must know (`Authorization: Bearer …`). Without it,
    /// everybody who reaches the node may.
    pub admin_token_file: Option<PathBuf>,
    /// Who may follow requests live at a time (`nearcast tail`, `top`). Default 16.
    pub watchers_max: usize,
    /// Requests that wait for one of them; more are lost to it and counted. Default 4,096.
    pub watch_queue_max: usize,
    /// Objects that operators have fetched ahead at a time (`nearcast warm`); more wait. Default 4.
    pub warm_concurrency_max: usize,
}

impl FrontConfig {
    pub(super) fn checked(raw: &RawFront, prefetch: &RawPrefetch) -> Self {
        let header_bytes_max = raw.header_size_max.map_or(32 << 10, |size| size.0).max(8_192);
        Self {
            connections_max: raw.connections_max.unwrap_or(4_096).max(1),
            header_read_timeout: span(raw.header_read_timeout, Duration::from_secs(30)),
            header_bytes_max: usize::try_from(header_bytes_max).unwrap_or(usize::MAX),
            request_body_bytes_max: raw.request_body_max.map_or(64 << 20, |size| size.0),
            drain_timeout: span(raw.drain_timeout, Duration::from_secs(10)),
            read_ahead_max: raw.read_ahead_max.unwrap_or(4).max(1),
            ranges_max: raw.ranges_max.unwrap_or(64).max(1),
            admin_token_file: raw.admin_token_file.clone(),
            watchers_max: raw.watchers_max.unwrap_or(16),
            watch_queue_max: raw.watch_queue_max.unwrap_or(4_096).max(1),
            warm_concurrency_max: prefetch.warm_concurrency_max.unwrap_or(4).max(1),
        }
    }
}

/// `[log]`: how requests are logged as Parquet.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Whether they are. Default true.
    pub is_enabled: bool,
    /// The folder; files lie in `date=YYYY-MM-DD/` below it. Default `logs` in the data folder.
    pub dir: PathBuf,
    /// Rows after which a file is finished and the next begun. Default 100,000.
    pub rows_max: u64,
    /// Age after which a file is finished. Default 1 min.
    pub age_max: Duration,
    /// Rows waiting to be written; more are dropped and counted. Default 65,536.
    pub queue_max: usize,
    /// Where finished files are sent, and then removed from the folder: a URL such as `s3://bucket/logs`. Not set, they
    /// stay.
    pub upload: Option<Location>,
}

impl LogConfig {
    pub(super) fn checked(raw: &RawLog, data_dir: &Path) -> Result<Self> {
        let rows_max = raw.rows_max.unwrap_or(100_000);
        if rows_max == 0 {
            return Err(value("log.rows_max", "0 rows is no file; set it to at least 1".to_owned()));
        }
        let upload = raw.upload.as_deref().map(Location::parse).transpose();
        let upload = upload.map_err(|error| value("log.upload", error.to_string()))?;
        if upload.as_ref().is_some_and(|place| place.local_path().is_some()) {
            return Err(value("log.upload", "it is a local path; set `log.dir` instead".to_owned()));
        }
        Ok(Self {
            upload,
            is_enabled: raw.enabled.unwrap_or(true),
            dir: raw.dir.clone().unwrap_or_else(|| data_dir.join("logs")),
            rows_max,
            age_max: span(raw.age_max, Duration::from_secs(60)),
            queue_max: positive("log.queue_max", raw.queue_max, 65_536)?,
        })
    }
}

/// `[predictor]`: the link to the predictor.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its gRPC address, and those of further predictors that share a bus with it (`predictor.url`, `predictor.urls`): a
    /// node begins with one by its name, and goes to the next whenever one is lost.
    pub urls: Vec<Url>,
    /// Requests that are kept until a predictor has acknowledged them; beyond it the oldest are let go of, and counted if
    /// it never does. Default 65,536, about 16 MB.
    pub unacknowledged_max: usize,
    /// Messages of one kind per batch. Default 256.
    pub batch_max: usize,
    /// The longest that a message waits for its batch to fill. Default 5 ms.
    pub flush_interval: Duration,
    /// Messages of one kind waiting to be sent; more are dropped and counted. Default 16,384.
    pub queue_max: usize,
    /// Time to connect. Default 2 s.
    pub connect_timeout: Duration,
    /// The first pause before connecting again; it doubles up to `backoff_max`. Default 100 ms.
    pub backoff_min: Duration,
    /// The longest pause before connecting again. Default 5 s.
    pub backoff_max: Duration,
    /// Segment sets per page of the inventory. Default 1,024.
    pub inventory_page_max: usize,
    /// Certificates (PEM) that an `https://` predictor's chain must end in. By default those that peers' listeners are
    /// held to, where there are any, else the public ones.
    pub ca: Option<PathBuf>,
}

impl TryFrom<RawLink> for LinkConfig {
    type Error = Error;

    fn try_from(raw: RawLink) -> Result<Self> {
        let backoff_min = span(raw.backoff_min, Duration::from_millis(100)).max(Duration::from_millis(1));
        let urls = predictor_urls(raw.url.as_deref(), &raw.urls)?;
        if let Some(url) = urls.iter().find(|url| raw.ca.is_some() && url.scheme() != "https") {
            return Err(value("predictor.ca", format!("`{url}` is not https://, so no certificate is checked")));
        }
        Ok(Self {
            urls,
            unacknowledged_max: positive("predictor.unacknowledged_max", raw.unacknowledged_max, 65_536)?,
            batch_max: positive("predictor.batch_max", raw.batch_max, 256)?,
            flush_interval: span(raw.flush_interval, Duration::from_millis(5)),
            queue_max: positive("predictor.queue_max", raw.queue_max, 16_384)?,
            connect_timeout: span(raw.connect_timeout, Duration::from_secs(2)),
            backoff_min,
            backoff_max: span(raw.backoff_max, Duration::from_secs(5)).max(backoff_min),
            inventory_page_max: positive("predictor.inventory_page_max", raw.inventory_page_max, 1_024)?,
            ca: raw.ca,
        })
    }
}

/// The one that is named and the further ones, each once.
fn predictor_urls(one: Option<&str>, further: &[String]) -> Result<Vec<Url>> {
    let one = one.map(|url| http_url("predictor.url", url));
    let mut urls: Vec<Url> = Vec::new();
    for url in one.into_iter().chain(further.iter().map(|url| http_url("predictor.urls", url))) {
        let url = url?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    if urls.is_empty() {
        return Err(value("predictor.url", "it is missing: name a predictor, or leave [predictor] out".to_owned()));
    }
    Ok(urls)
}

/// `[emulation]`: round trips that are slept before each outgoing fetch, to stand for distance on one machine.
#[derive(Clone, Debug, Default)]
pub struct EmulationConfig {
    /// To the origin.
    pub origin: Duration,
    /// To peers, by their region; none for regions that are not named.
    pub peers: BTreeMap<Arc<str>, Duration>,
    /// What fills in for regions that `peers` does not name, sped up as configured.
    pub topology: Option<Arc<Topology>>,
}

impl EmulationConfig {
    pub(super) fn checked(raw: &RawEmulation, region: &str) -> Result<Self> {
        let topology = match raw.topology.as_deref() {
            None => None,
            Some("default") => Some(Topology::default()),
            Some(path) => Some(Topology::load(Path::new(path))?),
        };
        let topology = topology.map(|topology| topology.sped_up(raw.speed.unwrap_or(1.0))).transpose()?;
        if let Some(topology) = &topology {
            topology.check_regions(&[region])?;
        }
        let from_topology = topology.as_ref().map_or(Duration::ZERO, |topology| topology.origin_rtt(region));
        Ok(Self {
            origin: span(raw.origin, from_topology),
            peers: raw.peers.iter().map(|(region, rtt)| (Arc::from(region.as_str()), rtt.0)).collect(),
            topology: topology.map(Arc::new),
        })
    }

    /// The round trip to a peer in `to` from a node in `from`.
    pub fn peer_rtt(&self, from: &str, to: &str) -> Duration {
        let known = self.topology.as_ref().filter(|topology| topology.check_regions(&[to]).is_ok());
        let from_topology = || known.map_or(Duration::ZERO, |topology| topology.rtt(from, to));
        self.peers.get(to).copied().unwrap_or_else(from_topology)
    }

    /// Bytes per second to a peer in `to` from a node in `from`, for choosing between peers.
    pub fn peer_bandwidth(&self, from: &str, to: &str) -> f64 {
        self.topology.as_ref().map_or(f64::INFINITY, |topology| topology.bandwidth(from, to))
    }
}

/// `[index]` and `[prefetch]`: the bounds of the node core. Most requests that the origin takes at a time are demand's.
pub(super) fn core(
    capacity_bytes: u64,
    index: &RawIndex,
    prefetch: &RawPrefetch,
    origin: &OriginConfig,
) -> Result<NodeCoreConfig> {
    let defaults = NodeCoreConfig::default();
    let policy = index.policy.as_deref().map_or(Ok(PolicyKind::default()), policy)?;
    let index = IndexConfig {
        capacity_bytes,
        entries_max: index.entries_max.unwrap_or(defaults.index.entries_max),
        policy,
        probation: defaults.index.probation,
        probation_share: index.probation_share.unwrap_or(defaults.index.probation_share),
        pinned_share: index.pinned_share.unwrap_or(defaults.index.pinned_share),
    };
    Ok(NodeCoreConfig {
        index,
        queue_max: prefetch.queue_max.unwrap_or(defaults.queue_max),
        prefetch_flights_max: prefetch
            .concurrency_max
            .unwrap_or(defaults.prefetch_flights_max)
            .min(origin.concurrency_max.div_ceil(ORIGIN_SHARE)),
        prefetch_flight_bytes_max: prefetch.bytes_in_flight_max.map_or(defaults.prefetch_flight_bytes_max, |s| s.0),
        ..defaults
    })
}

fn policy(name: &str) -> Result<PolicyKind> {
    let quoted = toml::Value::String(name.to_owned());
    quoted.try_into().map_err(|error: toml::de::Error| value("index.policy", error.message().to_owned()))
}

pub(super) fn span(raw: Option<Span>, default: Duration) -> Duration {
    raw.map_or(default, |span| span.0)
}

pub(super) fn positive(key: &'static str, raw: Option<usize>, default: usize) -> Result<usize> {
    match raw.unwrap_or(default) {
        0 => Err(value(key, "0 would let nothing through; set it to at least 1".to_owned())),
        bound => Ok(bound),
    }
}

/// Prefetches take at most one of so many requests that may be under way to the origin.
const ORIGIN_SHARE: usize = 4;
/// Header, page alignment and blob index of one entry on disk.
const ENTRY_OVERHEAD_BYTES: u64 = 16 << 10;
