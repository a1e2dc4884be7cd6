//! The training configuration: as written in `train.toml`, and as checked.

mod checked;
mod raw;
mod settings;

use self::raw::EMBEDDED;

pub use self::{
    checked::{
        BlendFitConfig, ClusterConfig, CodingLimits, DemandConfig, EngineLimits, EvaluateConfig, FeatureConfig,
        FitConfig, GateFitConfig, SplitConfig, TrainConfig,
    },
    raw::{RawBlendFit, RawDemand, RawEvaluate, RawFeatures, RawFit, RawGateFit, RawSplit, RawTrainConfig},
};
