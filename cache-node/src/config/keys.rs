//! Every key of the configuration by name: whether it may change while the node runs, and how it is taken over.

use std::fmt::Debug;

use super::NodeConfig;

/// What a reload makes of a configuration file.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The configuration in force with what may change replaced.
    pub(crate) config: NodeConfig,
    /// Keys that were taken over.
    pub(crate) applied: Vec<&'static str>,
    /// Keys that differ and were left as they are.
    pub(crate) needs_restart: Vec<&'static str>,
}

impl NodeConfig {
    /// What changes when `wanted` comes after this configuration.
    pub(crate) fn changes(&self, wanted: &Self) -> Changes {
        let mut changes = Changes { config: self.clone(), applied: Vec::new(), needs_restart: Vec::new() };
        for key in KEYS.iter().filter(|key| (key.differs)(self, wanted)) {
            match key.take {
                Some(take) => {
                    take(&mut changes.config, wanted);
                    changes.applied.push(key.name);
                }
                None => changes.needs_restart.push(key.name),
            }
        }
        changes
    }
}

/// One key, by the value that it leads to: one that is spelt differently but means the same does not differ.
struct Key {
    name: &'static str,
    differs: fn(&NodeConfig, &NodeConfig) -> bool,
    /// Absent where only a restart puts another value in force.
    take: Option<fn(&mut NodeConfig, &NodeConfig)>,
}

fn differ(one: impl Debug, other: impl Debug) -> bool {
    format!("{one:?}") != format!("{other:?}")
}

/// A key that may change.
macro_rules! live {
    ($name:literal, $($field:ident).+) => {
        Key {
            name: $name,
            differs: |one, other| differ(&one.$($field).+, &other.$($field).+),
            take: Some(|to, from| to.$($field).+.clone_from(&from.$($field).+)),
        }
    };
}

/// A key that may change, in a section that need not be there; where the section comes or goes, that one says so.
macro_rules! live_in {
    ($name:literal, $($section:ident).+ => $field:ident) => {
        Key {
            name: $name,
            differs: |one, other| match (&one.$($section).+, &other.$($section).+) {
                (Some(one), Some(other)) => differ(&one.$field, &other.$field),
                _ => false,
            },
            take: Some(|to, from| {
                if let (Some(to), Some(from)) = (&mut to.$($section).+, &from.$($section).+) {
                    to.$field.clone_from(&from.$field);
                }
            }),
        }
    };
}

/// A key that needs a restart.
macro_rules! fixed {
    ($name:literal, $($field:ident).+) => {
        Key { name: $name, differs: |one, other| differ(&one.$($field).+, &other.$($field).+), take: None }
    };
    ($name:literal, $value:expr) => {
        Key { name: $name, differs: |one, other| differ($value(one), $value(other)), take: None }
    };
}

