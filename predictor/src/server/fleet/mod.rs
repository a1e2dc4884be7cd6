//! A predictor among others that serve the same cluster.
//!
//! Every predictor accepts nodes. What clients ask for is appended to the log by whoever is told of it, and learnt by
//! whoever owns the clients' partition; everything else that a node says is told to all predictors, so that each of
//! them knows every node and what it holds; and what one orders for a node of another is relayed by that one.
//!
//! | file | concern |
//! | --- | --- |
//! | `mod` | opening the bus, taking part, leaving |
//! | `generation` | numbers that no other start of a predictor has |
//! | `intake` | requests to the log, and their acknowledgement |
//! | `learners` | partitions to the engine |
//! | `said` | what one's own nodes say, and orders for those of others, to the bus |
//! | `tails` | the same from the bus |
//! | `records` | how all that is written |
//! | `purges` | purges in one order for all |
//! | `office` | placement, done by one for all |
//! | `experiments` | experiments, the same |
//! | `conductor` | who does that |
//! | `chronicle` | their record, to which only one can add |
//! | `history` | what nodes measured, for plans |
//! | `regime` | the arms in force, as that one says and all obey |
//! | `standing` | whether and how this one takes part, for probes and `/status` |
//!
//! What is decided about it is in the controller (`controller/fleet`).

mod chronicle;
mod conductor;
mod experiments;
mod generation;
mod history;
mod intake;
mod learners;
mod office;
mod purges;
mod records;
mod regime;
mod said;
mod standing;
mod tails;

use std::{path::Path, sync::Arc, time::Duration};

use nearcast_bus::{
    BucketSpec, Bus, Discard, LeaseSettings, SharedBucket, Spool, SpoolSettings, StreamSpec, SystemClock, Tail,
    fleet::{Fleet, FleetPlace, FleetSettings},
};
use nearcast_models::Registry;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

#[cfg(test)]
pub(super) use self::regime::ToldArm;
use self::{
    chronicle::record_spec,
    experiments::ExperimentsOffice,
    history::HistoryStream,
    learners::ServiceLearners,
    office::{OFFICE, Office},
    regime::{RegimeWatch, regime_spec},
    said::NODES_PARTITIONS,
    tails::Tails,
};
pub(super) use self::{
    conductor::{ConductorSeat, Tidings},
    experiments::office as experiments_office,
    intake::{Intake, RequestLog},
    office::office,
    purges::{PurgeRefused, SharedPurges, catch_up},
    records::{Home, NodeRecord, OrderRecord, Said},
    regime::{Loaded, Promoted, Regime},
    said::Outlets,
    standing::{FleetStatus, Standing},
};
use super::{controller::FleetSide, input::RelayedAsk, inputs::Inputs};
use crate::{
    BusConfig, PlacementKind, PredictorConfig, Result,
    fleet::{checkpoints_spec, log_spec, members_spec},
    generation::Generation,
    metrics::Metrics,
    placing::Board,
    purges::PurgeLog,
};

/// The bus and all that is on it, before anybody takes part.
pub(super) struct OpenFleet {
    config: BusConfig,
    name: String,
    bus: Bus,
    generation: Generation,
    place: FleetPlace,
    log: RequestLog,
    outlets: Outlets,
    spools: Spools,
    purges: SharedPurges,
    purge_tail: Box<dyn Tail>,
    tails: (Tails, Tails),
    office: Office,
    experiments: ExperimentsOffice,
    regime: SharedBucket,
    /// Whether this member may be the one that places keys.
    may_place: bool,
}

/// What publishes.
#[derive(Clone, Debug)]
pub(super) struct Spools {
    log: (Arc<Spool>, usize),
    nodes: Arc<Spool>,
    orders: Arc<Spool>,
}

