//! Where a log lies: one file, a partitioned folder, or an object store.

use std::{fmt, path::PathBuf};

use url::Url;

use crate::{Error, error::Result};

/// The place of a log: a Parquet file or a folder of them (`date=YYYY-MM-DD/…`), local or in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Remote(Url),
}

impl LogSource {
    /// Reads a path, or a URL such as `s3://bucket/logs/`, `gs://…`, `az://…`, `file://…` or `http://…/log.parquet`.
    ///
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// [`Error::BadUrl`] for a URL of an unknown kind.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.contains("://") {
            return Ok(Self { place: Place::Local(PathBuf::from(text)) });
        }
        let url = Url::parse(text).map_err(|source| Error::BadUrl { text: text.into(), source: source.into() })?;
        if url.scheme() == "file" {
            let no_path = || Error::BadUrl { text: text.into(), source: "a file URL names no other machine".into() };
            return Ok(Self { place: Place::Local(url.to_file_path().map_err(|()| no_path())?) });
        }
        object_store::ObjectStoreScheme::parse(&url)
            .map_err(|source| Error::BadUrl { text: text.into(), source: source.into() })?;
        Ok(Self { place: Place::Remote(url) })
    }
}

impl From<PathBuf> for LogSource {
    fn from(path: PathBuf) -> Self {
        Self { place: Place::Local(path) }
    }
}

impl From<&std::path::Path> for LogSource {
    fn from(path: &std::path::Path) -> Self {
        Self { place: Place::Local(path.to_owned()) }
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Local(path) => path.display().fmt(f),
            Place::Remote(url) => url.fmt(f),
        }
    }
}
