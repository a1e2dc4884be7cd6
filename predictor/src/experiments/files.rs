//! Experiments on disk: one folder each. The only part that does input and output.
//!
//! `plan.json` is written once; `record.jsonl` and `blocks.jsonl` grow by whole lines that are synced before anybody acts
//! on them; `evidence-<hash>.json` is what a change rested on.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use nearcast_experiment::stage::{Change, Record};

use super::trial::{Block, Design};
use crate::{Error, Result, whole::replace_file};

/// The folder of all experiments.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

/// What was kept of one.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) design: Design,
    pub(super) record: Record,
    pub(super) blocks: Vec<Block>,
}

impl Files {
    pub(super) fn open(data_dir: &Path) -> Result<Self> {
        let folder = data_dir.join("experiments");
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        Ok(Self(folder))
    }

    /// Every experiment, by name.
    pub(super) fn read(&self) -> Result<Vec<Kept>> {
        let mut folders: Vec<PathBuf> = fs::read_dir(&self.0)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
            .map_err(Error::file("read", &self.0))?;
        folders.sort();
        // A folder without a plan was being made when its maker died: nothing had begun.
        folders.iter().filter(|folder| folder.join("plan.json").exists()).map(|folder| read_one(folder)).collect()
    }

    /// Writes a new experiment down.
    pub(super) fn create(&self, design: &Design) -> Result<()> {
        let folder = self.0.join(&design.question.name);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let path = folder.join("plan.json");
        let text = serde_json::to_vec_pretty(design).map_err(io::Error::from).map_err(Error::file("write", &path))?;
        replace_file(&path, |file| file.write_all(&text)).map_err(Error::file("write", &path))
    }

    /// Adds a change to an experiment's record.
    pub(super) fn append_change(&self, name: &str, change: &Change) -> Result<()> {
        self.append(name, "record.jsonl", &change.to_line())
    }

    /// Adds a finished block.
    pub(super) fn append_block(&self, name: &str, block: &Block) -> Result<()> {
        let path = self.0.join(name).join("blocks.jsonl");
        let line = serde_json::to_string(block).map_err(io::Error::from).map_err(Error::file("write", &path))?;
        self.append(name, "blocks.jsonl", &line)
    }

    /// Keeps what a change rests on, under its hash.
    pub(super) fn keep_evidence(&self, name: &str, hash: &str, document: &[u8]) -> Result<()> {
        let path = self.0.join(name).join(format!("evidence-{hash}.json"));
        replace_file(&path, |file| file.write_all(document)).map_err(Error::file("write", &path))
    }

    fn append(&self, name: &str, file: &str, line: &str) -> Result<()> {
        let path = self.0.join(name).join(file);
        let write = || {
            // A line without its end is of a writer that died: nobody acted on it.
            let whole = match fs::read(&path) {
                Ok(bytes) => bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
            file.set_len(whole)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_data()
        };
        write().map_err(Error::file("write", &path))
    }
}

fn read_one(folder: &Path) -> Result<Kept> {
    let text = |file: &str| {
        let path = folder.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    };
    let bad = |file: &str, error: String| {
        Error::file("read", &folder.join(file))(io::Error::new(io::ErrorKind::InvalidData, error))
    };
    let plan = text("plan.json")?;
    let design = serde_json::from_str(&plan).map_err(|error| bad("plan.json", error.to_string()))?;
    let record = Record::from_lines(&text("record.jsonl")?).map_err(|error| bad("record.jsonl", error.to_string()))?;
    let blocks = text("blocks.jsonl")?;
    let whole = blocks.rfind('\n').map_or("", |end| &blocks[..end]);
    let blocks = whole.lines().map(serde_json::from_str).collect::<Result<Vec<Block>, _>>();
    Ok(Kept { design, record, blocks: blocks.map_err(|error| bad("blocks.jsonl", error.to_string()))? })
}
