//! The placement head (GAPA): how often a key will be asked for in a region over the next horizons.

mod config;
mod correction;
mod features;
mod head;
mod history;
mod network;
mod trainer;
pub(crate) mod weights;

pub use config::{HORIZONS_MAX, PlacementConfig};
pub use correction::DemandCorrection;
pub use head::{DemandQuery, PlacementHead};
pub use history::{DECAYS, DecayedCounts, DemandHistory, HALF_LIVES_SECONDS, HourMoments, MOMENTS, RecentCounts};
pub use trainer::{PlacementExample, PlacementTrainer};
