//! The training pipeline and the trace-driven replay.
//!
//! [`train()`] goes from request logs to a published model version: features by SQL, fit, evaluate on later traffic,
//! publish. [`evaluate()`] measures a version on another log with the same code, and [`replay`] plays a log through the
//! engine and nodes that serve.

mod card;
mod checkpoint;
#[cfg(feature = "cluster")]
pub mod cluster;
mod config;
mod demand;
mod error;
mod evaluate;
mod features;
mod fit;
mod metrics;
mod progress;
pub mod replay;
mod report;
mod split;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time;
mod train;

pub use checkpoint::{CheckpointError, CheckpointOptions, checkpoint_name, has_checkpoint};
pub use config::{
    BlendFitConfig, ClusterConfig, CodingLimits, DemandConfig, EngineLimits, EvaluateConfig, FeatureConfig, FitConfig,
    GateFitConfig, RawBlendFit, RawDemand, RawEvaluate, RawFeatures, RawFit, RawGateFit, RawSplit, RawTrainConfig,
    SplitConfig, TrainConfig,
};
pub use demand::BaselineFit;
pub use error::{Error, Result};
pub use evaluate::{
    Blocks, ColdReport, CompareOptions, Comparison, Contender, Decile, DemandGroup, DemandReport, EvaluateOptions,
    Evaluation, HorizonReport, Interval, Measured, MethodMetrics, MetricDifference, NextKeyReport, RankMetrics,
    RecordedMetric, SettingDifference, Verdict, compare, evaluate, evaluate_in_detail, forecast, method,
};
pub use features::{FeatureSpeed, FeatureStage, measure_features};
pub use fit::{BlendReport, EpochReport, GateReport, GateTrial, GateTrials};
pub use metrics::MetricRow;
pub use progress::{OnProgress, Progress};
pub use report::{Details, report_page};
pub use train::{
    CoAccessReport, DataReport, DemandFitReport, METRICS_TABLE, PublishOptions, Published, REPORT, TRAIN_CONFIG,
    TrainMetrics, train,
};
