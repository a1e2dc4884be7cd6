//! The SQL engine behind the features: DataFusion in this process, with bounded memory and disk, or on a cluster.

use std::{fmt, path::Path, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{
    execution::{memory_pool::FairSpillPool, runtime_env::RuntimeEnvBuilder},
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};

#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::{Error, Result, config::EngineLimits};

/// Runs SQL over the coded log. What does not fit in memory spills to disk, and both have a limit.
///
/// The plans hold nothing but built-in functions over Parquet, so that a cluster scheduler can run the same text.
pub(crate) struct SqlEngine {
    runtime: Runtime,
    context: SessionContext,
    #[cfg(feature = "cluster")]
    cluster: Option<Cluster>,
}

impl fmt::Debug for SqlEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlEngine").finish_non_exhaustive()
    }
}

impl SqlEngine {
    /// Starts an engine that spills into `scratch`.
    pub(crate) fn start(limits: &EngineLimits, scratch: &Path) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.partitions)
            .thread_name("nearcast-features")
            .enable_all()
            .build()
            .map_err(|source| Error::Scratch { path: scratch.to_path_buf(), source })?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
            .with_temp_file_path(scratch)
            .with_max_temp_directory_size(limits.spill_bytes)
            .build_arc()?;
        // A fixed number of partitions keeps the plans, and so the order of every sum, the same on every machine.
        let config = SessionConfig::new().with_target_partitions(limits.partitions).with_information_schema(false);
        Ok(Self {
            runtime,
            context: SessionContext::new_with_config_rt(config, environment),
            #[cfg(feature = "cluster")]
            cluster: None,
        })
    }

    /// Sends what is asked from now on to a cluster.
    #[cfg(feature = "cluster")]
    pub(crate) fn connect(&mut self, scheduler: &str, partitions: usize) -> Result<()> {
        let cluster = self.runtime.block_on(Cluster::connect(scheduler, partitions))?;
        self.context = cluster.context().clone();
        self.cluster = Some(cluster);
        Ok(())
    }

    /// The cluster, if there is one.
    #[cfg(feature = "cluster")]
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Waits for what the cluster does.
    #[cfg(feature = "cluster")]
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Makes a Parquet file, a path or a URL, known as `table`.
    pub(crate) fn register(&self, table: &str, file: &str) -> Result<()> {
        self.runtime.block_on(self.context.register_parquet(table, file, ParquetReadOptions::default()))?;
        Ok(())
    }

    /// Runs one query and hands over its batches as they come.
    pub(crate) fn for_each(&self, sql: &str, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        tracing::debug!(sql, "feature query");
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            return self.runtime.block_on(cluster.sql(sql))?.iter().try_for_each(each);
        }
        self.runtime.block_on(async {
            let mut batches = self.context.sql(sql).await?.execute_stream().await?;
            while let Some(batch) = batches.next().await {
                each(&batch?)?;
            }
            Ok(())
        })
    }
}
