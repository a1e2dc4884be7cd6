//! The training configuration: as written in `train.toml`, and as checked.

mod checked;
mod raw;
mod settings;

pub use self::{
    checked::{
        CodingLimits, DemandConfig, EngineLimits, EvaluateConfig, FeatureConfig, FitConfig, GateFitConfig, SplitConfig,
        TrainConfig,
    },
    raw::{RawDemand, RawEvaluate, RawFeatures, RawFit, RawGateFit, RawSplit, RawTrainConfig},
};
