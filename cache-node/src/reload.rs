//! Putting changed files in force while the node runs: its configuration, the admin token, certificates and keys.
//!
//! A reload is all or nothing: everything that can fail is done before anything changes. Besides, the files of TLS are
//! looked at every few seconds, and what has changed and works is taken up without being told.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nearcast_proto::AdminToken;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde::Serialize;
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::{
    clock,
    config::{Changes, NodeConfig},
    error::Result,
    front::Front,
    origin::OriginClient,
    peers::PeersClient,
    tls::Loaded,
};

/// What came of a reload: the document of `POST /_nearcast/reload`.
#[derive(Debug, Serialize)]
pub(crate) struct ReloadReport {
    schema: &'static str,
    /// Keys whose new value is in force now.
    applied: Vec<&'static str>,
    /// Keys whose new value takes a restart; the old one stays in force.
    needs_restart: Vec<&'static str>,
    /// Why nothing was changed at all.
    pub(crate) error: Option<String>,
}

/// What is known about the last reload.
#[derive(Debug)]
pub(crate) struct ReloadMetrics {
    successful: Gauge,
    succeeded_at_seconds: Gauge,
}

impl Default for ReloadMetrics {
    fn default() -> Self {
        let metrics = Self { successful: Gauge::default(), succeeded_at_seconds: Gauge::default() };
        metrics.succeeded();
        metrics
    }
}

impl ReloadMetrics {
    fn succeeded(&self) {
        self.successful.set(1);
        self.succeeded_at_seconds.set(clock::now().micros() / 1_000_000);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "config_last_reload_successful",
            "Whether the last reload of the configuration succeeded",
            self.successful.clone(),
        );
        registry.register(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read",
            self.succeeded_at_seconds.clone(),
        );
    }
}

/// Which contents of the watched files are in force. Its lock keeps reloads apart.
#[derive(Debug)]
pub(crate) struct Reloading {
    watches: Mutex<[Watch; Group::ALL.len()]>,
}

impl Reloading {
    /// Takes the files as they are for those in force; so it is made before they are used.
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self { watches: Mutex::new(Group::ALL.map(|group| Watch::new(group.digest(config)))) }
    }
}

/// Reads the configuration file again and takes over what may change while the node runs.
pub(crate) async fn reload(front: &Arc<Front>) -> ReloadReport {
    let mut watches = front.reloading.watches.lock().await;
    let reading = spawn_blocking({
        let front = Arc::clone(front);
        move || Prepared::read(&front).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    });
    let metrics = &front.shell.metrics.reload;
    match reading.await.unwrap_or_else(|panic| Err(panic.to_string())) {
        Ok(prepared) => {
            *watches = prepared.digests.map(Watch::new);
            let report = prepared.put_in_force(front);
            metrics.succeeded();
            report.log();
            report
        }
        Err(error) => {
            metrics.successful.set(0);
            tracing::error!(%error, "the configuration cannot be reloaded; the one before stays in force");
            ReloadReport::new(Vec::new(), Vec::new(), Some(error))
        }
    }
}

impl ReloadReport {
    fn new(applied: Vec<&'static str>, needs_restart: Vec<&'static str>, error: Option<String>) -> Self {
        Self { schema: "nearcast.reload/1", applied, needs_restart, error }
    }

    fn log(&self) {
        let applied = self.applied.join(", ");
        tracing::info!(%applied, "the configuration was reloaded");
        if !self.needs_restart.is_empty() {
            let keys = self.needs_restart.join(", ");
            tracing::warn!(%keys, "these keys have changed and need a restart; the values before stay in force");
        }
    }
}

/// A reload of which nothing can fail any more.
struct Prepared {
    changes: Changes,
    admin_token: Option<AdminToken>,
    tls: Option<Loaded>,
    /// Absent where nothing about it has changed, as it would lose its open connections.
    peers: Option<PeersClient>,
    /// Likewise.
    origin: Option<OriginClient>,
    /// What the watched files held just before they were read.
    digests: [blake3::Hash; Group::ALL.len()],
}

impl Prepared {
    fn read(front: &Front) -> Result<Self> {
        let present = front.shell.live_full();
        let wanted = match &present.file {
            Some(file) => NodeConfig::load(file)?,
            None => NodeConfig::clone(&present),
        };
        let changes = present.changes(&wanted);
        let config = &changes.config;
        let digests = Group::ALL.map(|group| group.digest(config));
        let has_changed = |section: &str| changes.applied.iter().any(|key| key.starts_with(section));
        Ok(Self {
            admin_token: config.front.admin_token_file.as_deref().map(AdminToken::read).transpose()?,
            tls: config.tls.as_ref().map(|tls| Loaded::read(tls, config.peers.tls.as_ref())).transpose()?,
            peers: (has_changed("peers.") || config.peers.tls.is_some())
                .then(|| PeersClient::new(&config.peers))
                .transpose()?,
            origin: (has_changed("origin.") || config.origin.ca.is_some())
                .then(|| front.shell.origin.changed(&config.origin))
                .transpose()?,
            digests,
            changes,
        })
    }

