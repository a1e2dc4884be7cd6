//! Sequence, co-access, placement and gate models, their artifact format and registry.
//!
//! A [`Model`] is one trained version: a [`Vocabulary`] of keys, a [`SequenceModel`] that says what one client asks for
//! next, [`TrainedCoAccess`] counts of which key follows which, and a [`PlacementHead`] that says how much demand a key
//! will have in a region. It is saved as a directory of public formats and published to a [`Registry`]. Two models are
//! learned online instead, by whoever serves: [`CoAccess`] and the [`Gate`].
//!
//! Training runs in candle ([`SequenceTrainer`], [`PlacementTrainer`]); serving is plain loops over the same weights.
//! Nothing here reads a clock or draws entropy: the same seed and data give the same bytes.

mod artifact;
pub mod blend;
mod coaccess;
mod error;
pub mod gate;
mod kernel;
mod placement;
mod registry;
mod sequence;
mod tokens;
mod vocabulary;

pub use artifact::{FileRecord, Manifest, Model, ModelConfig, NamedBytes, TrainingRange};
pub use blend::{
    BLEND_FEATURE_COUNT, BLEND_FEATURE_NAMES, Blend, BlendConfig, BlendContextRow, BlendExample, BlendKeyRow,
    BlendLearning, BlendLinkRow, BlendSession, Proposal, RankerState, TrainedBlend,
};
pub use coaccess::{
    CoAccess, CoAccessConfig, CoAccessCounters, CoAccessEntryState, CoAccessRow, CoAccessSlotState, CoAccessState,
    Successor, TrainedCoAccess,
};
pub use error::{Error, Result};
pub use gate::{GATE_FEATURE_COUNT, Gate, GateConfig, GateFeatures, GateState, HiddenState};
pub use placement::{
    DECAYS, DecayedCounts, DemandCorrection, DemandHistory, DemandQuery, HALF_LIVES_SECONDS, HORIZONS_MAX, HourMoments,
    MOMENTS, PlacementConfig, PlacementExample, PlacementHead, PlacementTrainer, RecentCounts,
};
pub use registry::{Registry, VersionName, VersionSummary};
pub use sequence::{
    BatchCell, ItemCatalogue, SequenceBatch, SequenceConfig, SequenceModel, SequenceState, SequenceTrainer,
    SessionLanes, TrainingDevice,
};
pub use tokens::{TOKENS_MAX, TokenIds};
pub use vocabulary::{ItemRef, Vocabulary, VocabularyConfig};
