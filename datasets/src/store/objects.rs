//! What synchronous code does with the objects below a location.

use std::{fmt, path::Path as FilePath, sync::Arc};

use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion, path::Path};

use super::{
    Location, StoreError,
    error::is_absent,
    upload::{self, Failed},
};
use crate::blocking;

type Result<T> = std::result::Result<T, StoreError>;

/// The objects below a location, by `/`-separated names. Every call waits for the store; writes are whole or not at all.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// How messages call the place.
    name: String,
}

/// Which state of an object was read or written: what a conditional write goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(UpdateVersion);

impl Objects {
    /// The objects below `location`.
    ///
    /// # Errors
    /// As [`Location::open`].
    pub fn open(location: &Location) -> Result<Self> {
        let (store, prefix) = location.open()?;
        Ok(Self { store, prefix, name: location.to_string() })
    }

    /// The objects below `prefix` of a store that the caller has set up.
    pub fn with_store(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, prefix: Path::from(prefix), name: prefix.to_owned() }
    }

    /// Names directly below a folder, ascending; none when there is no such folder.
    ///
    /// # Errors
    /// [`StoreError::Refused`].
    pub fn names(&self, folder: &str) -> Result<Vec<String>> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder));
        let found = blocking::wait(async move { store.list_with_delimiter(Some(&path)).await });
        let found = match found {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            found => found.map_err(self.refused("list", folder))?,
        };
        let objects = found.objects.into_iter().map(|object| object.location);
        let paths = objects.chain(found.common_prefixes);
        let mut names: Vec<String> = paths.filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// An object's content, and what a conditional write goes by; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Refused`], also when the bucket does not exist.
    pub fn read(&self, name: &str) -> Result<Option<(Vec<u8>, Tag)>> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let read = blocking::wait(async move {
            let found = store.get(&path).await?;
            let tag = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((found.bytes().await?, tag))
        });
        match read {
            Ok((bytes, tag)) => Ok(Some((bytes.to_vec(), Tag(tag)))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.refused("read", name)(error)),
        }
    }

    /// Creates an object unless there is one already, however many try at once; `None` when there is one.
    ///
    /// # Errors
    /// [`StoreError::Refused`].
    pub fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Option<Tag>> {
        self.put("create", name, bytes, PutMode::Create)
    }

    /// Replaces an object that is still in the state `expected`; `None` when it no longer is.
    ///
    /// # Errors
    /// [`StoreError::Refused`].
    pub fn swap(&self, name: &str, expected: &Tag, bytes: Vec<u8>) -> Result<Option<Tag>> {
        self.put("replace", name, bytes, PutMode::Update(expected.0.clone()))
    }

    /// Creates or replaces an object, whatever is there; in parts when it is large.
    ///
    /// # Errors
    /// [`StoreError::Refused`].
    pub fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let written = blocking::wait(async move { upload::bytes(store, path, bytes.into()).await });
        written.map_err(self.refused("write", name))
    }

    /// Sends a local file, in parts when it is large.
    ///
    /// # Errors
    /// [`StoreError::Refused`], [`StoreError::Source`].
    pub fn send(&self, name: &str, file: &FilePath) -> Result<()> {
        let (store, path, from) = (Arc::clone(&self.store), self.path(name), file.to_owned());
        let sent = blocking::wait(async move { upload::file(store, path, &from).await });
        sent.map_err(|failed| match failed {
            Failed::Store(source) => self.refused("write", name)(source),
            Failed::File(source) => {
                StoreError::Source { path: file.display().to_string(), location: self.place(name), source }
            }
        })
    }

    /// Writes an object's content to a local file.
    ///
    /// # Errors
    /// [`StoreError::Refused`], [`StoreError::Target`].
    pub fn fetch(&self, name: &str, file: &FilePath) -> Result<()> {
        let (store, path, to) = (Arc::clone(&self.store), self.path(name), file.to_owned());
        let fetched = blocking::wait(async move { upload::fetch(store, path, &to).await });
        fetched.map_err(|failed| match failed {
            Failed::Store(source) => self.refused("read", name)(source),
            Failed::File(source) => {
                StoreError::Target { path: file.display().to_string(), location: self.place(name), source }
            }
        })
    }

    /// Removes an object, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Refused`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        match blocking::wait(async move { store.delete(&path).await }) {
            Err(error) if !is_absent(&error) => Err(self.refused("remove", name)(error)),
            _ => Ok(()),
        }
    }

    fn put(&self, action: &'static str, name: &str, bytes: Vec<u8>, mode: PutMode) -> Result<Option<Tag>> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let options = PutOptions { mode, ..PutOptions::default() };
        match blocking::wait(async move { store.put_opts(&path, bytes.into(), options).await }) {
            Ok(put) => Ok(Some(Tag(put.into()))),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(None),
            // Some stores say so when what was to be replaced is gone.
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.refused(action, name)(error)),
        }
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.name.trim_end_matches('/'))
    }

    fn refused(&self, action: &'static str, name: &str) -> impl FnOnce(object_store::Error) -> StoreError + use<> {
        StoreError::refused(action, self.place(name))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_conditional_write_goes_by_what_was_read() {
        let objects = Objects::with_store(Arc::new(InMemory::new()), "a/b");
        assert!(objects.read("x").unwrap().is_none());
        let first = objects.create("x", b"1".to_vec()).unwrap().unwrap();
        assert_eq!(objects.create("x", b"2".to_vec()).unwrap(), None);
        let second = objects.swap("x", &first, b"3".to_vec()).unwrap().unwrap();
        assert_eq!(objects.swap("x", &first, b"4".to_vec()).unwrap(), None);
        assert_eq!(objects.read("x").unwrap().unwrap(), (b"3".to_vec(), second));
        assert_eq!(objects.names("").unwrap(), ["x"]);
        objects.remove("x").unwrap();
        objects.remove("x").unwrap();
        assert_eq!(objects.names("").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_larger_than_a_part_arrives_whole() {
        let objects = Objects::with_store(Arc::new(InMemory::new()), "a");
        let content: Vec<u8> = (0..upload::PART_BYTES * 2 + 17).map(|n| (n % 251) as u8).collect();
        objects.write("memory", content.clone()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        objects.send("file", file.path()).unwrap();
        for name in ["memory", "file"] {
            objects.fetch(name, file.path()).unwrap();
            assert!(std::fs::read(file.path()).unwrap() == content, "{name}");
        }
    }
}
