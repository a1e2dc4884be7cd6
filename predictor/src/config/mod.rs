//! The service's configuration: as written, and checked.

mod bus;
mod raw;
mod would;

use std::{path::Path, path::PathBuf, time::Duration};

use nearcast_cache_node::tls::ServiceTls;
use nearcast_proto::{AdminToken, config_file, topology::Topology};

pub use self::bus::{BusConfig, RawBus};
pub use self::raw::{EventSettings, PageSettings, PredictorSettings, QueueSettings};
use crate::{
    Error, Result,
    arms::ShadowSettings,
    engine::{Arm, EngineConfig},
    placing::PlacementSettings,
};

/// Checked configuration: the only thing a predictor can be run with.
///
/// ```toml
/// listen = "127.0.0.1:7700"         # gRPC; port 0 takes any free one
/// http_listen = "127.0.0.1:7701"    # the page, /livez /readyz /metrics /status /api
/// data_dir = "nearcast-data/predictor"
/// registry = "models"               # directory or object-store URL; without one it learns online only
/// alias = "champion"
/// arm = "nearcast"                  # or "none"
/// topology = "topology.toml"        # without one, the built-in topology
///
/// [tls]                             # without it, gRPC is plain
/// certificate = "predictor.crt"
/// key = "predictor.key"
/// client_ca = "peers-ca.crt"        # who signs what nodes and operators show
///
/// [shadow]                          # what every arm would do, beside the one in force
/// sample_share = 0.1                # of the keys
/// [page]                            # what the page remembers of how things were
/// sample_seconds = 10.0
/// samples_max = 720
///
/// [engine]
/// budget_share = 0.25
///
/// [placement]
/// kind = "gapa"                     # "reactive", or "none", the default
///
/// [bus]                             # several predictors for one cluster; without it, this one is alone
/// url = "nats://127.0.0.1:4222"     # or "embedded": a file in the data folder
/// partitions = 12                   # parts that clients are divided in; fixed from then on
/// lease_seconds = 3.0               # so long a predictor that is gone keeps its parts
/// ```
#[derive(Clone, Debug)]
pub struct PredictorConfig {
    /// Where gRPC is served.
    pub listen: String,
    /// Where the page, probes, metrics and status are served.
    pub http_listen: String,
    /// Where the generation, the log of purges, the placement map and the event log are kept.
    pub data_dir: PathBuf,
    /// The model registry, if any.
    pub registry: Option<String>,
    /// The file with the word that whoever changes something must know (metadata `authorization: Bearer …`). Without it,
    /// everybody who reaches the predictor may.
    pub admin_token_file: Option<PathBuf>,
    /// How gRPC is served; plain without it.
    pub tls: Option<ServiceTls>,
    /// The alias whose version is in service.
    pub alias: String,
    /// How often the alias is resolved.
    pub registry_poll: Duration,
    /// The arm in force at start.
    pub arm: Arm,
    /// Where regions are.
    pub topology: Topology,
    /// How long streams may take to end at shutdown.
    pub drain: Duration,
    /// How long a new stream may take to say hello.
    pub hello: Duration,
    /// Pause between probes of silent connections; a node that does not answer for as long again is gone.
    pub keepalive: Duration,
    /// Bounds of queues.
    pub queues: QueueSettings,
    /// Bounds of the event log.
    pub events: EventSettings,
    /// The arms beside the one in force.
    pub shadow: ShadowSettings,
    /// The slots of time that what nodes measured is kept in, as the history of the next experiment.
    pub slot: Duration,
    /// What the page remembers.
    pub page: PageSettings,
    /// The engine's.
    pub engine: EngineConfig,
    /// What decides which nodes hold which keys.
    pub placement: PlacementSettings,
    /// What is shared with other predictors; nothing without it.
    pub bus: Option<BusConfig>,
}

impl PredictorConfig {
    /// Reads and checks a configuration file. Relative paths in it start at the file's folder.
    ///
    /// # Errors
    /// [`Error::Contract`] for a file or topology that is not valid, [`Error::Setting`] for a value out of range.
    pub fn load(path: &Path) -> Result<Self> {
        let mut settings: PredictorSettings = config_file::load(path)?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        settings.data_dir = base.join(settings.data_dir);
        settings.admin_token_file = settings.admin_token_file.map(|file| base.join(file));
        settings.tls = settings.tls.map(|tls| tls.below(base));
        settings.topology = settings.topology.map(|topology| base.join(topology));
        settings.registry = settings.registry.map(|registry| resolve_location(base, registry));
        settings.bus = settings.bus.map(|bus| bus.below(base));
        Self::try_from(settings)
    }

    /// Reads what the configuration names besides itself, as the predictor does when it starts: token, certificate, key.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn check_files(&self) -> Result<()> {
        self.admin_token_file.as_deref().map(AdminToken::read).transpose()?;
        self.tls.as_ref().map(ServiceTls::for_grpc).transpose().map_err(Error::Certificate)?;
        self.bus.as_ref().map(|bus| bus.settings(&self.data_dir)).transpose()?;
        Ok(())
    }
}

