//! What a node knows about an object besides its bytes: size, validators, headers and freshness.

mod content_range;
mod directives;
mod head;
mod policy;
mod variant;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use nearcast_datasets::{Timestamp, segment_count, segment_len};

use self::head::Head;
pub(crate) use self::{
    content_range::{ContentRange, digits},
    policy::{CLIENT_HEADER, Freshness, Reply, assess, date, end_to_end, forwarded},
    variant::{VaryNames, answer_key, selection, vary_names},
};
use crate::{digest, key::Key, record::ObjectRecord};

/// One state of an object. Immutable: a revalidation makes a new one with the same version.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its key; of a variant, that variant's.
    pub(crate) key: Key,
    /// The status that it came with.
    pub(crate) status: StatusCode,
    /// Tells states of the object apart, on this node and between nodes.
    pub(crate) version: u64,
    /// Bytes of the whole object.
    pub(crate) size_bytes: u64,
    /// Bytes per segment.
    pub(crate) segment_bytes: u64,
    /// End-to-end response headers without those that depend on the request.
    pub(crate) head: Head,
    /// When it was received.
    pub(crate) received_at: Timestamp,
    /// How old it was then.
    pub(crate) age: Duration,
    /// Until when it may be served without asking the origin.
    pub(crate) fresh_until: Timestamp,
    /// Until when it may be served while the origin is being asked.
    pub(crate) while_revalidate_until: Timestamp,
    /// Until when it may be served although the origin answers with an error.
    pub(crate) if_error_until: Timestamp,
    /// Until when it may be served although the origin cannot be reached.
    pub(crate) if_unreachable_until: Timestamp,
    /// The payload store's number for segment 0; the others follow.
    payload_base: u128,
}

/// What makes up an object, before derived fields.
#[derive(Debug)]
pub(crate) struct ObjectParts {
    pub(crate) key: Key,
    pub(crate) status: StatusCode,
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
        let ObjectParts { key, status, size_bytes, segment_bytes, headers, received_at, freshness } = parts;
        let mut object = Self {
            payload_base: payload_base(&key, version),
            key,
            status,
            version,
            size_bytes,
            segment_bytes,
            head: Head::of(&headers),
            received_at,
            age: Duration::ZERO,
            fresh_until: received_at,
            while_revalidate_until: received_at,
            if_error_until: received_at,
            if_unreachable_until: received_at,
        };
        object.assess(received_at, freshness);
        object
    }

    /// Takes over how fresh it is as of `now`.
    fn assess(&mut self, now: Timestamp, freshness: Freshness) {
        self.received_at = now;
        self.age = freshness.age;
        self.fresh_until = now.after(freshness.time_to_live);
        self.while_revalidate_until = self.fresh_until.after(freshness.while_revalidate);
        self.if_error_until = self.fresh_until.after(freshness.if_error);
        self.if_unreachable_until = self.fresh_until.after(freshness.if_unreachable);
    }

    /// The same state of the object after the origin confirmed it with a 304 or served another segment of it.
    #[must_use]
    pub(crate) fn refreshed(&self, newer: &HeaderMap, now: Timestamp, freshness: Freshness) -> Self {
        let (newer, mut headers) = (end_to_end(newer), self.head.to_map(0));
        for name in newer.keys().filter(|name| !describes_one_body(name)) {
            headers.remove(name);
            for value in newer.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.remove(header::AGE);
        let mut refreshed = Self { head: Head::of(&headers), ..self.clone() };
        refreshed.assess(now, freshness);
        refreshed
    }

    /// The object that was written down; `None` when the record is damaged.
    pub(crate) fn from_record(record: &ObjectRecord) -> Option<Self> {
        let key = Key::from_record(std::str::from_utf8(&record.key).ok()?)?;
        let time = |micros| Timestamp::from_micros(micros);
        let status = match record.status {
            0 => StatusCode::OK,
            status => StatusCode::from_u16(u16::try_from(status).ok()?).ok()?,
        };
        (record.segment_bytes > 0).then_some(())?;
        Some(Self {
            payload_base: payload_base(&key, record.version),
            key,
            status,
            version: record.version,
            size_bytes: record.size_bytes,
            segment_bytes: record.segment_bytes,
            head: Head::from_bytes(&record.head),
            received_at: time(record.received_at_us),
            age: Duration::from_micros(record.age_us),
            fresh_until: time(record.fresh_until_us),
            while_revalidate_until: time(record.while_revalidate_until_us),
            if_error_until: time(record.if_error_until_us),
            if_unreachable_until: time(record.if_unreachable_until_us),
        })
    }

    /// The object as it is written down.
    pub(crate) fn to_record(&self) -> ObjectRecord {
        ObjectRecord {
            key: self.key.to_bytes(),
            version: self.version,
            size_bytes: self.size_bytes,
            segment_bytes: self.segment_bytes,
            head: self.head.to_bytes(),
            received_at_us: self.received_at.micros(),
            age_us: u64::try_from(self.age.as_micros()).unwrap_or(u64::MAX),
            fresh_until_us: self.fresh_until.micros(),
            status: self.status.as_u16().into(),
            while_revalidate_until_us: self.while_revalidate_until.micros(),
            if_error_until_us: self.if_error_until.micros(),
            if_unreachable_until_us: self.if_unreachable_until.micros(),
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
    pub(crate) fn etag(&self) -> Option<HeaderValue> {
        self.head.get(&header::ETAG)
    }

    /// When the origin last changed it.
    pub(crate) fn last_modified(&self) -> Option<HeaderValue> {
        self.head.get(&header::LAST_MODIFIED)
    }

    /// The same state, stale from `at` on. How much longer it may be served while the origin is asked, or in trouble,
    /// counts from then.
    pub(crate) fn staled(&self, at: Timestamp) -> Self {
        let early = self.fresh_until.since(at);
        Self {
            fresh_until: self.fresh_until.before(early),
            while_revalidate_until: self.while_revalidate_until.before(early),
            if_error_until: self.if_error_until.before(early),
            if_unreachable_until: self.if_unreachable_until.before(early),
            ..self.clone()
        }
    }

    /// Whether it is what a request with these headers gets.
    pub(crate) fn suits(&self, asked: &HeaderMap) -> bool {
        !self.key.is_variant() || self.key == answer_key(&self.key.base(), &self.head.to_map(0), asked)
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
        segment_len(self.size_bytes, self.segment_bytes, index)
    }

    /// The payload store's number for one segment of this state.
    pub(crate) fn payload_key(&self, index: u32) -> u128 {
        self.payload_base.wrapping_add(u128::from(index))
    }
}

/// Headers that belong to one response's body and must not be taken over from another's.
fn describes_one_body(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::CONTENT_ENCODING, header::ETAG].contains(name)
}

/// Equal for responses with the same validators and size, on every node; without validators, unique to one response.
fn version(parts: &ObjectParts) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&parts.size_bytes.to_le_bytes()).update(&parts.status.as_u16().to_le_bytes());
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
