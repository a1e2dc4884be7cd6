//! Reading what the other members say, and what they order.

use std::time::Duration;

use nearcast_bus::{
    Clock, Partition, Read, Record, Result, Sequence, SharedStream, SystemClock, Tail, fleet::FleetView,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    conductor::Asked,
    records::{NodeRecord, OrderRecord, RecordUnreadable},
    said::NODES_PARTITIONS,
};
use crate::{
    fleet::LogRecord,
    metrics::Metrics,
    server::{
        input::Input,
        inputs::{EngineGone, WeakInputs},
    },
};

/// What a stream's records are.
pub(super) type Meaning = fn(&Record) -> Result<Input, RecordUnreadable>;

/// A stream's partitions as they are from now on.
#[derive(Debug)]
pub(super) struct Tails(Vec<Box<dyn Tail>>);

impl Tails {
    /// # Errors
    /// A bus that is away.
    pub(super) async fn open(stream: &SharedStream) -> Result<Self> {
        let mut tails = Vec::new();
        for partition in (0..NODES_PARTITIONS).map(Partition) {
            let from: Sequence = stream.extent(partition).await?.next;
            tails.push(stream.tail(partition, from).await?);
        }
        Ok(Self(tails))
    }

    /// Reads what nodes of others say.
    pub(super) fn nodes(self, tasks: &mut JoinSet<()>, inputs: &WeakInputs, metrics: &Metrics) {
        let meaning: Meaning = |record| Ok(Input::Heard(NodeRecord::decode(&record.payload)?));
        self.start(tasks, inputs, metrics, meaning);
    }

    /// Reads commands.
    pub(super) fn orders(self, tasks: &mut JoinSet<()>, inputs: &WeakInputs, metrics: &Metrics) {
        let meaning: Meaning = |record| Ok(Input::Order(OrderRecord::decode(&record.payload)?));
        self.start(tasks, inputs, metrics, meaning);
    }

    fn start(self, tasks: &mut JoinSet<()>, inputs: &WeakInputs, metrics: &Metrics, meaning: Meaning) {
        for tail in self.0 {
            let hearer = Hearer::Engine { inputs: inputs.clone(), meaning, is_all_needed: true };
            let follower = Follower { hearer, metrics: metrics.clone() };
            tasks.spawn(async move { drop(follower.follow(tail).await) });
        }
    }
}

/// Who is told of records.
#[derive(Clone, Debug)]
pub(super) enum Hearer {
    /// The engine's task.
    Engine {
        inputs: WeakInputs,
        meaning: Meaning,
        /// Whether what was missed must be asked for.
        is_all_needed: bool,
    },
    /// Who conducts experiments, of what clients ask for.
    Conductor(mpsc::Sender<Asked>),
}

impl Hearer {
    /// Whoever places keys, of what clients ask for.
    pub(super) fn of_demand(inputs: &WeakInputs) -> Self {
        let meaning: Meaning = |record| Ok(Input::Demand(log_record(record)?));
        Self::Engine { inputs: inputs.clone(), meaning, is_all_needed: false }
    }

    async fn hear(&self, partition: Partition, record: &Record) -> Result<Result<(), RecordUnreadable>, EngineGone> {
        match self {
            Self::Engine { inputs, meaning, .. } => match meaning(record) {
                Ok(input) => inputs.tell(input).await.map(Ok),
                Err(unreadable) => Ok(Err(unreadable)),
            },
            Self::Conductor(conductor) => match log_record(record) {
                Ok(batch) => conductor.send(Asked::Batch(partition, batch)).await.map(Ok).map_err(|_| EngineGone),
                Err(unreadable) => Ok(Err(unreadable)),
            },
        }
    }

    async fn miss(&self, count: u64, metrics: &Metrics) -> Result<(), EngineGone> {
        tracing::warn!(lost = count, "records of other predictors were gone before they were read");
        metrics.fleet.lost_records.inc_by(count);
        match self {
            Self::Engine { is_all_needed: false, .. } => Ok(()),
            Self::Engine { inputs, .. } => inputs.tell(Input::Missed).await,
            Self::Conductor(conductor) => conductor.send(Asked::Missed).await.map_err(|_| EngineGone),
        }
    }
}

struct Follower {
    hearer: Hearer,
    metrics: Metrics,
}

impl Follower {
    /// Follows a partition until nobody hears any more.
    async fn follow(self, mut tail: Box<dyn Tail>) -> Result<(), EngineGone> {
        self.follow_as(Partition(0), &mut *tail).await
    }

    async fn follow_as(self, partition: Partition, tail: &mut dyn Tail) -> Result<(), EngineGone> {
        loop {
            match tail.next(RECORDS_MAX).await {
                Ok(Read::Records(records)) => {
                    for record in &records {
                        if let Err(error) = self.hearer.hear(partition, record).await? {
                            tracing::error!(id = record.id, %error, "a record of another predictor is skipped");
                            self.metrics.fleet.unreadable.inc();
                        }
                    }
                }
                Ok(Read::Gap { from, to }) => self.hearer.miss(to.0 - from.0, &self.metrics).await?,
                Err(error) => {
                    tracing::debug!(%error, "other predictors cannot be heard of now");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Reads what clients ask for, everywhere and from now on.
pub(super) fn demand(log: &SharedStream, tasks: &mut JoinSet<()>, hearer: &Hearer, metrics: &Metrics) {
    for partition in (0..log.spec().partitions).map(Partition) {
        let follower = Follower { hearer: hearer.clone(), metrics: metrics.clone() };
        let log = SharedStream::clone(log);
        tasks.spawn(async move {
            let mut tail = loop {
                let tail = async { log.tail(partition, log.extent(partition).await?.next).await };
                match tail.await {
                    Ok(tail) => break tail,
                    Err(_) => sleep(RETRY).await,
                }
            };
            drop(follower.follow_as(partition, &mut *tail).await);
        });
    }
}

fn log_record(record: &Record) -> Result<LogRecord, RecordUnreadable> {
    LogRecord::decode(&record.payload).map_err(|_| RecordUnreadable::Misplaced)
}

/// Tells the engine's task who takes part, as that changes, and for how long this member surely does.
pub(super) async fn follow_view(mut view: watch::Receiver<FleetView>, inputs: WeakInputs) {
    while view.changed().await.is_ok() {
        let seen = view.borrow_and_update().clone();
        let left = seen.until.map(|until| until.saturating_sub(SystemClock.elapsed()));
        if inputs.tell(Input::View(seen, left)).await.is_err() {
            return;
        }
    }
}

/// Records that are read at once.
const RECORDS_MAX: usize = 64;
const RETRY: Duration = Duration::from_millis(100);