impl TryFrom<PredictorSettings> for PredictorConfig {
    type Error = Error;

    fn try_from(settings: PredictorSettings) -> Result<Self> {
        settings.queues.check()?;
        settings.events.check()?;
        settings.page.check()?;
        if settings.alias.is_empty() {
            return Err(Error::Setting { name: "alias", value: String::new(), expected: "a name" });
        }
        let topology = settings.topology.as_deref().map_or_else(|| Ok(Topology::default()), Topology::load)?;
        Ok(Self {
            listen: settings.listen,
            http_listen: settings.http_listen,
            data_dir: settings.data_dir,
            registry: settings.registry,
            admin_token_file: settings.admin_token_file,
            tls: settings.tls,
            alias: settings.alias,
            registry_poll: seconds("registry_poll_seconds", settings.registry_poll_seconds)?,
            arm: settings.arm,
            topology,
            drain: seconds("drain_seconds", settings.drain_seconds)?,
            hello: seconds("hello_seconds", settings.hello_seconds)?,
            keepalive: seconds("keepalive_seconds", settings.keepalive_seconds)?,
            queues: settings.queues,
            events: settings.events,
            shadow: settings.shadow.checked()?,
            slot: seconds("history_slot_seconds", settings.history_slot_seconds)?,
            page: settings.page,
            engine: settings.engine,
            placement: settings.placement.try_into()?,
            bus: settings.bus.map(BusConfig::try_from).transpose()?,
        })
    }
}

/// A URL stays as it is.
fn resolve_location(base: &Path, location: String) -> String {
    if location.contains("://") { location } else { base.join(location).to_string_lossy().into_owned() }
}

fn seconds(name: &'static str, value: f64) -> Result<Duration> {
    if (SECONDS_MIN..=SECONDS_MAX).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(Error::Setting { name, value: value.to_string(), expected: "between 0.01 and 3600 seconds" })
}

const SECONDS_MIN: f64 = 0.01;
const SECONDS_MAX: f64 = 3_600.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PredictorConfig> {
        PredictorConfig::try_from(config_file::parse::<PredictorSettings>(Path::new("p.toml"), text)?)
    }

    #[test]
    fn a_folder_is_all_that_must_be_said() {
        let config = parse("data_dir = \"d\"").unwrap();
        assert_eq!((config.alias.as_str(), config.arm), ("champion", Arm::Nearcast));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (text, part) in [
            ("data_dir = \"d\"\nregistri = \"r\"", "did you mean `registry`?"),
            ("data_dir = \"d\"\n[engine]\nbudget = 1", "unknown field `budget`"),
            ("data_dir = \"d\"\n[engine]\nbudget_share = -1.0", "budget_share"),
            ("data_dir = \"d\"\narm = \"lru\"", "unknown variant `lru`"),
            ("data_dir = \"d\"\n[placement]\nkind = \"static\"", "unknown variant `static`"),
            ("data_dir = \"d\"\n[placement]\nshare = 2.0", "placement.share"),
            ("data_dir = \"d\"\ndrain_seconds = 0.0", "drain_seconds"),
            ("data_dir = \"d\"\n[shadow]\nsample_share = 0.0", "shadow.sample_share"),
            ("data_dir = \"d\"\n[shadow]\narms_max = 99", "shadow.arms_max"),
            ("data_dir = \"d\"\n[queues]\ninputs_max = 0", "queues.inputs_max"),
            ("data_dir = \"d\"\n[page]\nsample_seconds = 0.0", "page.sample_seconds"),
            ("data_dir = \"d\"\n[page]\nsamples_max = 10001", "page.samples_max"),
            ("data_dir = \"d\"\ntopology = \"/nonexistent.toml\"", "/nonexistent.toml"),
            ("data_dir = \"d\"\n[bus]\nurl = \"http://h\"", "bus.url"),
            ("data_dir = \"d\"\n[bus]\nurl = \"embedded\"\npartitions = 0", "bus.partitions"),
            ("data_dir = \"d\"\n[bus]\nurl = \"embedded\"\nuser = \"u\"", "password_file"),
            ("data_dir = \"d\"\n[bus]\nurl = \"embedded\"\nname = \"a b\"", "bus.name"),
            ("", "data_dir"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, "data_dir = \"d\"\nregistry = \"models\"").unwrap();
        let config = PredictorConfig::load(&file).unwrap();
        assert_eq!(config.data_dir, folder.path().join("d"));
        assert_eq!(config.registry.as_deref(), folder.path().join("models").to_str());
        assert_eq!(resolve_location(folder.path(), "s3://bucket/models".to_owned()), "s3://bucket/models");
    }
}
