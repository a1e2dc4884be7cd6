//! Entry points for fuzzing: each reads arbitrary bytes as a client, an origin, a peer, an operator or a damaged disk could
//! send them, and asserts what must hold of the result. Not part of the crate's interface.
//!
//! `fuzz/run.sh` drives them under libFuzzer; the tests below give them the kept inputs and small changes of them.

use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use nearcast_datasets::Timestamp;
use prost::Message;

use crate::{
    config::NodeConfig,
    key::Key,
    object::{
        ContentRange, Freshness, Object, ObjectParts, Reply, answer_key, assess, end_to_end, forwarded, selection,
        vary_names,
    },
    peers::{self, PeerAsk},
    purge::{PurgeLog, PurgeOrder},
    record::{Change, PeerSegment},
    store::{Journal, Payload},
};

pub use crate::front::fuzzing::ranges;

/// A node's configuration.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = NodeConfig::parse(text, Path::new("node.toml"));
    }
}

/// A journal of what a former run held, damaged or written by somebody else; and sound records in any order.
pub fn journal(data: &[u8]) {
    let scratch = Scratch::new();
    let (damaged, sound) = (scratch.0.join("damaged"), scratch.0.join("sound"));
    std::fs::write(&damaged, data).expect("the scratch folder can be written to");
    let restored = |path: &Path| {
        let (journal, restored) = Journal::open(path, 1_000).expect("damage is no error");
        (journal, restored.objects.len())
    };
    restored(&damaged).0.close();
    let (journal, _) = restored(&sound);
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (record, after) = after.split_at(after.len().min(usize::from(*length)));
        if let Some(kind) = Change::decode(record).ok().and_then(|change| change.kind) {
            journal.append(kind);
        }
        rest = after;
    }
    journal.close();
    // What was written down is read back the same as often as it is.
    let (journal, first) = restored(&sound);
    journal.close();
    let (journal, second) = restored(&sound);
    journal.close();
    assert_eq!(first, second);
}

/// A request's target, and keys as logs and records have them.
pub fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once('?').map_or((&*text, None), |(path, query)| (path, Some(query)));
    for key in [Key::from_target(path, query), Key::parse(&text)].into_iter().flatten() {
        let name = key.as_str();
        assert!(
            name.starts_with('/') && name.len() <= 2_048 && !name.contains(|character| character < ' '),
            "{name:?}"
        );
        assert!(!key.is_variant() && Key::from_record(name).as_ref() == Some(&key));
        let path = name.split('?').next().unwrap_or_default();
        assert!(!path.split(['/', '\\']).any(|segment| segment == ".."), "{name:?}");
        // What origins are asked for names this key, whatever is escaped in it.
        let target = key.to_target();
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
        let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
        if let Ok(again) = Key::from_target(path, query) {
            assert_eq!(again.to_target(), target);
            assert!(again == key || query.is_some(), "{name:?} and {again:?}");
        }
    }
    if let Some(key) = Key::from_record(&text) {
        assert_eq!(Key::from_record(key.as_str()), Some(key));
    }
}

/// What a peer sends for a segment.
pub fn peer(data: &[u8]) {
    let (key, asked) = (Key::parse("/a").expect("a key"), HeaderMap::new());
    let ask = PeerAsk { key: &key, index: 1, segment_bytes: 10, only_if_held: true, asked: &asked };
    let check = |body: Vec<u8>| {
        if let Ok(answer) = peers::decode(body.into(), ask) {
            assert_eq!(answer.object.key.base(), key);
            assert_eq!(answer.object.segment_len(1), answer.payload.bytes.len() as u64);
            let record = answer.object.to_record();
            assert_eq!(Object::from_record(&record).map(|object| object.to_record()), Some(record));
        }
    };
    check(data.to_vec());
    // Past the digest, which no chance gets right.
    let (record, payload) = data.split_at(data.len().saturating_sub(5));
    if let Ok(mut segment) = PeerSegment::decode(record) {
        segment.digest = Payload::new(payload.to_vec().into()).digest.to_bytes().to_vec();
        let record = segment.encode_to_vec();
        let length = u32::try_from(record.len()).expect("short").to_le_bytes();
        check([&length[..], &record, payload].concat());
    }
}

