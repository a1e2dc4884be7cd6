//! Purges: what must not be served any longer, and the log that makes it stay so.
//!
//! A purge concerns every state of an object that was asked for before it. That is checked wherever an object comes in:
//! when a transfer lands that was under way, when a peer hands out what it has, and when a former run's objects are taken
//! up again. So the log, synced before a purge is answered, is all that a purge needs to outlive a crash.

use std::{
    borrow::Borrow,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use http::HeaderName;
use nearcast_datasets::Timestamp;
use nearcast_proto::message::{self, PurgePosition};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    key::{Key, KeyError},
    object::Object,
};

/// What to purge, as operators write it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PurgeOrder {
    /// Objects, with all their variants.
    pub(crate) keys: Vec<String>,
    /// Everything below these, character by character.
    pub(crate) prefixes: Vec<String>,
    /// Everything whose `Surrogate-Key` or `Cache-Tag` has one of these.
    pub(crate) tags: Vec<String>,
    /// Whether it may still be served while, or because, the origin cannot say otherwise.
    pub(crate) soft: bool,
}

/// A purge that was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purge {
    at_us: i64,
    order: PurgeOrder,
    /// Its place in the predictor's log, if it comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<PurgePosition>,
    /// Whether purges before it were missed: what was received before it is not served unless the origin confirms it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_gap: bool,
}

/// What a purge does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PurgeEffect {
    /// It is no longer there.
    Gone,
    /// It is stale from then on.
    Stale(Timestamp),
}

/// Why an order is none.
#[derive(Debug, Error)]
pub(crate) enum PurgeOrderError {
    #[error("nothing to purge: give at least one of `keys`, `prefixes` and `tags`")]
    Empty,
    #[error("`{text}` is no key: {source}")]
    Key { text: String, source: KeyError },
    #[error("{count} keys, prefixes and tags are more than the {ITEMS_MAX} of one purge: split it")]
    TooMany { count: usize },
    #[error("a tag is one word without commas, and `{0}` is not")]
    Tag(String),
}

impl PurgeOrder {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.tags.is_empty()
    }

    /// The purge that was ordered at `at`.
    ///
    /// # Errors
    /// When it names nothing, too much, or what can be no key or tag.
    pub(crate) fn at(self, at: Timestamp) -> Result<Purge, PurgeOrderError> {
        let Self { keys, prefixes, tags, soft } = self;
        let count = keys.len() + prefixes.len() + tags.len();
        match count {
            0 => return Err(PurgeOrderError::Empty),
            1..=ITEMS_MAX => {}
            _ => return Err(PurgeOrderError::TooMany { count }),
        }
        if let Some(tag) = tags.iter().find(|tag| tag.is_empty() || tag.contains([',', ' ', '\t'])) {
            return Err(PurgeOrderError::Tag(tag.clone()));
        }
        let checked = |texts: Vec<String>| {
            let checked = texts.into_iter().map(|text| match Key::parse(&text) {
                Ok(key) => Ok(key.name().to_owned()),
                Err(source) => Err(PurgeOrderError::Key { text, source }),
            });
            checked.collect::<Result<Vec<_>, _>>()
        };
        let (mut keys, prefixes) = (checked(keys)?, checked(prefixes)?);
        keys.sort_unstable();
        Ok(Purge { at_us: at.micros(), order: Self { keys, prefixes, tags, soft }, position: None, has_gap: false })
    }
}

impl Purge {
    /// The purge that the predictor's log has at `position`, ordered at `at` by this node's clock. What can be no key or
    /// tag here is nothing that this node holds.
    pub(crate) fn logged(purge: &message::Purge, position: PurgePosition, at: Timestamp) -> Self {
        let names = |texts: &[String]| -> Vec<String> {
            let parsed = texts.iter().filter_map(|text| Key::parse(text).ok());
            parsed.map(|key| key.name().to_owned()).collect()
        };
        let mut keys = names(&purge.keys);
        keys.sort_unstable();
        let order = PurgeOrder { keys, prefixes: names(&purge.prefixes), tags: purge.tags.clone(), soft: purge.soft };
        Self { at_us: at.micros(), order, position: Some(position), has_gap: false }
    }

    /// A place in the log, at which the node is without a purge of its own.
    pub(crate) fn mark(position: PurgePosition, has_gap: bool, at: Timestamp) -> Self {
        Self { at_us: at.micros(), order: PurgeOrder::default(), position: Some(position), has_gap }
    }

