//! Where a log lies: one file, a partitioned folder, or an object store.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path as StorePath};

use crate::{
    Error, blocking,
    error::Result,
    store::{Location, StoreError},
};

/// The place of a log: a Parquet file or a folder of them (`date=YYYY-MM-DD/…`), local or in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    place: Location,
}

/// One Parquet file of a log, found but not opened.
#[derive(Clone, Debug)]
pub(crate) struct FileAt {
    /// How messages call it.
    pub(crate) name: Arc<str>,
    /// Where to read it.
    pub(crate) place: FilePlace,
}

/// Where one file is read from.
#[derive(Clone, Debug)]
pub(crate) enum FilePlace {
    /// The local file system.
    Local(PathBuf),
    /// An object store.
    Remote { store: Arc<dyn ObjectStore>, path: StorePath, bytes: u64 },
}

impl LogSource {
    /// Reads a path, or a URL such as `s3://bucket/logs/`, `gs://…`, `az://…`, `file://…` or `http://…/log.parquet`.
    ///
    /// Nothing is opened yet. Stores are configured by their usual environment variables, such as
    /// `AWS_ACCESS_KEY_ID` or `AWS_ENDPOINT_URL`.
    ///
    /// # Errors
    /// [`Error::Store`] for a URL of an unknown kind.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { place: Location::parse(text)? })
    }

    /// The local path, unless the log lies in an object store.
    pub fn local_path(&self) -> Option<&Path> {
        self.place.local_path()
    }

    /// Every Parquet file of the log, by name. Names that start with `.` or `_` are passed over, as Hive does.
    pub(crate) fn files(&self) -> Result<Vec<FileAt>> {
        let mut files = match self.place.local_path() {
            Some(path) => local_files(path)?,
            None => remote_files(&self.place)?,
        };
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if files.is_empty() { Err(Error::NoFiles { log: self.to_string() }) } else { Ok(files) }
    }
}

impl From<&Path> for LogSource {
    fn from(path: &Path) -> Self {
        Self { place: path.into() }
    }
}

impl From<PathBuf> for LogSource {
    fn from(path: PathBuf) -> Self {
        Self { place: path.into() }
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

fn local_files(path: &Path) -> Result<Vec<FileAt>> {
    let failed = |path: &Path, source| Error::Io { action: "read", path: path.display().to_string(), source };
    if !fs::metadata(path).map_err(|error| failed(path, error))?.is_dir() {
        return Ok(vec![local_file(path.to_owned())]);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let entry = entry.map_err(|error| failed(&folder, error))?;
            let (path, name) = (entry.path(), entry.file_name());
            if is_hidden(&name.to_string_lossy()) {
                continue;
            }
            if fs::metadata(&path).map_err(|error| failed(&path, error))?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == EXTENSION) {
                files.push(local_file(path));
            }
        }
    }
    Ok(files)
}

fn local_file(path: PathBuf) -> FileAt {
    FileAt { name: path.display().to_string().into(), place: FilePlace::Local(path) }
}

fn remote_files(location: &Location) -> Result<Vec<FileAt>> {
    let (store, prefix) = location.open()?;
    let url = location.to_string();
    // What follows the scheme up to the next slash is the bucket, or the server.
    let start = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[start..].find('/').map_or(url.len(), |bucket| start + bucket);
    stored_files(&store, &prefix, &url[..end])
}

/// The object at `prefix` if that ends like a log's file, else the files below it; named as continuations of `base`.
fn stored_files(store: &Arc<dyn ObjectStore>, prefix: &StorePath, base: &str) -> Result<Vec<FileAt>> {
    let is_file = prefix.extension() == Some(EXTENSION);
    let (listed, below) = (Arc::clone(store), prefix.clone());
    let found = blocking::wait(async move {
        if is_file { Ok(vec![listed.head(&below).await?]) } else { listed.list(Some(&below)).try_collect().await }
    });
    let found: Vec<_> = found.map_err(StoreError::refused("read", format!("{base}/{prefix}")))?;
    let wanted = found.into_iter().filter(|file| {
        let inner = file.location.prefix_match(prefix).into_iter().flatten();
        file.location.extension() == Some(EXTENSION) && !inner.into_iter().any(|part| is_hidden(part.as_ref()))
    });
    Ok(wanted
        .map(|file| FileAt {
            name: format!("{base}/{}", file.location).into(),
            place: FilePlace::Remote { store: Arc::clone(store), path: file.location, bytes: file.size },
        })
        .collect())
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// What the names of a log's files end in.
const EXTENSION: &str = "parquet";

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_prefix_yields_its_visible_parquet_files_and_a_file_itself() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let names = ["date=2026-01-02/b.parquet", "date=2026-01-01/a.parquet", "_tmp/c.parquet", ".d.parquet", "e.txt"];
        for name in names {
            let (store, path) = (Arc::clone(&store), StorePath::from(format!("logs/{name}")));
            blocking::wait(async move { store.put(&path, "four".into()).await }).unwrap();
        }
        let check = |prefix: &str, expected: &[&str]| {
            let mut files = stored_files(&store, &StorePath::from(prefix), "s3://bucket").unwrap();
            files.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(files.iter().map(|file| &*file.name).collect::<Vec<_>>(), expected);
            assert!(files.iter().all(|file| matches!(file.place, FilePlace::Remote { bytes: 4, .. })));
        };
        let (first, second) =
            ("s3://bucket/logs/date=2026-01-01/a.parquet", "s3://bucket/logs/date=2026-01-02/b.parquet");
        check("logs", &[first, second]);
        check("logs/date=2026-01-02", &[second]);
        check("logs/date=2026-01-01/a.parquet", &[first]);
        check("elsewhere", &[]);
        let gone = stored_files(&store, &StorePath::from("logs/gone.parquet"), "s3://bucket").unwrap_err();
        assert_eq!(gone.to_string(), "cannot read s3://bucket/logs/gone.parquet: there is no such object");
    }
}