/// An order to purge, as JSON, and the log of such orders.
pub fn purge(data: &[u8]) {
    if let Ok(order) = serde_json::from_slice::<PurgeOrder>(data)
        && let Ok(purge) = order.at(Timestamp::from_micros(5))
    {
        let line = serde_json::to_vec(&purge).expect("it can be written");
        assert_eq!(serde_json::from_slice(&line).ok(), Some(purge.clone()));
        let _ = purge.effect(&object(HeaderMap::new(), Freshness::default()), Timestamp::from_micros(1));
    }
    let scratch = Scratch::new();
    let path = scratch.0.join("purges");
    std::fs::write(&path, data).expect("the scratch folder can be written to");
    let (_, first) = PurgeLog::open(&path, Timestamp::from_micros(0)).expect("damage is no error");
    let (_, second) = PurgeLog::open(&path, Timestamp::from_micros(0)).expect("what was kept can be read");
    assert!(first.purges == second.purges && !second.is_damaged);
}

/// The headers of an origin's response, and after an empty line those of the request.
pub fn response(data: &[u8]) {
    let mut both = data.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let headers = header_map(both.by_ref().take_while(|line| !line.is_empty()));
    let asked = header_map(both);
    let now = Timestamp::from_micros(1_000_000);
    for status in [200, 206, 304, 404, 416, 503] {
        let status = StatusCode::from_u16(status).expect("a status");
        let Some(freshness) = assess(Reply { status, headers: &headers, asked: &asked }, now) else { continue };
        assert!(!matches!(status.as_u16(), 206 | 304 | 416) && !headers.contains_key(http::header::SET_COOKIE));
        let object = object(headers.clone(), freshness);
        let record = object.to_record();
        assert_eq!(Object::from_record(&record).map(|object| object.to_record()), Some(record));
        let refreshed = object.refreshed(&asked, now, freshness);
        assert_eq!(refreshed.version, object.version);
        let _ = (object.is_fresh(now), object.age(now), object.staled(now), object.suits(&asked));
    }
    let names = vary_names(&headers);
    assert!(names.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    assert_eq!(selection(&names, &asked), selection(&names, &asked.clone()));
    let key = answer_key(&Key::parse("/a").expect("a key"), &headers, &asked);
    assert_eq!(key.is_variant(), !names.is_empty());
    if let Some(ContentRange { first_and_last: Some((first, last)), size_bytes }) = ContentRange::of(&headers) {
        assert!(first <= last && size_bytes.is_none_or(|size| last < size));
    }
    for kept in [end_to_end(&headers), forwarded(&headers)] {
        assert!(!["connection", "transfer-encoding", "te"].iter().any(|name| kept.contains_key(*name)));
    }
}

/// The lines that are headers.
fn header_map<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn object(headers: HeaderMap, freshness: Freshness) -> Object {
    Object::new(ObjectParts {
        key: Key::parse("/a").expect("a key"),
        status: StatusCode::OK,
        size_bytes: 15,
        segment_bytes: 10,
        headers,
        received_at: Timestamp::from_micros(5),
        freshness,
    })
}

/// A folder that is gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("nearcast-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("temporary folders can be made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Gives `target` the inputs kept in `fuzz/seeds` and, `count` times, one that is a little different.
    fn check(name: &str, target: fn(&[u8]), count: usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "{}", folder.display());
        seeds.iter().for_each(|seed| target(seed));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..count {
            let mut data = seeds[rng.random_range(0..seeds.len())].clone();
            for _ in 0..rng.random_range(1..8) {
                let at = rng.random_range(0..=data.len());
                match rng.random_range(0..4) {
                    0 if at < data.len() => data[at] = rng.random(),
                    1 if at < data.len() => _ = data.remove(at),
                    2 => {
                        let other = &seeds[rng.random_range(0..seeds.len())];
                        let from = rng.random_range(0..=other.len());
                        data.splice(at..at, other[from..(from + 8).min(other.len())].iter().copied());
                    }
                    _ => data.insert(at, TELLING[rng.random_range(0..TELLING.len())]),
                }
            }
            target(&data);
        }
    }

    /// Bytes that parsers look for.
    const TELLING: &[u8] = b"0-9,=\"%/\r\n:\xff\0";

    #[test]
    fn parsers_survive_the_kept_inputs_and_others_like_them() {
        check("config", config, 300);
        check("journal", journal, 30);
        check("keys", keys, 2_000);
        check("peer", peer, 2_000);
        check("purge", purge, 100);
        check("ranges", ranges, 1_000);
        check("response", response, 1_000);
    }
}
