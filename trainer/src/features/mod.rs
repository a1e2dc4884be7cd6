//! Features: what the models learn from, computed by SQL over the coded log.
//!
//! [`CodedLog`] replaces strings by numbers in one pass; every table after that is a query over its Parquet file. Each
//! query takes a [`TimeRange`], and fitting only ever passes ranges that end at or before the split boundary.

mod coded;
mod columns;
mod demand;
mod engine;
mod hours;
mod pairs;
mod requests;
mod sessions;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::time::Duration;

use nearcast_datasets::{LogSource, Timestamp};

use self::engine::SqlEngine;
pub(crate) use self::{
    coded::CodedLog,
    hours::HOUR_MICROS,
    pairs::{Pair, PairLimits, PairScope},
    requests::Request,
    sessions::Sessions,
    vocabulary::KeyCount,
};
use crate::{Result, config::FeatureConfig, progress::OnProgress};

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
}

impl Features {
    /// Codes `sources` and starts the engine; `progress` hears the rows read so far.
    pub(crate) fn prepare(sources: &[LogSource], config: &FeatureConfig, progress: OnProgress<'_>) -> Result<Self> {
        let log = CodedLog::read(sources, &config.coding, progress)?;
        let engine = SqlEngine::start(&config.engine, log.scratch())?;
        engine.register("requests", &log.file())?;
        Ok(Self { engine, log, config: config.clone() })
    }
    /// The longest silence within a session.
    pub(crate) fn session_gap(&self) -> Duration {
        self.config.session_gap
    }
}
