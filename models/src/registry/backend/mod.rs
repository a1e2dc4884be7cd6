//! The places that a registry can be kept in: a directory or an object store.

mod local;
mod remote;

use std::fmt::Debug;

use nearcast_datasets::store::Tag;

use crate::Result;

pub(super) use local::Local;
pub(super) use remote::Remote;

/// What was found at a path: what a conditional write goes by.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The content; `None` when there was no file.
    pub(super) bytes: Option<Vec<u8>>,
    /// The store's name for this state of the object.
    pub(super) tag: Option<Tag>,
}

/// Small named files, below `/`-separated paths; every write is atomic and durable when it returns.
pub(super) trait Backend: Debug + Send + Sync {
    /// Names directly below a folder, ascending; none when there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>>;
    /// A file's content; `None` when there is no such file.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>>;
    /// A file's content, to be replaced only while it is that.
    fn look(&self, path: &str) -> Result<Seen>;
    /// Creates a file unless there is one already, however many try at once; whether it was this call that did.
    fn create(&self, path: &str, bytes: Vec<u8>) -> Result<bool>;
    /// Writes a file that is still as it was seen, however many try at once; whether it was.
    fn swap(&self, path: &str, seen: &Seen, bytes: Vec<u8>) -> Result<bool>;
    /// Creates or replaces a file: readers see the old content or the new, nothing between.
    fn replace(&self, path: &str, bytes: Vec<u8>) -> Result<()>;
    /// Tells whether writing has a chance, without leaving anything behind.
    fn probe(&self) -> Result<()>;
    /// Removes a file, if there is one.
    fn remove(&self, path: &str) -> Result<()>;
}
