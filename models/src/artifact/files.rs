//! Where an artifact's files are read from and written to, with hashes.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::{Error, FileRecord, Result};

/// One file of an artifact with its content.
pub type NamedBytes = (&'static str, Vec<u8>);

impl FileRecord {
    /// What the manifest says of a file with this content.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }
}

/// Creates the directory `dir` with these files: written beside it, synced, then renamed, so that it appears whole.
pub(crate) fn write_directory(dir: &Path, files: &[NamedBytes]) -> Result<()> {
    if dir.exists() {
        return Err(Error::file("create", dir)(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already")));
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    let staging =
        tempfile::Builder::new().prefix(".saving-").tempdir_in(parent).map_err(Error::file("write in", parent))?;
    for (name, bytes) in files {
        write_synced(&staging.path().join(name), bytes)?;
    }
    sync_directory(staging.path())?;
    fs::rename(staging.path(), dir).map_err(Error::file("create", dir))?;
    // The staging name is gone: nothing is left to clean up.
    let _ = staging.keep();
    sync_directory(parent)
}

/// Writes a new file and waits until it is on disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::file("write", path))
}

/// Waits until a directory's entries are on disk.
pub(crate) fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::file("sync", dir))
}

/// A file's content; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
