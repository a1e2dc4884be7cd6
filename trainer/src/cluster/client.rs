//! The trainer's side of the cluster.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Float64Type, UInt32Type},
};
use ballista_core::{
    config::BallistaConfig,
    execution_plans::execute_physical_plan,
    extension::{SessionConfigExt, SessionStateExt},
};
use datafusion::{
    error::DataFusionError,
    execution::{SessionStateBuilder, runtime_env::RuntimeEnv},
    physical_plan::common::collect,
    prelude::{SessionConfig, SessionContext},
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use nearcast_datasets::KeyId;
use tokio::{task::JoinSet, time::timeout};

use super::{
    codec::Codec,
    operator::{PairsExec, PairsJob},
    stores,
};
use crate::{
    Error, Result,
    features::Pair,
    progress::{OnProgress, Progress},
};

/// A scheduler that answered, and the session with it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// `host:port`.
    scheduler: String,
    config: SessionConfig,
    context: SessionContext,
    codec: Arc<Codec>,
}

impl Cluster {
    /// Asks the scheduler for a trial query, so that a cluster that is not there is told of before any work is done.
    ///
    /// # Errors
    /// [`Error::Cluster`].
    pub(crate) async fn connect(scheduler: &str, partitions: usize) -> Result<Self> {
        let codec = Arc::new(Codec::new(std::env::temp_dir()));
        let config = SessionConfig::new_with_ballista()
            .with_target_partitions(partitions)
            .with_ballista_physical_extension_codec(Arc::clone(&codec) as _);
        let refused = |error| refusal(scheduler, &error);
        let environment: Arc<RuntimeEnv> = stores::runtime().map_err(refused)?;
        let state = SessionStateBuilder::new()
            .with_config(config.clone())
            .with_runtime_env(environment)
            .with_default_features()
            .build()
            .upgrade_for_ballista(format!("http://{scheduler}"))
            .map_err(refused)?;
        let cluster = Self { scheduler: scheduler.to_owned(), config, context: state.into(), codec };
        let trial = async { cluster.context.sql("SELECT 1 AS one").await?.collect().await };
        match timeout(TRIAL_MAX, trial).await {
            Ok(answer) => answer.map_err(|error| refusal(scheduler, &error))?,
            Err(_) => return Err(cluster.failed(NO_EXECUTOR.to_owned())),
        };
        Ok(cluster)
    }

    /// The session, for SQL.
    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The rows of one SQL query.
    ///
    /// # Errors
    /// [`Error::Cluster`], after several tries.
    pub(crate) async fn sql(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.again(|| async { self.context.sql(sql).await?.collect().await }).await
    }

    /// Counts every part and hands over the successors of each key, by key.
    ///
    /// # Errors
    /// [`Error::Cluster`] when a part fails on every try.
    pub(crate) async fn pairs(&self, jobs: Vec<PairsJob>, progress: OnProgress<'_>) -> Result<Counted> {
        let total = jobs.len() as u64;
        let mut running = JoinSet::new();
        for job in jobs {
            let cluster = self.clone();
            running.spawn(async move { cluster.again(|| cluster.part(job.clone())).await });
        }
        let mut counted = Counted::default();
        progress(Progress::Counting { parts: 0, total });
        while let Some(part) = running.join_next().await {
            // What a part could not do, the others need not finish: dropping the set ends the waiting.
            counted.add(&part.map_err(|_| Error::PairWorker)??);
            counted.parts += 1;
            progress(Progress::Counting { parts: counted.parts, total });
        }
        counted.heads.sort_unstable_by_key(|(from, ..)| *from);
        Ok(counted)
    }

    async fn part(&self, job: PairsJob) -> Result<Vec<RecordBatch>, DataFusionError> {
        let (plan, ballista) = (Arc::new(PairsExec::new(job, std::env::temp_dir())), BallistaConfig::default());
        let stream = execute_physical_plan::<PhysicalPlanNode>(
            format!("http://{}", self.scheduler),
            &ballista,
            plan,
            self.codec.as_ref(),
            self.context.session_id(),
            self.config.clone(),
        );
        collect(stream.await?).await
    }

    /// Tries a few times: the scheduler repeats what a lost executor had under way, but not the fetching of a result
    /// from one that was lost after it was done.
    async fn again<T, F>(&self, mut run: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, DataFusionError>>,
    {
        let mut tries = 1;
        loop {
            match run().await {
                Ok(done) => return Ok(done),
                Err(error) if tries < TRIES_MAX && is_passing(&error) => {
                    tracing::warn!(%error, tries, "a job on the cluster failed and is tried again");
                    tokio::time::sleep(PAUSE * tries).await;
                    tries += 1;
                }
                Err(error) => return Err(refusal(&self.scheduler, &error)),
            }
        }
    }

    fn failed(&self, problem: String) -> Error {
        Error::Cluster { scheduler: self.scheduler.clone(), problem }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.scheduler).finish()
    }
}

/// The pairs of all parts.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    parts: u64,
    pairs: Vec<Pair>,
    /// Each key, and where its successors lie.
    heads: Vec<(KeyId, usize, usize)>,
}

impl Counted {
    /// Calls `each` with the successors of every key, by key.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&[Pair]) -> Result<()>) -> Result<()> {
        self.heads.iter().try_for_each(|(_, start, end)| each(&self.pairs[*start..*end]))
    }

    fn add(&mut self, batches: &[RecordBatch]) {
        let first = self.pairs.len();
        for batch in batches {
            let from = batch.column(0).as_primitive::<UInt32Type>().values();
            let to = batch.column(1).as_primitive::<UInt32Type>().values();
            let weight = batch.column(2).as_primitive::<Float64Type>().values();
            let rows = from.iter().zip(to).zip(weight);
            self.pairs.extend(rows.map(|((from, to), weight)| Pair {
                from: KeyId(*from),
                to: KeyId(*to),
                weight: *weight,
            }));
        }
        let mut start = first;
        for group in self.pairs[first..].chunk_by(|a, b| a.from == b.from) {
            self.heads.push((group[0].from, start, start + group.len()));
            start += group.len();
        }
    }
}

/// Whether trying again may help.
fn is_passing(error: &DataFusionError) -> bool {
    let words = error.to_string();
    !LASTING.iter().any(|word| words.contains(word))
}

fn refusal(scheduler: &str, error: &DataFusionError) -> Error {
    let words = error.to_string();
    let is_absent = ABSENT.iter().any(|word| words.contains(word));
    let problem = if is_absent {
        "no scheduler answers there; start one with `nearcast scheduler`, or correct the address".to_owned()
    } else {
        words
    };
    Error::Cluster { scheduler: scheduler.to_owned(), problem }
}

/// A trial query takes a fraction of a second where there is an executor.
const TRIAL_MAX: Duration = Duration::from_secs(30);
const NO_EXECUTOR: &str = "the scheduler answers, but no executor took a trial query within 30 seconds; start one with \
                           `nearcast executor --scheduler HOST:PORT`";
const TRIES_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// What no second try mends.
const LASTING: [&str; 4] =
    ["cannot be used with", "cannot run on a cluster", "does not see the coded log", "Could not deserialize"];
/// How the absence of a scheduler is told.
const ABSENT: [&str; 4] = ["tcp connect error", "ConnectError", "Connection refused", "dns error"];