const KEYS: &[Key] = &[
    fixed!("name", name),
    fixed!("region", region),
    fixed!("listen", listen),
    fixed!("advertise_url", advertise_url),
    fixed!("data_dir", data_dir),
    fixed!("capacity", core.index.capacity_bytes),
    fixed!("segment_size", segment_bytes),
    // Another origin has other objects behind the same keys.
    fixed!("origin.url", origin.url),
    live!("origin.connect_timeout", origin.connect_timeout),
    live!("origin.response_timeout", origin.response_timeout),
    live!("origin.read_timeout", origin.read_timeout),
    live!("origin.idle_connections_max", origin.idle_connections_max),
    live!("origin.object_size_max", origin.object_bytes_max),
    live!("origin.unsized_body_max", origin.unsized_body_bytes_max),
    live!("origin.default_max_age", origin.default_max_age),
    fixed!("origin.concurrency_max", origin.concurrency_max),
    live!("origin.ca", origin.ca),
    fixed!("index.entries_max", core.index.entries_max),
    fixed!("index.policy", core.index.policy),
    fixed!("index.probation_share", core.index.probation_share),
    fixed!("index.pinned_share", core.index.pinned_share),
    fixed!("index.keys_max", keys_max),
    fixed!("store.memory", store.memory_bytes),
    fixed!("store.disk", store.disk_bytes),
    fixed!("store.write_buffer", store.write_buffer_bytes),
    fixed!("store.write_queue", store.write_queue_bytes),
    fixed!("store.journal_queue_max", store.journal_queue_max),
    live!("peers.timeout", peers.timeout),
    live!("peers.probe_after", peers.probe_after),
    live!("peers.probe_timeout", peers.probe_timeout),
    live!("peers.attempts_max", peers.routing.sources_max),
    live!("peers.hash_homes", peers.routing.hash_homes),
    live!("peers.failure_backoff", peers.routing.failure_backoff),
    fixed!("peers.tls", |config: &NodeConfig| config.peers.tls.is_some()),
    live_in!("peers.tls.ca", peers.tls => ca),
    live_in!("peers.tls.certificate", peers.tls => certificate),
    live_in!("peers.tls.key", peers.tls => key),
    live_in!("peers.tls.server_ca", peers.tls => server_ca),
    live!("front.connections_max", front.connections_max),
    live!("front.header_read_timeout", front.header_read_timeout),
    live!("front.header_size_max", front.header_bytes_max),
    live!("front.request_body_max", front.request_body_bytes_max),
    live!("front.drain_timeout", front.drain_timeout),
    live!("front.ranges_max", front.ranges_max),
    live!("front.read_ahead_max", front.read_ahead_max),
    live!("front.admin_token_file", front.admin_token_file),
    fixed!("front.watchers_max", front.watchers_max),
    fixed!("front.watch_queue_max", front.watch_queue_max),
    fixed!("tls", |config: &NodeConfig| config.tls.is_some()),
    live_in!("tls.certificate", tls => certificate),
    live_in!("tls.key", tls => key),
    fixed!("tls.listen", |config: &NodeConfig| config.tls.as_ref().map(|tls| tls.listen)),
    live_in!("tls.handshake_timeout", tls => handshake_timeout),
    live_in!("tls.poll_interval", tls => poll_interval),
    fixed!("prefetch.concurrency_max", core.prefetch_flights_max),
    fixed!("prefetch.queue_max", core.queue_max),
    fixed!("prefetch.bytes_in_flight_max", core.prefetch_flight_bytes_max),
    fixed!("prefetch.warm_concurrency_max", front.warm_concurrency_max),
    fixed!("access_log", |config: &NodeConfig| config.access_log.is_some()),
    fixed!("access_log.path", |config: &NodeConfig| config.access_log.as_ref().map(|log| log.path.clone())),
    fixed!("access_log.format", |config: &NodeConfig| config.access_log.as_ref().map(|log| log.format)),
    fixed!("access_log.client", |config: &NodeConfig| config.access_log.as_ref().map(|log| log.client)),
    fixed!("access_log.extra_fields", |config: &NodeConfig| config.access_log.as_ref().map(|log| log.extra_fields)),
    fixed!("access_log.queue_max", |config: &NodeConfig| config.access_log.as_ref().map(|log| log.queue_max)),
    fixed!("log.enabled", log.is_enabled),
    fixed!("log.dir", log.dir),
    live!("log.rows_max", log.rows_max),
    live!("log.age_max", log.age_max),
    fixed!("log.queue_max", log.queue_max),
    fixed!("log.upload", log.upload),
    fixed!("predictor", |config: &NodeConfig| config.link.is_some()),
    live_in!("predictor.url", link => urls),
    live_in!("predictor.urls", link => urls),
    live_in!("predictor.unacknowledged_max", link => unacknowledged_max),
    live_in!("predictor.batch_max", link => batch_max),
    live_in!("predictor.flush_interval", link => flush_interval),
    fixed!("predictor.queue_max", |config: &NodeConfig| config.link.as_ref().map(|link| link.queue_max)),
    live_in!("predictor.connect_timeout", link => connect_timeout),
    live_in!("predictor.backoff_min", link => backoff_min),
    live_in!("predictor.backoff_max", link => backoff_max),
    live_in!("predictor.inventory_page_max", link => inventory_page_max),
    live_in!("predictor.ca", link => ca),
    fixed!("emulation.topology", emulation.topology),
    fixed!("emulation.origin", emulation.origin),
    fixed!("emulation.peers", emulation.peers),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(front: &str, more: &str) -> NodeConfig {
        let text = format!(
            "name = \"n1\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"/tmp/x\"\ncapacity = \"64MiB\"\n{front}\n\
             [origin]\nurl = \"http://127.0.0.1:9\"\n{more}"
        );
        NodeConfig::parse(&text, Path::new("node.toml")).unwrap()
    }

    /// A key that is missing here would change without anybody being told.
    #[test]
    fn every_key_that_can_be_written_is_listed() {
        let (mut section, raw) = (String::new(), include_str!("raw.rs"));
        for line in raw.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("pub(super) struct Raw") {
                section = match name.trim_end_matches(" {") {
                    "Config" => String::new(),
                    "AccessLog" => "access_log.".to_owned(),
                    "Link" => "predictor.".to_owned(),
                    "PeersTls" => "peers.tls.".to_owned(),
                    other => format!("{}.", other.to_lowercase()),
                };
            } else if let Some((key, _)) = line.strip_prefix("pub(super) ").and_then(|line| line.split_once(": ")) {
                let (name, is_section) = (format!("{section}{key}"), line.contains(": Raw"));
                // What multiplies a topology is part of it.
                let is_known = name == "emulation.speed" || KEYS.iter().any(|key| key.name == name);
                assert!(is_section || is_known, "{name} is missing");
            }
        }
    }

    #[test]
    fn what_may_change_is_taken_over_and_the_rest_is_named() {
        let before = parse("", "");
        let after = parse(
            "segment_size = \"2MiB\"",
            "response_timeout = \"1s\"\nconcurrency_max = 1024\n[front]\nread_ahead_max = 9\n[tls]\ncertificate = \"a\"\nkey = \"b\"",
        );
        let changes = before.changes(&after);
        assert_eq!(changes.applied, ["origin.response_timeout", "front.read_ahead_max"]);
        assert!(changes.needs_restart.starts_with(&["segment_size"]) && changes.needs_restart.contains(&"tls"));
        assert_eq!((changes.config.front.read_ahead_max, changes.config.segment_bytes), (9, 1 << 20));
        let settled = changes.config.changes(&after);
        assert!(settled.applied.is_empty() && settled.needs_restart == changes.needs_restart);
    }

    #[test]
    fn a_value_that_is_only_spelt_differently_is_no_change() {
        let changes = parse("", "").changes(&parse("segment_size = 1048576", "read_timeout = \"10000ms\""));
        assert!(changes.applied.is_empty() && changes.needs_restart.is_empty(), "{changes:?}");
    }
}