    /// When it was ordered.
    pub(crate) fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.at_us)
    }

    /// Its place in the predictor's log, if it comes from there.
    pub(crate) fn position(&self) -> Option<&PurgePosition> {
        self.position.as_ref()
    }

    /// The keys, when it names nothing but keys.
    pub(crate) fn only_keys(&self) -> Option<&[String]> {
        (self.order.prefixes.is_empty() && self.order.tags.is_empty()).then_some(&self.order.keys[..])
    }

    /// What it does to an object that was asked for at `asked_at`, if it concerns it.
    pub(crate) fn effect(&self, object: &Object, asked_at: Timestamp) -> Option<PurgeEffect> {
        let concerns = object.received_at.min(asked_at) <= self.at() && self.names(object);
        concerns.then_some(if self.order.soft { PurgeEffect::Stale(self.at()) } else { PurgeEffect::Gone })
    }

    fn names(&self, object: &Object) -> bool {
        let name = object.key.name();
        self.order.keys.binary_search_by(|key| key.as_str().cmp(name)).is_ok()
            || self.order.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
            || !self.order.tags.is_empty() && has_tag(object, &self.order.tags)
    }
}

/// Whether an object has one of these tags: words of `Surrogate-Key`, parts of `Cache-Tag`.
fn has_tag(object: &Object, wanted: &[String]) -> bool {
    let mut values = TAG_HEADERS.iter().flat_map(|name| object.head.get_all(name));
    values.any(|value| {
        let text = value.to_str().unwrap_or_default();
        text.split([',', ' ', '\t']).any(|tag| !tag.is_empty() && wanted.iter().any(|wanted| wanted == tag))
    })
}

/// The purges on disk, one JSON document a line.
#[derive(Debug)]
pub(crate) struct PurgeLog {
    file: Mutex<File>,
    position: Mutex<Option<PurgePosition>>,
    path: PathBuf,
}

/// What the log held.
#[derive(Debug, Default)]
pub(crate) struct LoggedPurges {
    /// In the order in which they were given.
    pub(crate) purges: Vec<Purge>,
    /// Whether a line could not be read, so that what it purged is not known.
    pub(crate) is_damaged: bool,
    /// What was received before this is not served unless the origin confirms it.
    pub(crate) doubted_before: Option<Timestamp>,
    /// How far in the predictor's log the node was.
    position: Option<PurgePosition>,
}

impl PurgeLog {
    /// Opens or makes the log at `path` and says what it held; purges before `oldest` concern nothing any longer and are
    /// dropped.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn open(path: &Path, oldest: Timestamp) -> io::Result<(Self, LoggedPurges)> {
        let mut logged = read(path)?;
        logged.purges.retain(|purge| purge.at() >= oldest && !purge.order.is_empty());
        logged.doubted_before = logged.doubted_before.filter(|before| *before > oldest);
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        for purge in &logged.purges {
            write(&mut file, purge)?;
        }
        if let Some(position) = &logged.position {
            let at = logged.doubted_before.unwrap_or(oldest);
            write(&mut file, &Purge::mark(position.clone(), logged.doubted_before.is_some(), at))?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let position = Mutex::new(logged.position.clone());
        Ok((Self { file: Mutex::new(file), position, path: path.to_path_buf() }, logged))
    }

    /// How far in the predictor's log the node is.
    pub(crate) fn position(&self) -> Option<PurgePosition> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds purges, so that they survive a loss of power. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn append(&self, purges: &[impl Borrow<Purge>]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for purge in purges {
            write(&mut file, purge.borrow())?;
        }
        file.sync_data()?;
        if let Some(position) = purges.iter().rev().find_map(|purge| purge.borrow().position()) {
            *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Some(position.clone());
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn write(file: &mut File, purge: &Purge) -> io::Result<()> {
    let mut line = serde_json::to_vec(purge).map_err(io::Error::other)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// Reads a log. A last line without an end was never answered, so nobody relies on it.
fn read(path: &Path) -> io::Result<LoggedPurges> {
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LoggedPurges::default()),
        Err(error) => return Err(error),
    };
    let mut logged = LoggedPurges::default();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.ends_with(b"\n") {
            match serde_json::from_slice::<Purge>(&line) {
                Ok(purge) => {
                    logged.position = purge.position.clone().or(logged.position);
                    logged.doubted_before = purge.has_gap.then(|| purge.at()).or(logged.doubted_before);
                    logged.purges.push(purge);
                }
                Err(_) => logged.is_damaged = true,
            }
        }
        line.clear();
    }
    Ok(logged)
}

static TAG_HEADERS: [HeaderName; 2] = [HeaderName::from_static("surrogate-key"), HeaderName::from_static("cache-tag")];
/// Keys, prefixes and tags of one purge.
const ITEMS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::object::{Freshness, ObjectParts};

