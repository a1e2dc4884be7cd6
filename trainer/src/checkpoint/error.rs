//! Why a training cannot be saved or gone on with.

use std::{io, path::PathBuf};

use nearcast_datasets::store::{Location, StoreError};

/// Why a checkpoint could not be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another process trains with the folder.
    #[error(
        "another training uses the checkpoint folder {folder}; wait for it, or give another one with `--checkpoints`"
    )]
    Busy {
        /// The folder.
        folder: Location,
    },
    /// The checkpoint is not whole.
    #[error("the checkpoint {path} is not usable: {reason}; train without `--resume`")]
    Damaged {
        /// The file.
        path: Location,
        /// What is wrong with it.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {action} the checkpoint {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has saved to the folder since this one read it or saved to it last.
    #[error(
        "another training has saved to the checkpoint folder {folder} meanwhile; give one of them another folder with `--checkpoints`"
    )]
    Overtaken {
        /// The folder.
        folder: Location,
    },
    /// The object store of the folder refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to go on from.
    #[error("there is no checkpoint in {folder} to resume from{others}; train without `--resume`")]
    Missing {
        /// The folder.
        folder: Location,
        /// Checkpoints nearby, and how they differ.
        others: String,
    },
    /// The checkpoint belongs to another training.
    #[error(
        "the checkpoint in {folder} is of another training: {difference}; resume with what it was made with, or train \
         without `--resume`"
    )]
    Other {
        /// The folder.
        folder: Location,
        /// What differs.
        difference: String,
    },
}

impl CheckpointError {
    /// Wraps a failed file operation.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }
}
