//! What a stream or bucket is to be, and how its parts are named.

use std::{fmt, time::Duration};

use crate::{Error, Result};

/// A part of a stream, from 0; each keeps an order of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// A record's place in its partition, from 1, without gaps as records are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first record's.
    pub const FIRST: Self = Self(1);

    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The version of an entry. Within one bucket every change has a greater one than all before, whatever its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a full partition does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// It lets go of its oldest records; [`Extent::discarded`](crate::Extent::discarded) counts them, and a reader
    /// that was not there yet is told.
    #[default]
    Oldest,
    /// It refuses new ones with [`Error::StreamFull`]; [`DurableStream::refused`](crate::DurableStream::refused) counts
    /// how often.
    Newest,
}

/// A stream, as who opens it wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name: letters, digits and `-`.
    pub name: String,
    /// The version of what its records hold; one written in a newer version is refused.
    pub version: u32,
    /// How many parts it has. It can never be changed.
    pub partitions: u32,
    /// The bound of each partition, with what the bus itself writes beside each record.
    pub bytes_max: u64,
    /// What happens at that bound.
    pub discard: Discard,
    /// How long a record's id is remembered, so that the same one is not appended twice.
    pub duplicates_within: Duration,
}

/// A bucket, as who opens it wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSpec {
    /// Its name: letters, digits and `-`.
    pub name: String,
    /// The version of what its values hold; one written in a newer version is refused.
    pub version: u32,
    /// The bound of all keys and values.
    pub bytes_max: u64,
}

/// The most bytes of one record's payload or one value: what fits a NATS message of its default size.
pub const PAYLOAD_BYTES_MAX: usize = 1_000_000;

/// The most partitions of a stream.
pub const PARTITIONS_MAX: u32 = 1_024;

impl StreamSpec {
    pub(crate) fn check(&self) -> Result<()> {
        check_name("stream", &self.name)?;
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            let value = self.partitions.to_string();
            return Err(Error::Invalid { what: "partition count", value, expected: "between 1 and 1024" });
        }
        check_bytes_max(self.bytes_max)
    }

    pub(crate) fn check_partition(&self, partition: Partition) -> Result<()> {
        if partition.0 < self.partitions {
            return Ok(());
        }
        Err(Error::NoPartition { name: self.name.clone(), partition, count: self.partitions })
    }

    pub(crate) fn full(&self, partition: Partition) -> Error {
        Error::StreamFull { name: self.name.clone(), partition, bytes_max: self.bytes_max }
    }
}

impl BucketSpec {
    pub(crate) fn check(&self) -> Result<()> {
        check_name("bucket", &self.name)?;
        check_bytes_max(self.bytes_max)
    }

    pub(crate) fn full(&self) -> Error {
        Error::BucketFull { name: self.name.clone(), bytes_max: self.bytes_max }
    }
}

/// Whether a payload or value may be so large.
pub(crate) fn check_payload(bytes: usize) -> Result<()> {
    if bytes <= PAYLOAD_BYTES_MAX { Ok(()) } else { Err(Error::TooLarge { bytes, bytes_max: PAYLOAD_BYTES_MAX }) }
}

/// Whether a record may have this id.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let is_valid = !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid { Ok(()) } else { invalid("record id", id, "1 to 255 printable ASCII characters") }
}

/// Whether a bucket may have this key.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let is_valid = !key.is_empty()
        && key.len() <= ID_BYTES_MAX
        && !key.starts_with(['.', '_'])
        && !key.ends_with('.')
        && !key.contains("..")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=/".contains(&byte));
    let expected = "1 to 255 letters, digits and `-_.=/`, beginning with neither `_` nor `.`, without an empty part";
    if is_valid { Ok(()) } else { invalid("key", key, expected) }
}

/// Whether a stream, bucket or prefix may have this name.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let is_valid = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_valid { Ok(()) } else { invalid(what, name, "a name of 1 to 64 letters, digits and `-`") }
}

fn check_bytes_max(bytes_max: u64) -> Result<()> {
    // NATS counts in signed numbers.
    let is_valid = (BYTES_MAX_MIN..=i64::MAX as u64).contains(&bytes_max);
    if is_valid { Ok(()) } else { invalid("bytes_max", &bytes_max.to_string(), "at least 4096") }
}

fn invalid(what: &'static str, value: &str, expected: &'static str) -> Result<()> {
    Err(Error::Invalid { what, value: value.to_owned(), expected })
}

const ID_BYTES_MAX: usize = 255;
const NAME_BYTES_MAX: usize = 64;
const BYTES_MAX_MIN: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keys_and_ids_are_held_to_what_both_buses_take() {
        assert!(check_name("stream", "log").is_ok() && check_name("stream", &"a".repeat(64)).is_ok());
        for name in ["", "a.b", "a_b", "ä", &"a".repeat(65)] {
            assert!(check_name("stream", name).is_err(), "{name}");
        }
        assert!(check_key("claims.p.7").is_ok() && check_key(&"k".repeat(255)).is_ok());
        for key in ["", ".a", "a.", "a..b", "_format", "a b", "a*", &"k".repeat(256)] {
            assert!(check_key(key).is_err(), "{key}");
        }
        assert!(check_id("n1/7/3").is_ok());
        for id in ["", "a b", "a\n", &"i".repeat(256)] {
            assert!(check_id(id).is_err(), "{id}");
        }
        assert!(check_payload(PAYLOAD_BYTES_MAX).is_ok() && check_payload(PAYLOAD_BYTES_MAX + 1).is_err());
    }
}
