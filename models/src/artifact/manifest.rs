//! What a version consists of and where it comes from.

use std::collections::BTreeMap;

use nearcast_datasets::Timestamp;
use serde::{Deserialize, Serialize};

/// The artifact format that this build writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3 hash, in hexadecimal.
    pub blake3: String,
}

/// The log that a version was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingRange {
    /// Where the log was.
    pub logs: Vec<String>,
    /// Timestamp of the first request trained on.
    pub first: Timestamp,
    /// Timestamp of the last request trained on.
    pub last: Timestamp,
    /// Requests trained on.
    pub requests: u64,
}

/// `manifest.json`: what makes a directory a model version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Artifact format, 1 for this build.
    pub format: u32,
    /// Version of the code that wrote it.
    pub code_version: String,
    /// When it was written, by the clock of whoever trained it.
    pub created: Timestamp,
    /// The seed of its training.
    pub seed: u64,
    /// The log it was trained on.
    pub training: TrainingRange,
    /// Every other file of the version by name.
    pub files: BTreeMap<String, FileRecord>,
}

impl Manifest {
    /// The manifest of a version that is about to be saved: its files are filled in then.
    pub fn new(created: Timestamp, seed: u64, training: TrainingRange) -> Self {
        let code_version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, code_version, created, seed, training, files: BTreeMap::new() }
    }
}
