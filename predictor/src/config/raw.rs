//! The configuration as the file says it.

use std::path::PathBuf;

use nearcast_cache_node::tls::ServiceTls;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    arms::ShadowSettings,
    engine::{Arm, EngineConfig},
    placing::RawPlacement,
};

/// A predictor's file before it is checked; see [`PredictorConfig`](super::PredictorConfig) for an example.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictorSettings {
    /// Where gRPC is served.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Where the page, probes, metrics and status are served.
    #[serde(default = "default_http_listen")]
    pub http_listen: String,
    /// Where the generation, the log of purges and the event log are kept.
    pub data_dir: PathBuf,
    /// The model registry: a directory or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The file with the admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// How gRPC is served; plain without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceTls>,
    /// The alias whose version is in service.
    #[serde(default = "default_alias")]
    pub alias: String,
    /// Pause between looks at the alias.
    #[serde(default = "default_registry_poll")]
    pub registry_poll_seconds: f64,
    /// The arm in force at start.
    #[serde(default)]
    pub arm: Arm,
    /// A topology file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<PathBuf>,
    /// How long streams may take to end at shutdown.
    #[serde(default = "default_patience")]
    pub drain_seconds: f64,
    /// How long a new stream may take to say hello.
    #[serde(default = "default_patience")]
    pub hello_seconds: f64,
    /// Pause between probes of silent connections.
    #[serde(default = "default_patience")]
    pub keepalive_seconds: f64,
    /// Bounds of queues.
    #[serde(default)]
    pub queues: QueueSettings,
    /// Bounds of the event log.
    #[serde(default)]
    pub events: EventSettings,
    /// The slots of time that what nodes measured is kept in.
    #[serde(default = "default_slot")]
    pub history_slot_seconds: f64,
    /// The arms beside the one in force.
    #[serde(default)]
    pub shadow: ShadowSettings,
    /// What the page remembers.
    #[serde(default)]
    pub page: PageSettings,
    /// The engine's settings.
    #[serde(default)]
    pub engine: EngineConfig,
    /// What decides which nodes hold which keys.
    #[serde(default)]
    pub placement: RawPlacement,
    /// What is shared with other predictors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<super::RawBus>,
}

/// Bounds of the queues around the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Messages that wait for the engine; beyond it, streams are not read, and nodes hold back and drop.
    pub inputs_max: usize,
    /// Commands that wait for one node; beyond it, commands are dropped and counted.
    pub commands_max: usize,
}

impl QueueSettings {
    pub(super) fn check(&self) -> Result<()> {
        within("queues.inputs_max", self.inputs_max)?;
        within("queues.commands_max", self.commands_max)
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { inputs_max: 256, commands_max: 1_024 }
    }
}

/// Bounds of the event log `events.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Events that wait to be written or read by a subscriber; beyond it, events are dropped and counted.
    pub queue_max: usize,
    /// Size at which the file is rotated.
    pub file_bytes_max: usize,
    /// Files kept, the one being written included.
    pub files_max: usize,
}

impl EventSettings {
    pub(super) fn check(&self) -> Result<()> {
        within("events.queue_max", self.queue_max)?;
        within("events.file_bytes_max", self.file_bytes_max)?;
        within("events.files_max", self.files_max)
    }
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { queue_max: 4_096, file_bytes_max: 16 << 20, files_max: 4 }
    }
}

/// What the page remembers of how things were: by default of the last two hours, every ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageSettings {
    /// Pause between samples.
    pub sample_seconds: f64,
    /// Samples kept, about 500 bytes each; beyond it, the oldest make room.
    pub samples_max: usize,
}

impl PageSettings {
    pub(super) fn check(&self) -> Result<()> {
        super::seconds("page.sample_seconds", self.sample_seconds)?;
        if (2..=SAMPLES_MAX).contains(&self.samples_max) {
            return Ok(());
        }
        let value = self.samples_max.to_string();
        Err(Error::Setting { name: "page.samples_max", value, expected: "between 2 and 10000" })
    }
}

impl Default for PageSettings {
    fn default() -> Self {
        Self { sample_seconds: 10.0, samples_max: 720 }
    }
}

fn within(name: &'static str, value: usize) -> Result<()> {
    if (1..=BOUND_MAX).contains(&value) {
        return Ok(());
    }
    Err(Error::Setting { name, value: value.to_string(), expected: "between 1 and 1073741824" })
}

/// A page is sent all of them at first.
const SAMPLES_MAX: usize = 10_000;
/// Far above any sensible bound; what is larger is a mistake.
const BOUND_MAX: usize = 1 << 30;

fn default_listen() -> String {
    "127.0.0.1:7700".to_owned()
}

fn default_http_listen() -> String {
    "127.0.0.1:7701".to_owned()
}

fn default_alias() -> String {
    "champion".to_owned()
}

fn default_registry_poll() -> f64 {
    2.0
}

fn default_slot() -> f64 {
    10.0
}

fn default_patience() -> f64 {
    10.0
}
