//! Features: what the models learn from, computed over the coded log.
//!
//! [`CodedLog`] replaces strings by numbers in one pass; every table after that is computed from its Parquet file, whose
//! rows lie in the order of time. What one pass in that order answers is scanned (sessions, co-access, counts); all else
//! is SQL. Each answer takes a [`TimeRange`], and fitting only ever passes ranges that end at or before the split
//! boundary.

mod coded;
mod columns;
mod demand;
mod engine;
mod hours;
mod pairs;
mod requests;
mod scan;
mod sessions;
mod shared;
mod speed;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use nearcast_datasets::{LogSource, Timestamp};

#[cfg(any(test, feature = "cluster"))]
pub(crate) use self::pairs::for_each_head;
#[cfg(feature = "cluster")]
pub(crate) use self::pairs::{Pair, PairCount};
pub use self::speed::{FeatureSpeed, FeatureStage, measure_features};
pub(crate) use self::{
    coded::CodedLog,
    hours::HOUR_MICROS,
    pairs::{PairLimits, PairScope},
    requests::Request,
    sessions::Sessions,
    vocabulary::KeyCount,
};
use self::{engine::SqlEngine, shared::Shared};
use crate::{Error, Result, config::FeatureConfig, progress::OnProgress};

/// Puts the rows of a log into the order of time; the engine spills what does not fit in memory.
fn sort(engine: &SqlEngine, log: &CodedLog) -> Result<()> {
    let (file, sorted) = (log.file(), log.scratch().join(SORTED));
    engine.register("unsorted", &file.to_string_lossy())?;
    let schema = coded::coded_schema();
    let mut writer = coded::create(&sorted, &schema)?;
    engine.for_each("SELECT at, client, region, key, position FROM unsorted ORDER BY at, position", |batch| {
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).map_err(coded::parquet_error)?;
        Ok(writer.write(&batch)?)
    })?;
    writer.close()?;
    std::fs::rename(&sorted, &file).map_err(|source| Error::Scratch { path: file, source })
}

/// A half-open range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    /// The first instant.
    pub(crate) start: Timestamp,
    /// One past the last instant.
    pub(crate) end: Timestamp,
}

impl TimeRange {
    /// The condition that keeps this range's rows.
    fn condition(self) -> String {
        format!("at >= {} AND at < {}", self.start.micros(), self.end.micros())
    }
}

/// A coded log and the engine that answers queries about it.
#[derive(Debug)]
pub(crate) struct Features {
    engine: SqlEngine,
    /// The log behind the answers.
    pub(crate) log: CodedLog,
    config: FeatureConfig,
    /// The coded log as queries read it; removed in the end when it is a copy.
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "only a cluster shares its tables"))]
    shared: Shared,
}

impl Features {
    /// Codes `sources` and starts the engine; `progress` hears the rows read so far.
    pub(crate) fn prepare(sources: &[LogSource], config: &FeatureConfig, progress: OnProgress<'_>) -> Result<Self> {
        let scratch = &config.coding.scratch;
        #[cfg(feature = "cluster")]
        let mut engine = SqlEngine::start(&config.engine, scratch)?;
        #[cfg(not(feature = "cluster"))]
        let engine = SqlEngine::start(&config.engine, scratch)?;
        // A cluster that is not there should be known before the log is read, but rows are sorted here.
        #[cfg(feature = "cluster")]
        let cluster = config.cluster.as_ref().map(|cluster| {
            let mut remote = SqlEngine::start(&config.engine, scratch)?;
            remote.connect(&cluster.scheduler, config.engine.partitions).map(|()| remote)
        });
        #[cfg(feature = "cluster")]
        let cluster = cluster.transpose()?;
        let log = CodedLog::read(sources, &config.coding, progress)?;
        if !log.sorted {
            sort(&engine, &log)?;
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = cluster {
            engine = cluster;
        }
        let shared = Shared::put(&log, config.cluster.as_ref().and_then(|cluster| cluster.shared.as_ref()))?;
        engine.register("requests", &shared.to_string())?;
        Ok(Self { engine, log, config: config.clone(), shared })
    }

    /// The longest silence within a session.
    pub(crate) fn session_gap(&self) -> Duration {
        self.config.session_gap
    }
}

/// Where the rows are sorted to.
const SORTED: &str = "sorted.parquet";
