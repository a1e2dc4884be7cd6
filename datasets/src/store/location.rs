//! What a user may write where a place is asked for.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{ObjectStore, ObjectStoreScheme, path::Path as StorePath};
use url::Url;

use super::{StoreError, open};

/// A path, or a URL of s3, gs, az, file, http or https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Remote(Url),
}

impl Location {
    /// Reads a path, or a URL such as `s3://bucket/prefix`. Nothing is opened.
    ///
    /// # Errors
    /// [`StoreError::Location`] for a URL of an unknown kind.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Location { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(refused("it is empty".to_owned()));
        }
        if !text.contains("://") {
            return Ok(Self(Place::Local(PathBuf::from(text))));
        }
        Self::from_url(Url::parse(text).map_err(|error| refused(error.to_string()))?)
    }

    /// As [`parse`](Self::parse), of what a configuration has read already.
    ///
    /// # Errors
    /// [`StoreError::Location`] for a URL of an unknown kind.
    pub fn from_url(url: Url) -> Result<Self, StoreError> {
        let refused = |reason: String| StoreError::Location { text: url.to_string(), reason };
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| refused("a file URL names no other machine".to_owned()))?;
            return Ok(Self(Place::Local(path)));
        }
        match ObjectStoreScheme::parse(&url) {
            Ok((ObjectStoreScheme::Memory, _)) => Err(refused("what is in memory is gone with the process".to_owned())),
            Ok(_) => Ok(Self(Place::Remote(url))),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// The path, unless it is in an object store.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Local(path) => Some(path),
            Place::Remote(_) => None,
        }
    }

    /// The place of this name below it.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match &self.0 {
            Place::Local(path) => Self(Place::Local(path.join(name))),
            Place::Remote(url) => {
                let mut url = url.clone();
                if let Ok(mut parts) = url.path_segments_mut() {
                    parts.pop_if_empty().extend(name.split('/'));
                }
                Self(Place::Remote(url))
            }
        }
    }

    /// Builds the store and the path into it; asks nothing of the store yet. Credentials and endpoints come from
    /// `AWS_…`, `GOOGLE_…` and `AZURE_…`.
    ///
    /// # Errors
    /// [`StoreError::Settings`] and [`StoreError::Credentials`].
    pub fn open(&self) -> Result<(Arc<dyn ObjectStore>, StorePath), StoreError> {
        match &self.0 {
            Place::Local(path) => open::folder(path),
            Place::Remote(url) => open::url(url, std::env::vars()),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self(Place::Local(path))
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self(Place::Local(path.to_owned()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Local(path) => path.display().fmt(f),
            Place::Remote(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_known_urls_are_locations_and_nothing_else() {
        for text in ["a/b", "s3://b/p", "gs://b/p", "az://c/p", "abfss://c@a.dfs.core.windows.net/p", "http://h/x"] {
            assert_eq!(Location::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Location::parse("file:///a/b").unwrap().local_path(), Some(Path::new("/a/b")));
        for text in ["", "nonsense://x", "file://host/x", "memory:///x", "s3://"] {
            let refused = Location::parse(text);
            assert!(matches!(refused, Err(StoreError::Location { .. })), "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn a_name_is_joined_with_one_slash() {
        let joined = |text: &str| Location::parse(text).unwrap().join("x/y").to_string();
        assert_eq!((joined("a"), joined("s3://b/p/")), ("a/x/y".to_owned(), "s3://b/p/x/y".to_owned()));
        assert_eq!((joined("s3://b"), joined("gs://b/p")), ("s3://b/x/y".to_owned(), "gs://b/p/x/y".to_owned()));
    }
}
