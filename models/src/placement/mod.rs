//! The placement head (GAPA): how often a key will be asked for in a region over the next horizon.

mod config;
mod features;
mod head;
mod network;
mod trainer;
pub(crate) mod weights;

pub use config::PlacementConfig;
pub use head::{DemandQuery, PlacementHead, RecentCounts};
pub use trainer::{PlacementExample, PlacementTrainer};
