//! The training pipeline and the trace-driven replay.
//!
//! [`train()`] goes from request logs to a published model version: features by SQL, fit, evaluate on later traffic,
//! publish. [`evaluate()`] measures a version on another log with the same code, and [`replay`] plays a log through the
//! engine and nodes that serve.

mod card;
mod config;
mod demand;
mod error;
mod evaluate;
mod features;
mod fit;
mod progress;
pub mod replay;
mod split;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time;
mod train;

pub use config::{
    CodingLimits, DemandConfig, EngineLimits, EvaluateConfig, FeatureConfig, FitConfig, GateFitConfig, RawDemand,
    RawEvaluate, RawFeatures, RawFit, RawGateFit, RawSplit, RawTrainConfig, SplitConfig, TrainConfig,
};
pub use demand::BaselineFit;
pub use error::{Error, Result};
pub use evaluate::{
    Decile, DemandGroup, DemandReport, EvaluateOptions, Evaluation, HorizonReport, MethodMetrics, NextKeyReport,
    RankMetrics, Verdict, evaluate, forecast, method,
};
pub use features::{FeatureSpeed, FeatureStage, measure_features};
pub use fit::{EpochReport, GateReport, GateTrial, GateTrials};
pub use progress::{OnProgress, Progress};
pub use train::{CoAccessReport, DataReport, DemandFitReport, PublishOptions, Published, TrainMetrics, train};
