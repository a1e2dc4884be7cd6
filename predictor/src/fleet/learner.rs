//! An engine that learns what a fleet reads for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use nearcast_bus::{
    Partition, Record, Token,
    fleet::{Learner, LearnerError, Learners},
};
use nearcast_datasets::Timestamp;
use nearcast_proto::message::{NodeDescriptor, NodeName};
use serde::{Deserialize, Serialize};

use super::{LogRecord, record::client_number};
use crate::engine::{Arm, Engine, NodeIndex, Observation, PartState};

/// Lets one engine learn every partition that is owned. The engine must be divided in as many parts.
#[derive(Clone, Debug)]
pub struct EngineLearners(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    requests: AtomicU64,
    repeated: AtomicU64,
    unreadable: AtomicU64,
}

#[derive(Debug)]
struct World {
    engine: Engine,
    nodes: BTreeMap<NodeName, (NodeIndex, NodeDescriptor)>,
}

/// What was learnt from, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearnerCounts {
    /// Requests.
    pub requests: u64,
    /// Batches that were there twice, and count once.
    pub repeated: u64,
    /// Records that could not be read and were skipped.
    pub unreadable: u64,
}

/// What a partition's checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// What was learnt of its clients.
    pub part: PartState,
    /// By node: the last batch that was learnt from, as stream and number.
    pub batches: BTreeMap<String, (u64, u64)>,
}

impl EngineLearners {
    /// Hands an engine over. It learns and gives no orders: there is no way yet to nodes that are connected to another
    /// predictor.
    pub fn new(mut engine: Engine) -> Self {
        engine.set_arm(Arm::None, false);
        let world = Mutex::new(World { engine, nodes: BTreeMap::new() });
        let (requests, repeated, unreadable) = Default::default();
        Self(Arc::new(Shared { world, requests, repeated, unreadable }))
    }

    /// What was learnt from.
    pub fn counts(&self) -> LearnerCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LearnerCounts {
            requests: read(&self.0.requests),
            repeated: read(&self.0.repeated),
            unreadable: read(&self.0.unreadable),
        }
    }
}

#[async_trait]
impl Learners for EngineLearners {
    async fn begin(
        &self,
        partition: Partition,
        _token: Token,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<Box<dyn Learner>, LearnerError> {
        let state: Option<PartitionState> = checkpoint.map(|bytes| postcard::from_bytes(&bytes)).transpose()?;
        let (part, batches) = state.map_or((None, BTreeMap::new()), |state| (Some(state.part), state.batches));
        lock(&self.0).engine.resume_part(partition.0, part)?;
        Ok(Box::new(EngineLearner { shared: Arc::clone(&self.0), partition, batches }))
    }
}

#[derive(Debug)]
struct EngineLearner {
    shared: Arc<Shared>,
    partition: Partition,
    batches: BTreeMap<String, (u64, u64)>,
}

#[async_trait]
impl Learner for EngineLearner {
    async fn apply(&mut self, records: Vec<Record>) -> Result<(), LearnerError> {
        for record in records {
            match LogRecord::decode(&record.payload) {
                Ok(batch) => self.learn(&batch),
                Err(error) => {
                    let sequence = record.sequence.0;
                    tracing::error!(partition = %self.partition, sequence, %error, "a record is skipped");
                    self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<Vec<u8>, LearnerError> {
        let part = lock(&self.shared).engine.part(self.partition.0).ok_or("the engine has no such part")?;
        Ok(postcard::to_allocvec(&PartitionState { part, batches: self.batches.clone() })?)
    }
}

impl Drop for EngineLearner {
    /// What another learns on is no longer this engine's to propose from.
    fn drop(&mut self) {
        // It has such a part, or this learner could not have begun.
        let _ = lock(&self.shared).engine.resume_part(self.partition.0, None);
    }
}

impl EngineLearner {
    fn learn(&mut self, batch: &LogRecord) {
        let number = (batch.stream, batch.sequence);
        let last = self.batches.entry(batch.node.name.0.as_ref().to_owned()).or_default();
        if number <= *last {
            self.shared.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = number;
        let mut world = lock(&self.shared);
        let node = world.node(batch.at, &batch.node);
        for request in &batch.requests {
            let engine = &mut world.engine;
            let observation = Observation {
                node,
                client: client_number(&request.client),
                region: engine.intern_region(&request.region),
                key: engine.intern_key(&request.key),
                size_bytes: request.size_bytes,
                range: request.range,
                served: request.served,
            };
            engine.handle_request(batch.at, &observation);
        }
        self.shared.requests.fetch_add(batch.requests.len() as u64, Ordering::Relaxed);
    }
}

impl World {
    fn node(&mut self, now: Timestamp, descriptor: &NodeDescriptor) -> NodeIndex {
        if let Some((index, known)) = self.nodes.get(&descriptor.name)
            && known == descriptor
        {
            return *index;
        }
        let index = self.engine.handle_join(now, descriptor.clone());
        self.nodes.insert(descriptor.name.clone(), (index, descriptor.clone()));
        index
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, World> {
    shared.world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The version of a checkpoint's bytes.
pub(super) const VERSION: u32 = 1;
