//! Experiments on disk: one folder each. The only part that does input and output.
//!
//! `plan.json` is written once; `record.jsonl` and `blocks.jsonl` grow by whole lines that are synced before anybody acts
//! on them; `evidence-<hash>.json` is what a change rested on.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::keeper::{BLOCKS, DESIGN, Entry, Keeper, Kept, RECORD};
use crate::{Error, Result, whole::replace_file};

/// The folder of all experiments.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

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
        folders.iter().filter(|folder| folder.join(DESIGN).exists()).map(|folder| read_one(folder)).collect()
    }

    fn create(&self, name: &str, design: &str) -> Result<()> {
        let folder = self.0.join(name);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let path = folder.join(DESIGN);
        replace_file(&path, |file| file.write_all(design.as_bytes())).map_err(Error::file("write", &path))
    }

    fn keep_evidence(&self, name: &str, hash: &str, document: &[u8]) -> Result<()> {
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

impl Keeper for Files {
    fn keep(&mut self, name: &str, entry: Entry<'_>) -> Result<()> {
        match entry {
            Entry::Design(design) => self.create(name, design),
            Entry::Change(line) => self.append(name, RECORD, line),
            Entry::Block(line) => self.append(name, BLOCKS, line),
            Entry::Evidence { hash, document } => self.keep_evidence(name, hash, document),
        }
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
    let blocks = text(BLOCKS)?;
    let whole = blocks.rfind('\n').map_or("", |end| &blocks[..end]);
    Ok(Kept {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        design: text(DESIGN)?,
        changes: text(RECORD)?,
        blocks: whole.lines().map(str::to_owned).collect(),
    })
}
