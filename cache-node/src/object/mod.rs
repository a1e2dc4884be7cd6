//! What a node knows about an object besides its bytes: size, validators, headers and freshness.

mod content_range;
mod policy;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use nearcast_datasets::Timestamp;

pub(crate) use self::{
    content_range::{ContentRange, digits},
    policy::{Freshness, assess, end_to_end},
};
use crate::{
    digest,
    key::Key,
    record::{HeaderRecord, ObjectRecord},
};

/// One state of an object. Immutable: a revalidation makes a new one with the same version.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its key.
    pub(crate) key: Key,
    /// Tells states of the object apart, on this node and between nodes.
    pub(crate) version: u64,
    /// Bytes of the whole object.
    pub(crate) size_bytes: u64,
    /// Bytes per segment.
    pub(crate) segment_bytes: u64,
    /// End-to-end response headers without those that depend on the request.
    pub(crate) headers: HeaderMap,
    /// When it was received.
    pub(crate) received_at: Timestamp,
    /// How old it was then.
    pub(crate) age: Duration,
    /// Until when it may be served without asking the origin.
    pub(crate) fresh_until: Timestamp,
    /// The payload store's number for segment 0; the others follow.
    payload_base: u128,
}

/// What makes up an object, before derived fields.
#[derive(Debug)]
pub(crate) struct ObjectParts {
    pub(crate) key: Key,
    pub(crate) size_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) received_at: Timestamp,
    pub(crate) freshness: Freshness,
}

impl Object {
    /// The object that a response describes.
    pub(crate) fn new(parts: ObjectParts) -> Self {
        let version = version(&parts);
        let ObjectParts { key, size_bytes, segment_bytes, headers, received_at, freshness } = parts;
        Self {
            payload_base: payload_base(&key, version),
            key,
            version,
            size_bytes,
            segment_bytes,
            headers,
            received_at,
            age: freshness.age,
            fresh_until: received_at.after(freshness.time_to_live),
        }
    }

    /// The same state of the object after the origin confirmed it with a 304 or served another segment of it.
    #[must_use]
    pub(crate) fn refreshed(&self, newer: &HeaderMap, now: Timestamp, freshness: Freshness) -> Self {
        let mut refreshed = self.clone();
        for (name, value) in end_to_end(newer).iter().filter(|(name, _)| !describes_one_body(name)) {
            refreshed.headers.insert(name.clone(), value.clone());
        }
        refreshed.received_at = now;
        refreshed.age = freshness.age;
        refreshed.fresh_until = now.after(freshness.time_to_live);
        refreshed
    }

    /// The object that was written down; `None` when the record is damaged.
    pub(crate) fn from_record(record: &ObjectRecord) -> Option<Self> {
        let key = Key::parse(&record.key).ok()?;
        let mut headers = HeaderMap::with_capacity(record.headers.len());
        for HeaderRecord { name, value } in &record.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        (record.segment_bytes > 0).then_some(())?;
        Some(Self {
            payload_base: payload_base(&key, record.version),
            key,
            version: record.version,
            size_bytes: record.size_bytes,
            segment_bytes: record.segment_bytes,
            headers,
            received_at: Timestamp::from_micros(record.received_at_us),
            age: Duration::from_micros(record.age_us),
            fresh_until: Timestamp::from_micros(record.fresh_until_us),
        })
    }

    /// The object as it is written down.
    pub(crate) fn to_record(&self) -> ObjectRecord {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| HeaderRecord { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() });
        ObjectRecord {
            key: self.key.as_str().to_owned(),
            version: self.version,
            size_bytes: self.size_bytes,
            segment_bytes: self.segment_bytes,
            headers: headers.collect(),
            received_at_us: self.received_at.micros(),
            age_us: u64::try_from(self.age.as_micros()).unwrap_or(u64::MAX),
            fresh_until_us: self.fresh_until.micros(),
        }
    }

    /// Whether it may be served without asking the origin.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        now < self.fresh_until
    }

    /// How old it is.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        self.age + now.since(self.received_at)
    }

    /// Its entity tag.
    pub(crate) fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(header::ETAG)
    }

    /// When the origin last changed it.
    pub(crate) fn last_modified(&self) -> Option<&HeaderValue> {
        self.headers.get(header::LAST_MODIFIED)
    }

    /// Whether another response can be told to be of the same state.
    pub(crate) fn has_validator(&self) -> bool {
        self.etag().is_some() || self.last_modified().is_some()
    }

    /// How many segments it has; an empty object has one, of no bytes.
    pub(crate) fn segment_count(&self) -> u32 {
        segment_count(self.size_bytes, self.segment_bytes)
    }

    /// Bytes of one segment; zero beyond the end.
    pub(crate) fn segment_len(&self, index: u32) -> u64 {
        self.size_bytes.saturating_sub(u64::from(index) * self.segment_bytes).min(self.segment_bytes)
    }

    /// The payload store's number for one segment of this state.
    pub(crate) fn payload_key(&self, index: u32) -> u128 {
        self.payload_base.wrapping_add(u128::from(index))
    }
}

/// How many segments an object of `size_bytes` has.
pub(crate) fn segment_count(size_bytes: u64, segment_bytes: u64) -> u32 {
    u32::try_from(size_bytes.div_ceil(segment_bytes).max(1)).unwrap_or(u32::MAX)
}

/// Headers that belong to one response's body and must not be taken over from another's.
fn describes_one_body(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::CONTENT_ENCODING, header::ETAG].contains(name)
}

/// Equal for responses with the same validators and size, on every node; without validators, unique to one response.
fn version(parts: &ObjectParts) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&parts.size_bytes.to_le_bytes());
    let validators = [header::ETAG, header::LAST_MODIFIED].map(|name| parts.headers.get(name));
    for value in validators.iter().flatten() {
        hasher.update(value.as_bytes()).update(&[0]);
    }
    if validators.iter().all(Option::is_none) {
        hasher.update(&parts.received_at.micros().to_le_bytes());
    }
    // The lower half: any 64 bits of a hash are as good as others.
    digest::truncated(&hasher.finalize()) as u64
}

fn payload_base(key: &Key, version: u64) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&version.to_le_bytes()).update(key.as_str().as_bytes());
    digest::truncated(&hasher.finalize())
}

/// A shared [`Object`].
pub(crate) type SharedObject = Arc<Object>;
