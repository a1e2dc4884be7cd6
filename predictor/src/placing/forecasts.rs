//! What the planning thread knows, on disk: a line that says what it is, a digest, and the rest in postcard.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use nearcast_datasets::{KeyId, Map};
use serde::{Deserialize, Serialize};

use super::known::{Forgettable, SharedKnown};
use crate::{placement::SavedStrategy, whole::replace_file};

/// A strategy's knowledge, with the names behind its numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Forecasts {
    /// Regions by number.
    pub(super) regions: Vec<Arc<str>>,
    /// Keys by number.
    pub(super) names: Vec<(KeyId, Arc<str>)>,
    pub(super) strategy: SavedStrategy,
    /// Nodes that there was room at.
    pub(super) nodes: usize,
}

impl Forecasts {
    /// Reads those of a folder; `None` when there are none. Damaged ones are put aside, and learned anew.
    ///
    /// # Errors
    /// When the file is there and cannot be read or put aside.
    pub(super) fn open(folder: &Path) -> io::Result<Option<Self>> {
        let path = path(folder);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match decode(&bytes) {
            Ok(forecasts) => Ok(Some(forecasts)),
            Err(problem) => {
                let aside = path.with_extension("damaged");
                tracing::error!(problem, aside = %aside.display(), "the forecasts are damaged and put aside; they are learned anew");
                fs::rename(&path, aside)?;
                Ok(None)
            }
        }
    }

    /// Writes them in full or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let body = postcard::to_allocvec(self).map_err(io::Error::other)?;
        replace_file(&path(folder), |writer| {
            writer.write_all(SCHEMA)?;
            writer.write_all(blake3::hash(&body).as_bytes())?;
            writer.write_all(&body)
        })
    }

    /// Gives keys the numbers that they have now, or get; what there is no room for is left out.
    pub(super) fn renumber(&mut self, known: &SharedKnown, forgettable: Forgettable) {
        let names: Map<KeyId, Arc<str>> = std::mem::take(&mut self.names).into_iter().collect();
        let mut known = known.lock();
        let mut numbers: Map<KeyId, KeyId> = Map::default();
        for (key, bytes, last) in self.strategy.keys() {
            let Some(name) = names.get(&key) else { continue };
            // A key that is known already has told its size.
            let is_new = known.find(name).is_none();
            if let Some(number) = known.intern(name, forgettable, |_| true) {
                if is_new {
                    known.note_asked(last, number, bytes);
                }
                numbers.insert(key, number);
            }
        }
        drop(known);
        self.strategy.renumber(&|key| numbers.get(&key).copied());
    }
}

fn decode(bytes: &[u8]) -> Result<Forecasts, &'static str> {
    let body = bytes.strip_prefix(SCHEMA).ok_or("its first line is another")?;
    let (digest, body) = body.split_at_checked(blake3::OUT_LEN).ok_or("it ends too early")?;
    if blake3::hash(body).as_bytes() != digest {
        return Err("its digest is another");
    }
    postcard::from_bytes(body).map_err(|_| "it cannot be read")
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("forecasts.bin")
}

const SCHEMA: &[u8] = b"nearcast.forecasts/2\n";
