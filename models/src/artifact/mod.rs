//! A model version as a directory of public formats, written all at once and loaded only when every hash matches.

mod manifest;
mod model;

pub use manifest::{FileRecord, Manifest, TrainingRange};
pub use model::{Model, ModelConfig};
