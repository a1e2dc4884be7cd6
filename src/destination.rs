//! Where a log is written: a local path, or an object store, for which it is made in a temporary folder and then sent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use nearcast_datasets::store::{Location, Objects};
use tempfile::TempDir;

/// The place of an output.
#[derive(Debug)]
pub(crate) struct Destination {
    /// What is written to.
    path: PathBuf,
    remote: Option<Remote>,
}

#[derive(Debug)]
struct Remote {
    /// The folder above the log.
    place: Location,
    objects: Objects,
    staging: TempDir,
}

impl Destination {
    /// A path, or a URL; asks a store early whether it answers, and, where a folder is to be written, whether it is
    /// still empty.
    pub(crate) fn open(text: &str) -> anyhow::Result<Self> {
        let location = Location::parse(text)?;
        if let Some(path) = location.local_path() {
            return Ok(Self { path: path.to_owned(), remote: None });
        }
        let trimmed = text.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or_default();
        ensure!(!parent.ends_with('/'), "{text} is a whole bucket; name a folder or a file in it");
        let place = Location::parse(parent)?;
        let objects = Objects::open(&place)?;
        let found = objects.names(name)?;
        ensure!(
            name.ends_with(".parquet") || found.is_empty(),
            "{text} exists and is not empty; remove it or choose another place"
        );
        let staging = tempfile::Builder::new().prefix("nearcast-log-").tempdir();
        let staging = staging.context("cannot make a temporary folder; set TMPDIR to a disk with space")?;
        let path = staging.path().join(name);
        Ok(Self { path, remote: Some(Remote { place, objects, staging }) })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends what was written, file by file, each of which is there whole or not at all.
    pub(crate) fn deliver(&self) -> anyhow::Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let mut folders = vec![remote.staging.path().to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
            let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            paths.sort();
            for path in paths {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    remote.objects.send(&remote.name(&path), &path)?;
                }
            }
        }
        Ok(())
    }

    /// How messages call what was written to `path`.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        match &self.remote {
            Some(remote) if path.starts_with(remote.staging.path()) => {
                remote.place.join(&remote.name(path)).to_string().into()
            }
            _ => path.to_owned(),
        }
    }
}

impl Remote {
    /// The name below the place of a file in the temporary folder.
    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.staging.path()).unwrap_or(path).to_string_lossy().into_owned()
    }
}
