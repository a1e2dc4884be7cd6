//! Key-value buckets with revisions.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BucketSpec, Result, Revision};

/// A small table in which an entry is replaced only by who has seen it.
#[async_trait]
pub trait Bucket: Debug + Send + Sync {
    /// What it was opened as.
    fn spec(&self) -> &BucketSpec;

    /// The entry under a key.
    ///
    /// # Errors
    /// A key that is not valid, a bus that is away.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Puts a value under a key that has none.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) when it has one, [`Error::BucketFull`](crate::Error::BucketFull),
    /// [`Error::TooLarge`](crate::Error::TooLarge), a key that is not valid, a bus that is away.
    async fn create(&self, key: &str, value: Bytes) -> Result<Revision>;

    /// Replaces the entry that has a revision.
    ///
    /// # Errors
    /// As [`create`](Self::create); a conflict when the entry has another revision or is gone.
    async fn update(&self, key: &str, value: Bytes, revision: Revision) -> Result<Revision>;

    /// Removes the entry that has a revision; the removal has a revision, too.
    ///
    /// # Errors
    /// [`Error::Conflict`](crate::Error::Conflict) when it has another revision or is gone, a bus that is away.
    async fn delete(&self, key: &str, revision: Revision) -> Result<Revision>;

    /// The entries there are, removed ones too where they are still known, then every change. A key that changes often
    /// may be told of only as it ended up.
    ///
    /// # Errors
    /// A bus that is away.
    async fn watch(&self) -> Result<Box<dyn Watch>>;
}

/// Follows a bucket.
#[async_trait]
pub trait Watch: Debug + Send {
    /// Waits for the next change. May be cancelled: nothing is lost then.
    ///
    /// # Errors
    /// A bus that is away: asking again goes on where it was.
    async fn next(&mut self) -> Result<Change>;
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds.
    pub value: Bytes,
    /// Its version.
    pub revision: Revision,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its version from now on.
    pub revision: Revision,
    /// What it holds, unless it was removed.
    pub value: Option<Bytes>,
}
