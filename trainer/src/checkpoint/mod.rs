//! Checkpoints: what a training has learned so far, so that one that was killed goes on to the same bytes.
//!
//! The folder, local or in an object store, holds `current` (where fitting is, and the network), `best-N` (the network
//! after the pass that validation likes best so far) and, on a disk, `lock`; in a store, `current` names the object with
//! its content and is replaced only by the training that knows what it was. `best-N` is written before the `current` that needs it, and removed after the
//! `current` that no longer does, so that every `current` can be gone on from.

mod error;
mod file;
mod identity;
mod place;

use std::{fs, time::Duration};

use nearcast_datasets::{Timestamp, store::Location};
use nearcast_models::SequenceTrainer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::place::{CURRENT, Place};
pub use self::{error::CheckpointError, identity::checkpoint_name};
use crate::{EpochReport, RawTrainConfig, Result, features::CodedLog};

/// Where and how often a training is saved.
#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// The folder, local or in an object store; it is emptied when the version is published.
    pub folder: Location,
    /// The longest time between two checkpoints, which are written after every pass anyway.
    pub every: Duration,
    /// The shell's clock; it decides when to save and nothing else.
    pub clock: fn() -> Timestamp,
    /// Whether to go on from the checkpoint in the folder.
    pub resume: bool,
}

/// Which of its two ways over the data fitting is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Finding out on the validation slice how long to fit.
    Search,
    /// Fitting for so long on the whole training range.
    Last,
}

/// Where fitting is, between two batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Which way it is on.
    pub(crate) phase: Phase,
    /// Passes that ended.
    pub(crate) passes: usize,
    /// The pass that validation likes best so far, from 1; 0 before there is one.
    pub(crate) best_epoch: usize,
    /// How far the pass under way is.
    pub(crate) pass: Pass,
    /// Every pass of the search that ended.
    pub(crate) epochs: Vec<EpochReport>,
}

/// How far one pass is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// Batches learned from.
    pub(crate) batches: u64,
    /// Requests learned from.
    pub(crate) requests: u64,
    /// Sum of their losses.
    pub(crate) loss_sum: f64,
}

/// What a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Saved {
    /// Where fitting was.
    pub(crate) position: Position,
    /// The trainer, as [`SequenceTrainer::checkpoint`] wrote it.
    pub(crate) trainer: Vec<u8>,
    /// The trainer after the best pass.
    pub(crate) best: Option<Vec<u8>>,
}

/// The header of `current`.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    code_version: String,
    config: String,
    log: String,
    best: Option<String>,
    position: Position,
}

/// The checkpoints of one training.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: Location,
    place: Place,
    every: Duration,
    clock: fn() -> Timestamp,
    config: String,
    log: String,
    /// Hash of `best-N`.
    best: Option<String>,
    saved_at: Timestamp,
    is_new: bool,
}

impl Checkpoints {
    /// Refuses early, without writing anything, what could not be gone on with.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], [`CheckpointError::Other`] or [`CheckpointError::Damaged`].
    pub(crate) fn check(options: &CheckpointOptions, config: &RawTrainConfig) -> Result<()> {
        if !options.resume {
            return Ok(());
        }
        let place = Place::look(&options.folder)?;
        let Some(bytes) = place.read(CURRENT)? else {
            let (folder, others) = (options.folder.clone(), others(&options.folder, config));
            return Err(CheckpointError::Missing { folder, others }.into());
        };
        let (header, ..) = file::parse::<Header>(bytes, &options.folder.join(CURRENT))?;
        match header.difference(config)? {
            Some(difference) => Err(CheckpointError::Other { folder: options.folder.clone(), difference }.into()),
            None => Ok(()),
        }
    }

    /// Takes the folder for this training, and reads what it holds when that is to be gone on with.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`CheckpointError::Busy`].
    pub(crate) fn open(
        options: &CheckpointOptions,
        config: &RawTrainConfig,
        log: &CodedLog,
    ) -> Result<(Self, Option<Saved>)> {
        let (folder, place) = (options.folder.clone(), Place::take(&options.folder)?);
        let mut checkpoints = Self {
            folder,
            place,
            every: options.every,
            clock: options.clock,
            config: config.table()?.to_string(),
            log: identity::fingerprint(log)?,
            best: None,
            saved_at: (options.clock)(),
            is_new: true,
        };
        let saved = if options.resume { Some(checkpoints.read(config)?) } else { None };
        Ok((checkpoints, saved))
    }

    fn read(&mut self, config: &RawTrainConfig) -> Result<Saved> {
        let (header, trainer, _) = self.file::<Header>(CURRENT)?;
        let other = |difference| CheckpointError::Other { folder: self.folder.clone(), difference };
        if let Some(difference) = header.difference(config)? {
            return Err(other(difference).into());
        }
        if header.log != self.log {
            return Err(other("the log has other requests".to_owned()).into());
        }
        let best = header.best.as_ref().map(|expected| {
            let name = best_name(header.position.best_epoch);
            let (_, best, hash) = self.file::<toml::Table>(&name)?;
            if hash.to_hex().as_str() == expected {
                return Ok(best);
            }
            let (path, reason) = (self.folder.join(&name), "it is not the one that `current` belongs to".to_owned());
            Err(CheckpointError::Damaged { path, reason })
        });
        let best = best.transpose()?;
        (self.best, self.is_new) = (header.best, false);
        Ok(Saved { position: header.position, trainer, best })
    }

