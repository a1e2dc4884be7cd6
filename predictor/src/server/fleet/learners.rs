//! What a partition teaches goes to the task that owns the engine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use nearcast_bus::{
    Partition, Record, Token,
    fleet::{Learner, LearnerError, Learners},
};

use crate::{
    fleet::{LogRecord, PartitionState},
    metrics::Metrics,
    server::{input::Input, inputs::WeakInputs},
};

/// Lets the service's engine learn. The engine must be divided in as many parts as the log.
#[derive(Clone, Debug)]
pub(super) struct ServiceLearners {
    pub(super) inputs: WeakInputs,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
struct ServiceLearner {
    service: ServiceLearners,
    partition: Partition,
    token: Token,
    /// By node: the last batch that was learnt from, as stream and number.
    batches: BTreeMap<String, (u64, u64)>,
}

#[async_trait]
impl Learners for ServiceLearners {
    async fn begin(
        &self,
        partition: Partition,
        token: Token,
        checkpoint: Option<Vec<u8>>,
    ) -> Result<Box<dyn Learner>, LearnerError> {
        let state: Option<PartitionState> = checkpoint.map(|bytes| postcard::from_bytes(&bytes)).transpose()?;
        let (part, batches) = state.map_or((None, BTreeMap::new()), |state| (Some(state.part), state.batches));
        let begin = |reply| Input::BeginPartition { partition: partition.0, token, part: part.map(Box::new), reply };
        self.inputs.ask(begin).await??;
        Ok(Box::new(ServiceLearner { service: self.clone(), partition, token, batches }))
    }
}

#[async_trait]
impl Learner for ServiceLearner {
    async fn apply(&mut self, records: Vec<Record>) -> Result<(), LearnerError> {
        let mut batches = Vec::with_capacity(records.len());
        for record in records {
            match LogRecord::decode(&record.payload) {
                Ok(batch) if self.is_new(&batch) => batches.push(batch),
                Ok(_) => drop(self.service.metrics.fleet.repeated.inc()),
                Err(error) => {
                    let sequence = record.sequence.0;
                    tracing::error!(partition = %self.partition, sequence, %error, "a record is skipped");
                    self.service.metrics.fleet.unreadable.inc();
                }
            }
        }
        let (partition, token) = (self.partition.0, self.token);
        // Small messages, so that what else the engine's task is told does not wait for long.
        let mut batches = batches.into_iter().peekable();
        while batches.peek().is_some() {
            let mut requests = 0;
            let mut some = Vec::new();
            while requests < REQUESTS_AT_ONCE
                && let Some(batch) = batches.next()
            {
                requests += batch.requests.len();
                some.push(batch);
            }
            self.service.inputs.tell(Input::Learn { partition, token, batches: some }).await?;
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<Vec<u8>, LearnerError> {
        let (partition, batches) = (self.partition.0, self.batches.clone());
        let part = self.service.inputs.ask(|reply| Input::PartState(partition, reply)).await?;
        let part = part.ok_or("the engine has no such part")?;
        Ok(postcard::to_allocvec(&PartitionState { part, batches })?)
    }
}

impl ServiceLearner {
    fn is_new(&mut self, batch: &LogRecord) -> bool {
        let number = (batch.stream, batch.sequence);
        let last = self.batches.entry(batch.node.name.0.as_ref().to_owned()).or_default();
        let is_new = number > *last;
        if is_new {
            *last = number;
        }
        is_new
    }
}

impl Drop for ServiceLearner {
    /// What another learns on is no longer this engine's to propose from.
    fn drop(&mut self) {
        let (inputs, partition, token) = (self.service.inputs.clone(), self.partition.0, self.token);
        // Outside of a runtime there is no engine left, either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move { inputs.tell(Input::EndPartition { partition, token }).await }));
        }
    }
}

/// Requests that the engine's task is given at once.
const REQUESTS_AT_ONCE: usize = 256;
