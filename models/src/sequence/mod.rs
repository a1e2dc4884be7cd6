//! The sequence model: what one client asks for next.

mod batch;
mod checkpoint;
mod config;
mod dense;
mod items;
mod model;
mod network;
mod ops;
pub(crate) mod retrieval;
mod rows;
mod sampler;
mod trainer;
pub(crate) mod weights;

pub use batch::{BatchCell, SequenceBatch, SessionLanes};
pub use config::{SequenceConfig, TrainingDevice};
pub use model::{SequenceModel, SequenceState};
pub use trainer::{ItemCatalogue, SequenceTrainer};

#[cfg(test)]
mod tests;
