//! A registry in a directory.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{Backend, Seen};
use crate::{
    Error, Result,
    artifact::files::{self, sync_directory, write_synced},
};

/// Files below a directory, made on first write.
#[derive(Debug)]
pub(in crate::registry) struct Local {
    root: PathBuf,
}

impl Local {
    pub(in crate::registry) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Writes the content beside its place, then lets `place` move it there.
    fn write(&self, path: &str, bytes: &[u8], place: impl FnOnce(&Path, &Path) -> io::Result<()>) -> Result<()> {
        let target = self.root.join(path);
        let folder = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        let staging = tempfile::Builder::new().prefix(".writing-").tempdir_in(&self.root);
        let staging = staging.map_err(Error::file("write in", &self.root))?;
        let written = staging.path().join("content");
        write_synced(&written, bytes)?;
        place(&written, &target).map_err(Error::file("write", &target))?;
        sync_directory(folder)?;
        // The folder itself may be new; that of `models` is the current one.
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or_else(|| Path::new(".")))
    }
}

impl Backend for Local {
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let folder = self.root.join(folder);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("list", folder)(error)),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<io::Result<_>>().map_err(Error::file("list", folder))?;
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        files::read(&self.root.join(path))
    }

    fn look(&self, path: &str) -> Result<Seen> {
        Ok(Seen { bytes: self.read(path)?, tag: None })
    }

    fn swap(&self, path: &str, seen: &Seen, bytes: Vec<u8>) -> Result<bool> {
        fs::create_dir_all(&self.root).map_err(Error::file("create", &self.root))?;
        let lock = self.root.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        // Held until the end of this function, by one process at a time.
        let file = file.map_err(Error::file("lock", &lock))?;
        file.lock().map_err(Error::file("lock", &lock))?;
        if self.read(path)? != seen.bytes {
            return Ok(false);
        }
        self.replace(path, bytes).map(|()| true)
    }

    fn create(&self, path: &str, bytes: Vec<u8>) -> Result<bool> {
        // A hard link is refused when its name is taken; a rename would replace.
        let result = self.write(path, &bytes, |from, to| fs::hard_link(from, to));
        match result {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn replace(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        self.write(path, &bytes, |from, to| fs::rename(from, to))
    }

    fn probe(&self) -> Result<()> {
        let existing = self.root.ancestors().find(|folder| folder.exists()).unwrap_or_else(|| Path::new("."));
        tempfile::tempfile_in(existing).map(drop).map_err(Error::file("write in", &self.root))
    }

    fn remove(&self, path: &str) -> Result<()> {
        let path = self.root.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", path)(error)),
            _ => {}
        }
        // A folder goes with its last file; while it has others, this is refused, as it should be.
        path.parent().filter(|folder| *folder != self.root).map_or(Ok(()), |folder| {
            let _ = fs::remove_dir(folder);
            Ok(())
        })
    }
}

/// What conditional writers hold.
const LOCK: &str = ".lock";