    fn file<T: DeserializeOwned>(&self, name: &str) -> Result<(T, Vec<u8>, blake3::Hash), CheckpointError> {
        let path = self.folder.join(name);
        let absent = || CheckpointError::Damaged { path: path.clone(), reason: "it is gone".to_owned() };
        file::parse(self.place.read(name)?.ok_or_else(absent)?, &path)
    }

    /// Whether so much time has gone by since the last checkpoint that the next one is due.
    pub(crate) fn is_due(&self) -> bool {
        (self.clock)().since(self.saved_at) >= self.every
    }

    /// Saves where fitting is; `is_best` when the pass that just ended is the best one so far.
    ///
    /// # Errors
    /// [`CheckpointError::File`], [`CheckpointError::Store`] or [`CheckpointError::Overtaken`]; what was saved before is
    /// untouched then.
    pub(crate) fn save(&mut self, position: &Position, trainer: &SequenceTrainer, is_best: bool) -> Result<()> {
        let bytes = trainer.checkpoint()?;
        if self.is_new {
            // An older training's checkpoint must not be taken for this one's.
            self.remove(&[CURRENT.to_owned()])?;
            self.is_new = false;
        }
        if is_best {
            let header = toml::Table::new();
            let hash = self.write(&best_name(position.best_epoch), &header, &bytes)?;
            self.best = Some(hash.to_hex().to_string());
        }
        let header = Header {
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            config: self.config.clone(),
            log: self.log.clone(),
            best: self.best.clone(),
            position: position.clone(),
        };
        self.write(CURRENT, &header, &bytes)?;
        let kept = best_name(position.best_epoch);
        let outdated: Vec<_> = self.best_files().into_iter().filter(|name| *name != kept).collect();
        self.remove(&outdated)?;
        self.saved_at = (self.clock)();
        Ok(())
    }

    /// Removes what a published version has made superfluous.
    pub(crate) fn discard(mut self) {
        let names = self.best_files().into_iter().chain([CURRENT.to_owned()]);
        // What cannot be removed only takes space; the version is published.
        let _ = self.remove(&names.collect::<Vec<_>>());
        self.place.clear();
    }

    fn write(&mut self, name: &str, header: &impl Serialize, body: &[u8]) -> Result<blake3::Hash, CheckpointError> {
        file::write((&mut self.place, &self.folder), name, header, body)
    }

    fn best_files(&self) -> Vec<String> {
        self.place.names().into_iter().filter(|name| name.starts_with(BEST)).collect()
    }

    fn remove(&mut self, names: &[String]) -> Result<()> {
        Ok(names.iter().try_for_each(|name| self.place.remove(name))?)
    }
}

impl Header {
    fn difference(&self, config: &RawTrainConfig) -> Result<Option<String>> {
        if self.code_version != env!("CARGO_PKG_VERSION") {
            return Ok(Some(format!("nearcast is {} there and {} here", self.code_version, env!("CARGO_PKG_VERSION"))));
        }
        let begun = self.position.passes + usize::from(self.position.pass.batches > 0);
        let may_go_on = self.position.phase == Phase::Search && config.fit.epochs_max >= begun;
        identity::difference(&self.config, config, may_go_on)
    }
}

/// Whether there is a checkpoint to go on from.
///
/// # Errors
/// What the object store refused.
pub fn has_checkpoint(folder: &Location) -> Result<bool> {
    Ok(Place::look(folder)?.exists(CURRENT)?)
}

/// Checkpoints beside a local `folder`, and how they differ from `config`, in words.
fn others(folder: &Location, config: &RawTrainConfig) -> String {
    let parent = folder.local_path().and_then(|folder| fs::read_dir(folder.parent()?).ok());
    let mut found: Vec<String> = parent
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let sibling = Location::from(entry.path());
            let bytes = Place::look(&sibling).ok()?.read(CURRENT).ok()??;
            let (header, ..) = file::parse::<Header>(bytes, &sibling).ok()?;
            let difference = header.difference(config).ok()?;
            let difference = difference.unwrap_or_else(|| "its logs are named differently".to_owned());
            Some(format!("{sibling}: {difference}"))
        })
        .collect();
    found.sort_unstable();
    found.truncate(OTHERS_MAX);
    if found.is_empty() { String::new() } else { format!(" ({})", found.join("; ")) }
}

fn best_name(epoch: usize) -> String {
    format!("{BEST}{epoch}")
}

/// Saves where there are checkpoints, and does nothing where there are none.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    /// The checkpoints.
    pub(crate) checkpoints: Option<Checkpoints>,
    /// What to go on from.
    pub(crate) saved: Option<Saved>,
}

impl Saver {
    /// See [`Checkpoints::is_due`].
    pub(crate) fn is_due(&self) -> bool {
        self.checkpoints.as_ref().is_some_and(Checkpoints::is_due)
    }

    /// See [`Checkpoints::save`].
    pub(crate) fn save(&mut self, position: &Position, trainer: &SequenceTrainer, is_best: bool) -> Result<()> {
        self.checkpoints.as_mut().map_or(Ok(()), |checkpoints| checkpoints.save(position, trainer, is_best))
    }
}

const BEST: &str = "best-";
/// Checkpoints nearby that are worth naming.
const OTHERS_MAX: usize = 3;
