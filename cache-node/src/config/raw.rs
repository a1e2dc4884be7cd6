//! What an operator wrote in `node.toml`, field by field, without effects or checks beyond types.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{
    access_log::AccessLogFormat,
    units::{Size, Span},
};
use crate::watch::ClientName;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) listen: String,
    pub(super) advertise_url: Option<String>,
    pub(super) data_dir: PathBuf,
    pub(super) capacity: Size,
    pub(super) segment_size: Option<Size>,
    pub(super) origin: RawOrigin,
    #[serde(default)]
    pub(super) index: RawIndex,
    #[serde(default)]
    pub(super) store: RawStore,
    #[serde(default)]
    pub(super) peers: RawPeers,
    #[serde(default)]
    pub(super) front: RawFront,
    #[serde(default)]
    pub(super) prefetch: RawPrefetch,
    #[serde(default)]
    pub(super) log: RawLog,
    pub(super) access_log: Option<RawAccessLog>,
    pub(super) predictor: Option<RawLink>,
    pub(super) tls: Option<RawTls>,
    #[serde(default)]
    pub(super) emulation: RawEmulation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOrigin {
    pub(super) url: String,
    pub(super) connect_timeout: Option<Span>,
    pub(super) response_timeout: Option<Span>,
    pub(super) read_timeout: Option<Span>,
    pub(super) idle_connections_max: Option<usize>,
    pub(super) object_size_max: Option<Size>,
    pub(super) unsized_body_max: Option<Size>,
    pub(super) default_max_age: Option<Span>,
    pub(super) concurrency_max: Option<usize>,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIndex {
    pub(super) entries_max: Option<usize>,
    pub(super) policy: Option<String>,
    pub(super) probation_share: Option<f64>,
    pub(super) pinned_share: Option<f64>,
    pub(super) keys_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub(super) memory: Option<Size>,
    pub(super) disk: Option<Size>,
    pub(super) write_buffer: Option<Size>,
    pub(super) write_queue: Option<Size>,
    pub(super) journal_queue_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeers {
    pub(super) timeout: Option<Span>,
    pub(super) probe_after: Option<Span>,
    pub(super) probe_timeout: Option<Span>,
    pub(super) attempts_max: Option<usize>,
    pub(super) hash_homes: Option<bool>,
    pub(super) failure_backoff: Option<Span>,
    pub(super) tls: Option<RawPeersTls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeersTls {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) server_ca: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) listen: Option<String>,
    pub(super) handshake_timeout: Option<Span>,
    pub(super) poll_interval: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFront {
    pub(super) connections_max: Option<usize>,
    pub(super) header_read_timeout: Option<Span>,
    pub(super) header_size_max: Option<Size>,
    pub(super) request_body_max: Option<Size>,
    pub(super) drain_timeout: Option<Span>,
    pub(super) read_ahead_max: Option<usize>,
    pub(super) ranges_max: Option<usize>,
    pub(super) admin_token_file: Option<PathBuf>,
    pub(super) watchers_max: Option<usize>,
    pub(super) watch_queue_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrefetch {
    pub(super) concurrency_max: Option<usize>,
    pub(super) queue_max: Option<usize>,
    pub(super) bytes_in_flight_max: Option<Size>,
    pub(super) warm_concurrency_max: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) enabled: Option<bool>,
    pub(super) dir: Option<PathBuf>,
    pub(super) rows_max: Option<u64>,
    pub(super) age_max: Option<Span>,
    pub(super) queue_max: Option<usize>,
    pub(super) upload: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccessLog {
    pub(super) path: PathBuf,
    pub(super) format: Option<AccessLogFormat>,
    pub(super) client: Option<ClientName>,
    pub(super) extra_fields: Option<bool>,
    pub(super) queue_max: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) urls: Vec<String>,
    pub(super) unacknowledged_max: Option<usize>,
    pub(super) batch_max: Option<usize>,
    pub(super) flush_interval: Option<Span>,
    pub(super) queue_max: Option<usize>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) backoff_min: Option<Span>,
    pub(super) backoff_max: Option<Span>,
    pub(super) inventory_page_max: Option<usize>,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEmulation {
    pub(super) topology: Option<String>,
    pub(super) speed: Option<f64>,
    pub(super) origin: Option<Span>,
    #[serde(default)]
    pub(super) peers: BTreeMap<String, Span>,
}