impl OpenFleet {
    /// Opens the bus and reads the purges that it has; they are in the log that is returned.
    ///
    /// # Errors
    /// A bus that cannot be reached or used: it says why.
    pub(super) async fn open(
        settings: &PredictorConfig,
        config: &BusConfig,
        listen: &str,
    ) -> Result<(Self, Arc<PurgeLog>)> {
        let (name, data_dir) = (config.name(listen), &settings.data_dir);
        let bus = Bus::open(config.settings(data_dir)?).await?;
        let shared = bus.bucket(shared_spec()).await?;
        let generation = generation::begin(&shared).await?;
        let place = FleetPlace {
            stream: bus.stream(log_spec(config.partitions(), config.log_bytes_max())).await?,
            members: bus.bucket(members_spec()).await?,
            checkpoints: bus.bucket(checkpoints_spec()).await?,
        };
        let nodes = bus.stream(stream_spec("nodes", NODES_PARTITIONS, NODES_BYTES_MAX, Discard::Oldest)).await?;
        let orders = bus.stream(stream_spec("orders", NODES_PARTITIONS, ORDERS_BYTES_MAX, Discard::Oldest)).await?;
        let tails = (Tails::open(&nodes).await?, Tails::open(&orders).await?);
        let (purges, purge_tail, purge_log) = open_purges(&bus, &shared, data_dir).await?;
        let placement = bus.stream(stream_spec("placement", 1, PLACEMENT_BYTES_MAX, Discard::Oldest)).await?;
        let map = purges::shared_id(&shared, MAP_KEY).await?;
        let streams = (placement, Arc::clone(&place.stream));
        let office = Office::open(settings, streams, map, generation.number()).await?;
        let regime = bus.bucket(regime_spec()).await?;
        let buckets = (bus.bucket(record_spec()).await?, SharedBucket::clone(&regime));
        let history = bus.stream(stream_spec("history", 1, HISTORY_BYTES_MAX, Discard::Oldest)).await?;
        let history = HistoryStream::new(history, generation.number());
        let experiments = ExperimentsOffice::new(settings, &name, Arc::clone(&place.stream), buckets, history);
        let spool = |bytes_max| SpoolSettings { bytes_max, ..SpoolSettings::default() };
        let spools = Spools {
            log: (
                Arc::new(Spool::start(Arc::clone(&place.stream), spool(config.spool_bytes_max()))),
                config.spool_bytes_max(),
            ),
            nodes: Arc::new(Spool::start(nodes, spool(NODES_SPOOL_BYTES))),
            orders: Arc::new(Spool::start(orders, spool(ORDERS_SPOOL_BYTES))),
        };
        tracing::info!(member = name, generation = generation.number(), bus = config.url(), "taking part in a fleet");
        let opened = Self {
            log: RequestLog { spool: Arc::clone(&spools.log.0), partitions: config.partitions() },
            outlets: Outlets::new(generation.number(), Arc::clone(&spools.nodes), Arc::clone(&spools.orders)),
            config: config.clone(),
            name,
            bus,
            generation,
            place,
            spools,
            purges,
            purge_tail,
            tails,
            office,
            experiments,
            regime,
            may_place: settings.placement.kind != PlacementKind::None,
        };
        Ok((opened, purge_log))
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn partitions(&self) -> u32 {
        self.config.partitions()
    }

    /// What the controller has of it. What other members ask goes to `answers`.
    pub(super) fn side(&self, answers: mpsc::Sender<RelayedAsk>) -> FleetSide {
        FleetSide::new(self.name.clone(), self.outlets.clone(), self.config.lease, self.board(), answers)
    }

    /// The map that nodes are told.
    pub(super) fn board(&self) -> Arc<Board> {
        self.office.board()
    }

    /// The way of requests.
    pub(super) fn log(&self) -> RequestLog {
        self.log.clone()
    }

    /// The way of purges.
    pub(super) fn purges(&self) -> SharedPurges {
        self.purges.clone()
    }

    /// Begins to take part.
    ///
    /// # Errors
    /// A bus that is away.
    pub(super) async fn start(
        self,
        inputs: &Inputs,
        metrics: Metrics,
        registry: Option<Arc<Registry>>,
    ) -> Result<RunningFleet> {
        let mut offices = vec![experiments::OFFICE.to_owned()];
        offices.extend(self.may_place.then(|| OFFICE.to_owned()));
        let settings = FleetSettings {
            name: self.name.clone(),
            run: self.generation.number().to_string(),
            lease: LeaseSettings::new(self.config.lease),
            checkpoint_every: self.config.checkpoint,
            offices,
        };
        let (mut tasks, engine) = (JoinSet::new(), inputs.clone());
        let inputs = inputs.downgrade();
        // Before the others are asked for what they know.
        self.tails.0.nodes(&mut tasks, &inputs, &metrics);
        self.tails.1.orders(&mut tasks, &inputs, &metrics);
        tasks.spawn(self.purges.follow(self.purge_tail));
        tasks.spawn(RegimeWatch { bucket: self.regime, registry, inputs: inputs.clone() }.run());
        let learners = ServiceLearners { inputs: inputs.clone(), metrics: metrics.clone() };
        let fleet = Fleet::join(self.place, Arc::new(learners), settings, Arc::new(SystemClock)).await?;
        tasks.spawn(tails::follow_view(fleet.view(), inputs.clone()));
        let threads = self.experiments.threads.clone();
        tasks.spawn(self.experiments.run(fleet.view(), inputs.clone(), metrics.clone()));
        tasks.spawn(self.office.run(fleet.view(), inputs, metrics));
        let standing = Standing::new(fleet.view(), self.name, self.config.lease, self.spools.clone());
        Ok(RunningFleet { _engine: engine, fleet, tasks, threads, spools: self.spools, bus: self.bus, standing })
    }
}

/// A predictor that takes part.
pub(super) struct RunningFleet {
    /// What is learnt is written down before the engine's task ends.
    _engine: Inputs,
    fleet: Fleet,
    tasks: JoinSet<()>,
    threads: TaskTracker,
    spools: Spools,
    bus: Bus,
    standing: Standing,
}

impl RunningFleet {
    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Publishes what waits, hands partitions over and ends the membership, while the engine still answers. What is
    /// returned is to be closed at the very end.
    pub(super) async fn leave(mut self) -> Bus {
        let published = async {
            while self.spools.waiting() > 0 {
                sleep(LOOK).await;
            }
        };
        // Nodes send again what is not.
        if timeout(PUBLISH_PATIENCE, published).await.is_err() {
            tracing::warn!(records = self.spools.waiting(), "not everything could be published");
        }
        self.fleet.leave().await;
        self.tasks.shutdown().await;
        self.threads.close();
        self.threads.wait().await;
        self.bus
    }
}

impl Spools {
    fn waiting(&self) -> u64 {
        [&self.log.0, &self.nodes, &self.orders].map(|spool| spool.counts().waiting).iter().sum()
    }
}

async fn open_purges(
    bus: &Bus,
    shared: &SharedBucket,
    data_dir: &Path,
) -> Result<(SharedPurges, Box<dyn Tail>, Arc<PurgeLog>)> {
    let stream = bus.stream(stream_spec("purges", 1, PURGES_BYTES_MAX, Discard::Newest)).await?;
    let id = purges::shared_id(shared, purges::LOG_KEY).await?;
    let log = Arc::new(PurgeLog::open_copy(data_dir, &id)?);
    let (shared, tail) = SharedPurges::begin(stream, Arc::clone(&log)).await?;
    Ok((shared, tail, log))
}

fn stream_spec(name: &str, partitions: u32, bytes_max: u64, discard: Discard) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        version: records::VERSION,
        partitions,
        bytes_max,
        discard,
        duplicates_within: Duration::from_secs(120),
    }
}

/// What all members know of each other besides memberships.
fn shared_spec() -> BucketSpec {
    BucketSpec { name: "fleet".to_owned(), version: 1, bytes_max: 1 << 20 }
}

/// Each partition of what nodes say. A member that misses some of it asks anew.
const NODES_BYTES_MAX: u64 = 64 << 20;
/// Each partition of commands, which are old after seconds.
const ORDERS_BYTES_MAX: u64 = 16 << 20;
/// As many purges as are remembered, if they are not unusually long.
const PURGES_BYTES_MAX: u64 = 256 << 20;
/// The whole placement map several times over.
const PLACEMENT_BYTES_MAX: u64 = 512 << 20;
/// A week of a dozen nodes in slots of ten seconds, or most of a day of a hundred. All of it is read by a successor.
const HISTORY_BYTES_MAX: u64 = 128 << 20;
/// What all members call it.
const MAP_KEY: &str = "placement-map";
const NODES_SPOOL_BYTES: usize = 64 << 20;
/// Commands that wait longer are of no use.
const ORDERS_SPOOL_BYTES: usize = 4 << 20;
const PUBLISH_PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