    fn object(key: Key, received_us: i64, tag_header: &'static str, tags: &'static str) -> Object {
        let mut headers = HeaderMap::new();
        headers.insert(tag_header, HeaderValue::from_static(tags));
        Object::new(ObjectParts {
            key,
            status: StatusCode::OK,
            size_bytes: 1,
            segment_bytes: 10,
            headers,
            received_at: Timestamp::from_micros(received_us),
            freshness: Freshness::default(),
        })
    }

    fn order(keys: &[&str], prefixes: &[&str], tags: &[&str]) -> PurgeOrder {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        PurgeOrder { keys: owned(keys), prefixes: owned(prefixes), tags: owned(tags), soft: false }
    }

    fn purge(keys: &[&str], prefixes: &[&str], tags: &[&str]) -> Purge {
        order(keys, prefixes, tags).at(Timestamp::from_micros(100)).expect("a sound order")
    }

    #[test]
    fn concerns_what_it_names_and_was_asked_for_before() {
        let (before, after) = (Timestamp::from_micros(100), Timestamp::from_micros(101));
        let key = Key::parse("/shop/a?b").unwrap();
        let held = object(key.clone(), 50, "surrogate-key", "red  green");
        for purge in [
            purge(&["/x", "shop/a?b"], &[], &[]),
            purge(&[], &["/shop/"], &[]),
            purge(&[], &["/y", "/shop/a"], &[]),
            purge(&["/x"], &[], &["blue", "green"]),
        ] {
            assert_eq!(purge.effect(&held, before), Some(PurgeEffect::Gone), "{purge:?}");
            let variant = object(key.variant(7), 50, "cache-tag", "green,blue");
            assert_eq!(purge.effect(&variant, before), Some(PurgeEffect::Gone), "{purge:?}");
            let later = object(key.clone(), 120, "cache-tag", "green");
            assert_eq!(purge.effect(&later, after), None, "{purge:?}");
            assert_eq!(purge.effect(&later, before), Some(PurgeEffect::Gone), "under way when it was ordered");
        }
        for purge in [purge(&["/shop/a"], &[], &[]), purge(&[], &["/shops"], &[]), purge(&[], &[], &["gre", "GREEN"])] {
            assert_eq!(purge.effect(&held, before), None, "{purge:?}");
        }
    }

    #[test]
    fn refuses_orders_that_name_nothing_sound() {
        let at = |order: PurgeOrder| order.at(Timestamp::from_micros(1)).map(drop).map_err(|error| error.to_string());
        assert!(at(PurgeOrder::default()).unwrap_err().contains("nothing to purge"));
        assert!(at(order(&["/a/../b"], &[], &[])).unwrap_err().contains("/a/../b"));
        assert!(at(order(&[], &[], &["two words"])).unwrap_err().contains("two words"));
        let many: Vec<&str> = vec!["/a"; ITEMS_MAX + 1];
        assert!(at(order(&many, &[], &[])).unwrap_err().contains("split it"));
    }

    #[test]
    fn the_log_gives_back_what_was_answered_and_says_when_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let (log, logged) = PurgeLog::open(&path, Timestamp::from_micros(0)).unwrap();
        assert!(logged.purges.is_empty() && !logged.is_damaged);
        let purges = [purge(&["/a"], &[], &[]), purge(&[], &["/b"], &["c"])];
        log.append(&purges).unwrap();
        let cut = fs::read(&path).unwrap();
        log.append(&purges[..1]).unwrap();
        drop(log);
        // A torn end was never answered.
        fs::write(&path, [&cut[..], br#"{"at_us":1"#].concat()).unwrap();
        let (_, logged) = PurgeLog::open(&path, Timestamp::from_micros(100)).unwrap();
        assert_eq!((&logged.purges[..], logged.is_damaged), (&purges[..], false));
        fs::write(&path, [b"broken\n", &cut[..]].concat()).unwrap();
        let (_, logged) = PurgeLog::open(&path, Timestamp::from_micros(101)).unwrap();
        assert!(logged.purges.is_empty() && logged.is_damaged);
    }
}
