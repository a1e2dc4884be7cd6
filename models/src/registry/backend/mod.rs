//! The places that a registry can be kept in: a directory or an object store.

mod local;
mod remote;

use std::fmt::Debug;

use crate::Result;

pub(super) use local::Local;
pub(super) use remote::Remote;

/// Small named files, below `/`-separated paths; every write is atomic and durable when it returns.
pub(super) trait Backend: Debug + Send + Sync {
    /// Names directly below a folder, ascending; none when there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>>;
    /// A file's content; `None` when there is no such file.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>>;
    /// Creates a file unless there is one already, however many try at once; whether it was this call that did.
    fn create(&self, path: &str, bytes: Vec<u8>) -> Result<bool>;
    /// Creates or replaces a file: readers see the old content or the new, nothing between.
    fn replace(&self, path: &str, bytes: Vec<u8>) -> Result<()>;
    /// Tells whether writing has a chance, without leaving anything behind.
    fn probe(&self) -> Result<()>;
    /// Removes a file, if there is one.
    fn remove(&self, path: &str) -> Result<()>;
}
