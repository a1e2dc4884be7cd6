//! What can go wrong while training, evaluating or replaying.

use std::{io, path::PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be trained or evaluated, or a log could not be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value is out of its range.
    #[error("{field} is {value}, but must be {expected}")]
    Config {
        /// The field's name, with its section.
        field: &'static str,
        /// The value found.
        value: String,
        /// The range allowed.
        expected: &'static str,
    },
    /// A configuration file could not be read.
    #[error(transparent)]
    ConfigFile(#[from] nearcast_proto::Error),
    /// A log without a single request.
    #[error("{log} holds no request, so there is nothing to learn from")]
    EmptyLog {
        /// The log.
        log: String,
    },
    /// A cluster is not there, or did not do what it was asked.
    #[error("cannot build features on the cluster at {scheduler}: {problem}")]
    Cluster {
        /// `host:port` of the scheduler.
        scheduler: String,
        /// What is wrong, and what to try.
        problem: String,
    },
    /// One side of the split holds no request.
    #[error("the {part} part of the log, {range}, holds no request; choose another share with `--train-share`")]
    EmptyPart {
        /// Which part: training, validation or test.
        part: &'static str,
        /// The part's time range.
        range: String,
    },
    /// A query over the log failed, or ran out of the memory and disk it may use.
    #[error("computing features failed; `features.memory_mib` and `features.spill_mib` bound what it may use")]
    Features(#[from] datafusion::error::DataFusionError),
    /// The request log could not be read.
    #[error(transparent)]
    Log(#[from] nearcast_datasets::Error),
    /// The metrics could not be written as JSON or read back.
    #[error("the metrics do not fit their format")]
    Metrics(#[source] serde_json::Error),
    /// A model could not be fitted, saved, loaded or published.
    #[error(transparent)]
    Model(#[from] nearcast_models::Error),
    /// Every row given for evaluation lies in the range that the model was trained on.
    #[error(
        "every request of {log} is before {end}, the end of the model's training range, so the result would flatter; \
         give a later log, or `--allow-leakage` to measure anyway"
    )]
    OnlyTrainingRows {
        /// The log.
        log: String,
        /// The end of the training range.
        end: String,
    },
    /// A training cannot be saved, or gone on with.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// A pass over the training sessions failed.
    #[error("pass {epoch} over the training sessions failed")]
    Pass {
        /// The pass, from 1.
        epoch: usize,
        /// Why it failed.
        source: nearcast_models::Error,
    },
    /// The report of a version could not be drawn.
    #[error("the report could not be made")]
    Report(#[source] Box<crate::replay::ReplayError>),
    /// A single setting of the command line cannot be understood.
    #[error("`--set {setting}` cannot be used: {reason}; write `section.key=value`, such as `fit.epochs_max=3`")]
    Setting {
        /// The setting.
        setting: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A thread that counted pairs broke off.
    #[error("counting co-access broke off: a worker panicked, see above")]
    PairWorker,
    /// Writing the coded log failed.
    #[error("writing the coded log failed; is the scratch disk full?")]
    ScratchFormat(#[from] parquet::errors::ParquetError),
    /// The scratch folder could not be used.
    #[error("cannot write scratch data to {path}; set `features.scratch` to a folder with space")]
    Scratch {
        /// The folder or file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Sums of pairs would take more disk than they may.
    #[error(
        "counting co-access would spill more than {max} bytes to {path}; raise `features.spill_mib` or `features.memory_mib`"
    )]
    SpillLimit {
        /// The scratch folder.
        path: PathBuf,
        /// The bound, in bytes.
        max: u64,
    },
    /// The training range has too few pairs of consecutive requests to fit a sequence model.
    #[error(
        "the training range has {found} requests that follow another of the same client, at least {needed} are needed; \
         give more logs, a larger `--train-share`, or a longer `features.session_gap_seconds`"
    )]
    TooFewTransitions {
        /// Pairs found.
        found: usize,
        /// Pairs needed.
        needed: usize,
    },
    /// The log has more distinct names than the configuration allows to hold in memory.
    #[error("the logs name more than {max} {what}; raise `features.{field}` (about 100 bytes of memory each)")]
    TooManyNames {
        /// Keys or clients.
        what: &'static str,
        /// The configured bound.
        max: usize,
        /// The field that holds the bound.
        field: &'static str,
    },
}
