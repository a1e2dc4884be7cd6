//! What can go wrong on a bus.

use std::{io, path::PathBuf, time::Duration};

use crate::{Partition, Revision};

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bus did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bus did not answer: nothing is known about what was asked last. Everything may be tried again.
    #[error("{action} on the bus failed; the bus may be away, and what was asked may be done all the same")]
    Away {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server will not do what it was asked to, however often.
    #[error("the bus refused {action}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server cannot be reached at all.
    #[error("cannot connect to the bus at {url}; is a NATS server running there, and is it reached over TLS or not?")]
    Connect {
        /// Where.
        url: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server lets nobody in with these credentials.
    #[error("the NATS server at {url} refused {credentials}; set the right ones under `[bus]`")]
    Credentials {
        /// Where.
        url: String,
        /// Which kind was shown.
        credentials: &'static str,
        /// What the server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A credential's file cannot be read.
    #[error("cannot read `{}`, which `bus.{key}` names", path.display())]
    CredentialsFile {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The server is older than what this client can talk to.
    #[error(
        "the NATS server at {url} is version {found}; {needed} or later is needed (older ones answer in ways that this client cannot read); upgrade nats-server"
    )]
    ServerTooOld {
        /// Where.
        url: String,
        /// Its version, as it says.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// The server keeps nothing.
    #[error(
        "the NATS server at {url} does not offer JetStream to this account; start it with `-js -sd DIR`, or enable JetStream for the account"
    )]
    NoJetStream {
        /// Where.
        url: String,
        /// What the server said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This machine's clock and the bus's disagree.
    #[error(
        "this machine's clock is {skew:?} {direction} the bus's, more than {skew_max:?}; what is learnt would decay wrongly: set the clock (NTP), or raise `bus.clock_skew_max_seconds`"
    )]
    Clock {
        /// By how much.
        skew: Duration,
        /// `ahead of` or `behind`.
        direction: &'static str,
        /// What is tolerated.
        skew_max: Duration,
    },
    /// A stream or bucket is not there, and may not be made.
    #[error("{what} `{name}` does not exist on the bus, and `bus.create` is false; create it, or allow creation")]
    Missing {
        /// `stream` or `bucket`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What is stored was written by a newer program.
    #[error(
        "{what} `{name}` was written in version {found}; this program knows versions up to {known}. Upgrade it; nothing was changed"
    )]
    Newer {
        /// `stream`, `bucket` or `database`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The version that is stored.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A stream cannot be divided anew.
    #[error(
        "stream `{name}` has {found} partitions, and {asked} are configured; clients would change partitions and lose their order. Set it back, or use another `bus.prefix` and let the old stream drain; nothing was changed"
    )]
    Partitions {
        /// The stream.
        name: String,
        /// How many it has.
        found: u32,
        /// How many are asked for.
        asked: u32,
    },
    /// There is no such partition.
    #[error("stream `{name}` has no partition {partition}, only {count}")]
    NoPartition {
        /// The stream.
        name: String,
        /// The partition asked for.
        partition: Partition,
        /// How many there are.
        count: u32,
    },
    /// A stream that refuses what is new has no room.
    #[error(
        "partition {partition} of stream `{name}` is full at {bytes_max} bytes and refuses what is new; its readers have to move on and trim it, or raise its limit"
    )]
    StreamFull {
        /// The stream.
        name: String,
        /// Its partition.
        partition: Partition,
        /// The bound.
        bytes_max: u64,
    },
    /// A bucket has no room.
    #[error("bucket `{name}` is full at {bytes_max} bytes; raise its limit")]
    BucketFull {
        /// The bucket.
        name: String,
        /// The bound.
        bytes_max: u64,
    },
    /// A payload or value is too large.
    #[error("{bytes} bytes are too many for one message; at most {bytes_max}")]
    TooLarge {
        /// How many.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
    /// A key's entry is not the one that was to be replaced.
    #[error("key `{key}` has been changed meanwhile{}", found.map(|found| format!(" (revision {found})")).unwrap_or_default())]
    Conflict {
        /// The key.
        key: String,
        /// Its revision, where it is known.
        found: Option<Revision>,
    },
    /// A name, key or setting is not valid.
    #[error("{what} `{value}` is not {expected}")]
    Invalid {
        /// What it is.
        what: &'static str,
        /// What it was.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The database file is in use.
    #[error("`{}` is in use by another process; one process has an embedded bus at a time: stop the other, or use NATS", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error("cannot {action} the embedded bus")]
    Store {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The writer of the embedded bus has ended, as it does at shutdown.
    #[error("the embedded bus is closed")]
    Closed,
    /// Who learns from a partition cannot go on.
    #[error("learning from a partition cannot go on: {source}")]
    Learner {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored cannot be read.
    #[error("{what} `{name}` holds what cannot be read; it is damaged, or not Nearcast's")]
    Damaged {
        /// `stream`, `bucket`, `lease`.
        what: &'static str,
        /// Its name or key.
        name: String,
    },
}

impl Error {
    /// Whether the same may succeed later without anybody doing anything but wait.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::StreamFull { .. })
    }

    /// Whether a key had another revision than expected.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    pub(crate) fn away<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Away { action, source: source.into() }
    }

    pub(crate) fn store<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Store { action, source: Box::new(source.into()) }
    }
}
