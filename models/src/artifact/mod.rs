//! A model version as a directory of public formats, written all at once and loaded only when every hash matches.

mod blend;
pub(crate) mod files;
mod manifest;
mod model;
mod tables;
mod tensors;
#[cfg(test)]
pub(crate) mod tests;

pub use files::NamedBytes;
pub use manifest::{FileRecord, Manifest, TrainingRange};
pub use model::{Model, ModelConfig};
pub(crate) use model::{read_all, read_manifest};

/// What makes a directory a version; written last.
pub(crate) const MANIFEST: &str = "manifest.json";
const TENSORS: &str = "model.safetensors";
const VOCABULARY: &str = "vocabulary.parquet";
const COACCESS: &str = "coaccess.parquet";
const LINKS: &str = "links.parquet";
const CONTEXTS: &str = "contexts.parquet";
const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.json";
const CARD: &str = "MODEL_CARD.md";
/// Only in versions that carry what a gate learned.
const GATE: &str = "gate.json";

/// The files that every version has besides its manifest.
const FILES_REQUIRED: [&str; 8] = [TENSORS, VOCABULARY, COACCESS, LINKS, CONTEXTS, CONFIG, METRICS, CARD];
