//! Reading what the other members say, and what they order.

use std::time::Duration;

use nearcast_bus::{
    Clock, Partition, Read, Record, Result, Sequence, SharedStream, SystemClock, Tail, fleet::FleetView,
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
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
type Meaning = fn(&Record) -> Result<Input, RecordUnreadable>;

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
            let (inputs, metrics) = (inputs.clone(), metrics.clone());
            let follower = Follower { inputs, metrics, meaning, is_all_needed: true };
            tasks.spawn(async move { drop(follower.follow(tail).await) });
        }
    }
}

struct Follower {
    inputs: WeakInputs,
    metrics: Metrics,
    meaning: Meaning,
    /// Whether what was missed must be asked for.
    is_all_needed: bool,
}

impl Follower {
    /// Follows a partition until the engine's task has ended.
    async fn follow(self, mut tail: Box<dyn Tail>) -> Result<(), EngineGone> {
        loop {
            match tail.next(RECORDS_MAX).await {
                Ok(Read::Records(records)) => {
                    for record in &records {
                        match (self.meaning)(record) {
                            Ok(input) => self.inputs.tell(input).await?,
                            Err(error) => {
                                tracing::error!(id = record.id, %error, "a record of another predictor is skipped");
                                self.metrics.fleet.unreadable.inc();
                            }
                        }
                    }
                }
                Ok(Read::Gap { .. }) if !self.is_all_needed => {}
                Ok(Read::Gap { from, to }) => {
                    tracing::warn!(lost = to.0 - from.0, "records of other predictors were gone before they were read");
                    self.metrics.fleet.lost_records.inc_by(to.0 - from.0);
                    self.inputs.tell(Input::Missed).await?;
                }
                Err(error) => {
                    tracing::debug!(%error, "other predictors cannot be heard of now");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Reads what clients ask for, everywhere and from now on.
pub(super) fn demand(log: &SharedStream, tasks: &mut JoinSet<()>, inputs: &WeakInputs, metrics: &Metrics) {
    let meaning: Meaning = |record| {
        let batch = LogRecord::decode(&record.payload).map_err(|_| RecordUnreadable::Misplaced)?;
        Ok(Input::Demand(batch))
    };
    for partition in (0..log.spec().partitions).map(Partition) {
        let follower = Follower { inputs: inputs.clone(), metrics: metrics.clone(), meaning, is_all_needed: false };
        let log = SharedStream::clone(log);
        tasks.spawn(async move {
            let tail = loop {
                let tail = async { log.tail(partition, log.extent(partition).await?.next).await };
                match tail.await {
                    Ok(tail) => break tail,
                    Err(_) => sleep(RETRY).await,
                }
            };
            drop(follower.follow(tail).await);
        });
    }
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
