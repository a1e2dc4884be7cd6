//! What a version consists of and where it comes from.

use std::collections::BTreeMap;

use nearcast_datasets::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    artifact::{FILES_REQUIRED, MANIFEST},
};

/// The artifact format that this build writes and reads.
pub(crate) const FORMAT: u32 = 4;

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
    /// Artifact format.
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
    /// BLAKE3 hash of all of the above, in hexadecimal; empty until the version is saved.
    pub seal: String,
}

/// The one field that every format has: a manifest of another format may look different otherwise.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl Manifest {
    /// The manifest of a version that is about to be saved: its files are filled in then.
    pub fn new(created: Timestamp, seed: u64, training: TrainingRange) -> Self {
        let code_version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, code_version, created, seed, training, files: BTreeMap::new(), seal: String::new() }
    }

    /// The manifest of these files, sealed so that a change to any of its values shows.
    pub(crate) fn sealed(self, files: BTreeMap<String, FileRecord>) -> Result<Self> {
        let manifest = Self { files, ..self };
        Ok(Self { seal: manifest.own_seal()?, ..manifest })
    }

    fn own_seal(&self) -> Result<String> {
        let unsealed = Self { seal: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&unsealed).map_err(Error::learn(MANIFEST))?;
        Ok(FileRecord::of(&bytes).blake3)
    }

    /// Reads `manifest.json` of the artifact in `path`, refusing other formats and files that could lie elsewhere.
    pub(crate) fn parse(path: &str, bytes: &[u8]) -> Result<Self> {
        let broken = |error: serde_json::Error| Error::content(MANIFEST, error.to_string());
        let AnyFormat { format } = serde_json::from_slice(bytes).map_err(broken)?;
        if format != FORMAT {
            return Err(Error::ArtifactFormat { path: path.to_owned(), found: format, expected: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(broken)?;
        let found = manifest.own_seal()?;
        if found != manifest.seal {
            let (path, file) = (path.to_owned(), MANIFEST.to_owned());
            return Err(Error::ArtifactHash { path, file, found, expected: manifest.seal });
        }
        if let Some(name) = manifest.files.keys().find(|name| !is_plain_name(name)) {
            return Err(Error::content(MANIFEST, format!("`{name}` is no plain file name")));
        }
        match FILES_REQUIRED.into_iter().find(|name| !manifest.files.contains_key(*name)) {
            Some(name) => Err(Error::content(MANIFEST, format!("it does not list {name}"))),
            None => Ok(manifest),
        }
    }

    /// Reads one file through `read` and compares it with this manifest.
    pub(crate) fn check(
        &self,
        path: &str,
        name: &str,
        read: impl FnOnce(&str) -> Result<Option<Vec<u8>>>,
    ) -> Result<Vec<u8>> {
        let (path, file) = (path.to_owned(), name.to_owned());
        let Some(record) = self.files.get(name) else {
            return Err(Error::ArtifactFiles { path, file, state: "not in the manifest" });
        };
        let Some(bytes) = read(name)? else {
            return Err(Error::ArtifactFiles { path, file, state: "missing" });
        };
        let found = FileRecord::of(&bytes).blake3;
        if found != record.blake3 {
            return Err(Error::ArtifactHash { path, file, found, expected: record.blake3.clone() });
        }
        Ok(bytes)
    }
}

/// Whether a file of this name can only lie in the version's own folder, and shows there.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':'])
}