    fn put_in_force(self, front: &Front) -> ReloadReport {
        let Changes { config, applied, needs_restart } = self.changes;
        front.admin_token.store(self.admin_token.map(Arc::new));
        if let (Some(server), Some(loaded)) = (&front.tls, self.tls) {
            server.replace(loaded);
        }
        if let Some(client) = self.peers {
            front.shell.peers.replace(client);
        }
        if let Some(client) = self.origin {
            front.shell.origin.replace(client);
        }
        if let Some(log) = &front.log {
            log.set_config(&config.log);
        }
        if let Some(log) = &front.access_log {
            log.reopen();
        }
        front.set_connections_max(config.front.connections_max);
        front.shell.set_live(config);
        if applied.iter().any(|key| key.starts_with("predictor.")) {
            front.shell.relink.notify_one();
        }
        ReloadReport::new(applied, needs_restart, None)
    }
}

/// Looks at the files of TLS until the node stops, and takes up what has changed.
pub(crate) async fn watch(front: Arc<Front>) {
    loop {
        let pause = front.shell.live().tls.as_ref().map_or(POLL_INTERVAL, |tls| tls.poll_interval);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = front.stop.cancelled() => return,
        }
        let mut watches = front.reloading.watches.lock().await;
        for (group, watch) in Group::ALL.into_iter().zip(&mut *watches) {
            let config = front.shell.live_full();
            let Ok(digest) = spawn_blocking(move || group.digest(&config)).await else { continue };
            if watch.has_settled(digest) {
                take_up(&front, group).await;
            }
        }
    }
}

async fn take_up(front: &Arc<Front>, group: Group) {
    let taking = spawn_blocking({
        let front = Arc::clone(front);
        move || group.take_up(&front)
    });
    let metrics = &front.shell.metrics.tls;
    match taking.await {
        Ok(Ok(())) => {
            metrics.reloads.inc();
            tracing::info!(?group, "changed certificates or keys are in use from now on");
        }
        Ok(Err(error)) => {
            metrics.reload_failures.inc();
            tracing::error!(?group, %error, "changed certificates or keys cannot be used; those before stay in use");
        }
        Err(panic) => tracing::error!(?group, %panic, "changed certificates or keys were not taken up"),
    }
}

/// Files that are taken up together.
#[derive(Clone, Copy, Debug)]
enum Group {
    Listener,
    Origin,
    Peers,
}

impl Group {
    const ALL: [Self; 3] = [Self::Listener, Self::Origin, Self::Peers];

    fn files(self, config: &NodeConfig) -> Vec<&Path> {
        let (tls, peers) = (config.tls.iter(), config.peers.tls.iter());
        let files: Vec<&PathBuf> = match self {
            Self::Listener => {
                tls.flat_map(|tls| [&tls.certificate, &tls.key]).chain(peers.map(|peers| &peers.ca)).collect()
            }
            Self::Origin => config.origin.ca.iter().collect(),
            Self::Peers => peers
                .flat_map(|peers| [&peers.ca, &peers.certificate, &peers.key].into_iter().chain(&peers.server_ca))
                .collect(),
        };
        files.into_iter().map(PathBuf::as_path).collect()
    }

    /// Tells contents apart. By content, as links and copies may keep a file's time.
    fn digest(self, config: &NodeConfig) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for file in self.files(config) {
            let content = std::fs::read(file).unwrap_or_default();
            hasher.update(&(content.len() as u64).to_le_bytes()).update(&content);
        }
        hasher.finalize()
    }

    fn take_up(self, front: &Front) -> Result<()> {
        let config = front.shell.live_full();
        match self {
            Self::Listener => {
                if let (Some(server), Some(tls)) = (&front.tls, &config.tls) {
                    server.replace(Loaded::read(tls, config.peers.tls.as_ref())?);
                }
            }
            Self::Origin => front.shell.origin.replace(front.shell.origin.changed(&config.origin)?),
            Self::Peers => front.shell.peers.replace(PeersClient::new(&config.peers)?),
        }
        Ok(())
    }
}

/// What is known of a group's files.
#[derive(Debug)]
struct Watch {
    /// What was last used, or tried.
    tried: blake3::Hash,
    /// What was last seen.
    seen: blake3::Hash,
}

impl Watch {
    fn new(digest: blake3::Hash) -> Self {
        Self { tried: digest, seen: digest }
    }

    /// Whether new content was found for the second time: a pair is replaced one file after the other, and what is being
    /// written is not tried.
    fn has_settled(&mut self, digest: blake3::Hash) -> bool {
        let is_settled = std::mem::replace(&mut self.seen, digest) == digest;
        is_settled && std::mem::replace(&mut self.tried, digest) != digest
    }
}

/// Where there is no section that says otherwise.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_content_is_tried_once_when_it_has_settled() {
        let content = |text: &str| blake3::hash(text.as_bytes());
        let mut watch = Watch::new(content("a"));
        for (text, expected) in [("a", false), ("b", false), ("c", false), ("c", true), ("c", false), ("a", false)] {
            assert_eq!(watch.has_settled(content(text)), expected, "{text}");
        }
        assert!(watch.has_settled(content("a")), "back to what was before");
    }
}
