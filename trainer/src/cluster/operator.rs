//! The operator that counts one part of all pairs, wrapped as a physical plan that executors can be sent.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::{Float64Array, RecordBatch, UInt32Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchReceiverStream,
    },
};
use nearcast_datasets::{
    Timestamp,
    store::{Location, Objects},
};
use serde::{Deserialize, Serialize};

use crate::features::{Pair, PairCount, PairScope, TimeRange};

/// What one task counts: the pairs whose first key falls to a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PairsJob {
    /// The version that sends it; executors of another one might count otherwise.
    pub(crate) nearcast: String,
    /// Path or URL of the coded log, as the executor reads it.
    pub(crate) log: String,
    /// Microseconds; the end is excluded.
    pub(crate) start: i64,
    /// See `start`.
    pub(crate) end: i64,
    /// Who must have asked for both keys.
    pub(crate) scope: PairScope,
    /// Which part, from 0.
    pub(crate) part: usize,
    /// Parts in all.
    pub(crate) parts: usize,
    /// How many requests ahead a pair may reach.
    pub(crate) window: usize,
    /// The longest silence within a session.
    pub(crate) gap_micros: i64,
    /// One more than the largest client code.
    pub(crate) clients: usize,
    /// One more than the largest region code.
    pub(crate) regions: usize,
    /// The age at which a pair counts half.
    pub(crate) half_life_micros: u64,
    /// Most successors of one key.
    pub(crate) successors_max: usize,
    /// Memory before sums spill.
    pub(crate) memory_bytes: usize,
    /// Disk that sums may spill to.
    pub(crate) spill_bytes: u64,
}

impl PairsJob {
    /// Refuses what another version sends.
    pub(super) fn check_version(&self) -> Result<()> {
        if self.nearcast == env!("CARGO_PKG_VERSION") {
            return Ok(());
        }
        Err(DataFusionError::Plan(format!(
            "a job of nearcast {} cannot run on a cluster of nearcast {}; use the same version for trainer, scheduler and \
             executors",
            self.nearcast,
            env!("CARGO_PKG_VERSION")
        )))
    }

    /// Counts, and hands over rows by key, heaviest successor first.
    fn run(&self, scratch: &Path, mut each: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let external = |error: crate::Error| DataFusionError::External(Box::new(error));
        let log = Readable::open(&self.log, scratch)?;
        let range = TimeRange { start: Timestamp::from_micros(self.start), end: Timestamp::from_micros(self.end) };
        let count = PairCount {
            scope: self.scope,
            part: self.part,
            parts: self.parts,
            is_by_source: true,
            window: self.window,
            gap_micros: self.gap_micros,
            clients: self.clients,
            regions: self.regions,
            half_life: Duration::from_micros(self.half_life_micros),
            memory_bytes: self.memory_bytes,
            spill_bytes: self.spill_bytes,
        };
        let runs = count.run(log.path(), range, scratch).map_err(external)?;
        let mut rows = Rows::default();
        crate::features::for_each_head(runs, self.successors_max, |pairs| {
            rows.extend(pairs);
            if rows.from.len() >= BATCH_ROWS {
                each(rows.take()?)?;
            }
            Ok(())
        })
        .map_err(external)?;
        if rows.from.is_empty() { Ok(()) } else { each(rows.take()?) }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            nearcast: env!("CARGO_PKG_VERSION").to_owned(),
            log: "/log.parquet".to_owned(),
            start: 1,
            end: 2,
            scope: PairScope::Region,
            part: 1,
            parts: 3,
            window: 4,
            gap_micros: 5,
            clients: 6,
            regions: 7,
            half_life_micros: 8,
            successors_max: 9,
            memory_bytes: 10,
            spill_bytes: 11,
        }
    }
}

/// The coded log as a local file.
enum Readable {
    Here(PathBuf),
    Fetched(tempfile::NamedTempFile),
}

impl Readable {
    fn open(log: &str, scratch: &Path) -> Result<Self> {
        let external = |error| DataFusionError::External(Box::new(error));
        let location = Location::parse(log).map_err(external)?;
        if let Some(path) = location.local_path() {
            if path.exists() {
                return Ok(Self::Here(path.to_owned()));
            }
            return Err(DataFusionError::Execution(format!(
                "an executor does not see the coded log {log}; set `features.shared` to a folder or object store that \
                 trainer and executors share"
            )));
        }
        let file = tempfile::Builder::new().prefix("nearcast-coded-").tempfile_in(scratch)?;
        let objects = Objects::open(&location).map_err(external)?;
        objects.fetch("", file.path()).map_err(external)?;
        Ok(Self::Fetched(file))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Here(path) => path,
            Self::Fetched(file) => file.path(),
        }
    }
}

/// Rows on their way into a batch.
#[derive(Default)]
struct Rows {
    from: Vec<u32>,
    to: Vec<u32>,
    weight: Vec<f64>,
}

impl Rows {
    fn extend(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            self.from.push(pair.from.0);
            self.to.push(pair.to.0);
            self.weight.push(pair.weight);
        }
    }

    fn take(&mut self) -> Result<RecordBatch> {
        let Self { from, to, weight } = std::mem::take(self);
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(UInt32Array::from(from)),
            Arc::new(UInt32Array::from(to)),
            Arc::new(Float64Array::from(weight)),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

/// The operator: a leaf with one partition.
#[derive(Debug)]
pub(super) struct PairsExec {
    job: PairsJob,
    scratch: PathBuf,
    properties: Arc<PlanProperties>,
}

impl PairsExec {
    /// Counts `job`, spilling into `scratch`.
    pub(super) fn new(job: PairsJob, scratch: PathBuf) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { job, scratch, properties: Arc::new(properties) }
    }

    /// What it counts.
    pub(super) fn job(&self) -> &PairsJob {
        &self.job
    }
}

impl DisplayAs for PairsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PairsJob { scope, part, parts, log, .. } = &self.job;
        write!(f, "PairsExec: scope={scope:?}, part={part}/{parts}, log={log}")
    }
}

impl ExecutionPlan for PairsExec {
    fn name(&self) -> &'static str {
        "PairsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (job, scratch) = (self.job.clone(), self.scratch.clone());
        let mut stream = RecordBatchReceiverStream::builder(schema(), BATCHES_AHEAD);
        let sender = stream.tx();
        stream.spawn_blocking(move || {
            job.run(&scratch, |batch| {
                let gone = |_| DataFusionError::Execution("nobody waits for the pairs any more".to_owned());
                sender.blocking_send(Ok(batch)).map_err(gone)
            })
        });
        Ok(stream.build())
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("from", DataType::UInt32, false),
        Field::new("to", DataType::UInt32, false),
        Field::new("weight", DataType::Float64, false),
    ]))
}

/// Rows in a batch, or a few more, as a key's successors are not torn apart.
const BATCH_ROWS: usize = 8_192;
const BATCHES_AHEAD: usize = 2;
