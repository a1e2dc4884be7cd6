//! The map on disk: a head and one key a line, JSON, written to a temporary name, synced and renamed.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
};

use nearcast_proto::message::{Epoch, NodeName};
use serde::{Deserialize, Serialize};

use crate::{placement::NodeSet, whole::replace_file};

/// Everything that a predictor must know again after a restart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saved {
    /// Tells this map from any other.
    pub(super) map: Arc<str>,
    pub(super) epoch: Epoch,
    /// Whether its life ended in order: nothing was told since.
    pub(super) is_final: bool,
    /// Plans so far.
    pub(super) plans: u64,
    /// Nodes by position.
    pub(super) nodes: Vec<NodeName>,
    pub(super) draining: Vec<NodeName>,
    pub(super) keys: Vec<SavedKey>,
}

/// One key of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SavedKey {
    pub(super) key: Arc<str>,
    pub(super) bytes: u64,
    /// Where it is meant to be held.
    pub(super) wanted: NodeSet,
    /// Whom nodes are told to ask for it.
    pub(super) holders: NodeSet,
    /// Where it may be pinned.
    pub(super) asked: NodeSet,
    pub(super) saved_seconds: f32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    schema: String,
    map: Arc<str>,
    epoch: u64,
    #[serde(rename = "final")]
    is_final: bool,
    plans: u64,
    nodes: Vec<Arc<str>>,
    draining: Vec<Arc<str>>,
    keys: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: Arc<str>,
    bytes: u64,
    wanted: Vec<usize>,
    holders: Vec<usize>,
    asked: Vec<usize>,
    saved_seconds: f32,
}

impl Saved {
    /// A map of nothing, unlike any other.
    pub(super) fn begin() -> Self {
        let map = Arc::from(format!("{:016x}", rand::random::<u64>()));
        let (nodes, draining, keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { map, epoch: Epoch(0), is_final: false, plans: 0, nodes, draining, keys }
    }

    /// Makes sure that no version that is told from now on can be taken for one that was told before: a life that did not
    /// end in order may have told of later ones than it wrote down.
    pub(super) fn go_on(&mut self, folder: &Path) -> io::Result<()> {
        if !std::mem::take(&mut self.is_final) && self.plans > 0 {
            self.epoch.0 += EPOCHS_PER_LIFE;
        }
        self.write(folder)
    }

    /// Reads the map of a folder. A damaged one is put aside; without one, another begins, which nodes notice.
    pub(super) fn open(folder: &Path) -> io::Result<Option<Self>> {
        let path = path(folder);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match read(BufReader::new(file)) {
            Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                let aside = path.with_extension("damaged.jsonl");
                tracing::error!(%error, aside = %aside.display(), "the placement map is damaged and put aside; it is rebuilt from what nodes say they hold");
                fs::rename(&path, aside)?;
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let shared = |names: &[NodeName]| names.iter().map(|name| Arc::clone(&name.0)).collect();
        let head = Head {
            schema: SCHEMA.to_owned(),
            map: Arc::clone(&self.map),
            epoch: self.epoch.0,
            is_final: self.is_final,
            plans: self.plans,
            nodes: shared(&self.nodes),
            draining: shared(&self.draining),
            keys: self.keys.len(),
        };
        let mut keys: Vec<&SavedKey> = self.keys.iter().collect();
        keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        replace_file(&path(folder), |writer| {
            write_line(writer, &head)?;
            for SavedKey { key, bytes, wanted, holders, asked, saved_seconds } in keys {
                let [wanted, holders, asked] = [wanted, holders, asked].map(|nodes| nodes.iter().collect());
                let (key, bytes, saved_seconds) = (Arc::clone(key), *bytes, *saved_seconds);
                write_line(writer, &Line { key, bytes, wanted, holders, asked, saved_seconds })?;
            }
            Ok(())
        })
    }
}

/// Writes whatever comes until nobody can send anything any more. Blocks its thread.
pub(super) fn write_all(folder: &Path, maps: &Receiver<Saved>) {
    let mut is_failing = false;
    while let Ok(saved) = maps.recv() {
        // Only the latest matters.
        let saved = maps.try_iter().last().unwrap_or(saved);
        let written = saved.write(folder);
        if let (Err(error), false) = (&written, is_failing) {
            tracing::error!(%error, folder = %folder.display(), "the placement map cannot be written");
        }
        is_failing = written.is_err();
    }
}

fn read(mut reader: impl BufRead) -> io::Result<Saved> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let head: Head = serde_json::from_str(&line)?;
    if head.schema != SCHEMA {
        return Err(damaged("its schema is another"));
    }
    let mut keys = Vec::new();
    for line in reader.lines() {
        let Line { key, bytes, wanted, holders, asked, saved_seconds } = serde_json::from_str(&line?)?;
        let [wanted, holders, asked] = [wanted, holders, asked].map(|nodes| nodes.into_iter().collect());
        keys.push(SavedKey { key, bytes, wanted, holders, asked, saved_seconds });
    }
    if keys.len() != head.keys {
        return Err(damaged("it ends too early"));
    }
    let names = |names: &[Arc<str>]| names.iter().cloned().map(NodeName).collect();
    let (nodes, draining) = (names(&head.nodes), names(&head.draining));
    let Head { map, epoch, is_final, plans, .. } = head;
    Ok(Saved { map, epoch: Epoch(epoch), is_final, plans, nodes, draining, keys })
}

fn write_line(writer: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("placement.jsonl")
}

/// Far more than one life can tell of.
const EPOCHS_PER_LIFE: u64 = 1 << 32;
const SCHEMA: &str = "nearcast.placement-map/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_and_a_damaged_one_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Saved::open(folder.path()).unwrap(), None);
        let key = |name: &str| SavedKey {
            key: Arc::from(name),
            bytes: 5,
            wanted: [0, 63, 255].into_iter().collect(),
            holders: NodeSet::EMPTY.with(1),
            asked: NodeSet::EMPTY,
            saved_seconds: 0.25,
        };
        let saved = Saved {
            epoch: Epoch(7),
            plans: 3,
            nodes: vec![NodeName::from("a")],
            draining: vec![NodeName::from("b")],
            keys: vec![key("/\"b\"\n"), key("/a")],
            ..Saved::begin()
        };
        saved.write(folder.path()).unwrap();
        assert_eq!(Saved::open(folder.path()).unwrap(), Some(saved));
        let text = fs::read_to_string(path(folder.path())).unwrap();
        for cut in [10, text.len() - 30, text.rfind("{\"key\"").unwrap()] {
            fs::write(path(folder.path()), &text[..cut]).unwrap();
            assert_eq!(Saved::open(folder.path()).unwrap(), None, "cut at {cut}");
            assert!(folder.path().join("placement.damaged.jsonl").exists());
        }
        assert_ne!(Saved::begin().map, Saved::begin().map);
    }

    #[test]
    fn versions_of_a_life_that_did_not_end_in_order_are_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut saved = Saved { epoch: Epoch(7), plans: 1, is_final: true, ..Saved::begin() };
        saved.go_on(folder.path()).unwrap();
        assert_eq!(saved.epoch, Epoch(7));
        let mut crashed = Saved::open(folder.path()).unwrap().unwrap();
        assert_eq!(crashed, saved);
        crashed.go_on(folder.path()).unwrap();
        assert!(crashed.epoch > Epoch(1 << 32));
    }
}
