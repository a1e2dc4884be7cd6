//! What can go wrong in the models, their artifacts and the registry.

use std::{io, path::PathBuf};

use nearcast_datasets::store::StoreError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be made, trained, saved, loaded or published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An alias that no version stands behind.
    #[error("registry {registry} has no version or alias `{name}`; `nearcast models list` shows what it has")]
    AliasOrVersionUnknown {
        /// The registry that was asked.
        registry: String,
        /// What was asked for.
        name: String,
    },
    /// A version that an alias points at cannot be deleted.
    #[error("version {version} is what alias `{alias}` points at; point the alias elsewhere before deleting it")]
    AliasedVersion {
        /// The version.
        version: String,
        /// One alias that points at it.
        alias: String,
    },
    /// A file of an artifact does not say what it must.
    #[error("{file} of the model artifact is not usable: {reason}; train or fetch the version again")]
    ArtifactContent {
        /// The file within the artifact.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the manifest lists is missing, or one it does not list is present.
    #[error("{file} of the model artifact in {path} is {state}; fetch the version again")]
    ArtifactFiles {
        /// The artifact's place.
        path: String,
        /// The file within the artifact.
        file: String,
        /// `missing` or `not in the manifest`.
        state: &'static str,
    },
    /// The artifact was written in a format that this build does not read.
    #[error(
        "the model artifact in {path} has format {found}, this build reads format {expected}; use a matching build"
    )]
    ArtifactFormat {
        /// The artifact's place.
        path: String,
        /// Its format version.
        found: u32,
        /// The format version that this build reads.
        expected: u32,
    },
    /// A file's bytes are not those that were published.
    #[error(
        "{file} of the model artifact in {path} is damaged: its hash is {found}, the manifest says {expected}; fetch the version again"
    )]
    ArtifactHash {
        /// The artifact's place.
        path: String,
        /// The file within the artifact.
        file: String,
        /// The hash of the bytes found.
        found: String,
        /// The hash in the manifest.
        expected: String,
    },
    /// A training checkpoint that training cannot go on from.
    #[error(
        "training cannot go on from the checkpoint: {reason}; give it the data and configuration it was made with, or start anew"
    )]
    Checkpoint {
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration value is out of its range.
    #[error("{field} is {value}, but must be {expected}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// The value found.
        value: String,
        /// The range allowed.
        expected: &'static str,
    },
    /// Reading or writing a file failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The learning library refused a computation.
    #[error("computing {what} failed")]
    Learn {
        /// What was being computed.
        what: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The loss of a training step is not a finite number.
    #[error(
        "the loss of step {step} of the {model} model is {loss}; lower its learning rate or look for extreme inputs"
    )]
    LossNotFinite {
        /// Which model was being trained.
        model: &'static str,
        /// Steps done before, counted from zero.
        step: u64,
        /// The loss found.
        loss: f32,
    },
    /// A name that is not allowed for an alias or a version.
    #[error("`{name}` cannot name an alias: use lower-case letters, digits and `-`, not the form of a version")]
    Name {
        /// The name.
        name: String,
    },
    /// No version number was free after several tries.
    #[error(
        "no version number was free in registry {registry} after {tries} tries; too many publish at once, try again"
    )]
    PublishContended {
        /// The registry.
        registry: String,
        /// How many numbers were tried.
        tries: u32,
    },
    /// A place could not be understood, or its object store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else moved an alias at the same time.
    #[error(
        "alias `{alias}` was moved by somebody else meanwhile: it is {now}, and not pointed at {wanted}; look, and try again"
    )]
    AliasMoved {
        /// The alias.
        alias: String,
        /// What is behind it now.
        now: String,
        /// What was to be.
        wanted: String,
    },
    /// The registry is laid out in a way that this build does not know.
    #[error(
        "registry {registry} has format {found}, written by a newer nearcast; this build reads up to {expected} and touches \
         nothing in it: use the newer one"
    )]
    RegistryFormat {
        /// The registry.
        registry: String,
        /// What its `format` says.
        found: String,
        /// The newest format that this build knows.
        expected: u32,
    },
}

impl Error {
    /// Wraps a failure of the learning library while computing `what`.
    pub(crate) fn learn<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Learn { what, source: source.into() }
    }

    /// Wraps a failed file operation.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }

    /// Says that `file` of an artifact is unusable because of `reason`.
    pub(crate) fn content(file: &str, reason: impl Into<String>) -> Self {
        Self::ArtifactContent { file: file.to_owned(), reason: reason.into() }
    }
}
