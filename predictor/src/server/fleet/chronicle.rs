//! The record of experiments as members share it: entries under ascending numbers, each written where none is.
//!
//! Who begins to conduct experiments reads all of it and adds an entry of its own. From then on a former conductor,
//! whatever it believes, finds every number taken that it would write under: it can add nothing any more. What it was
//! about to do has then not happened, as it is done only once it is written.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use nearcast_bus::{BucketSpec, Error as BusError, Revision, SharedBucket, Token};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Result,
    experiments::{Entry, Keeper, Kept},
};

/// The record, to be added to in one term.
#[derive(Debug)]
pub(super) struct Chronicle {
    writer: Writer,
    runtime: Handle,
    token: Token,
    /// The number of the next entry.
    next: u64,
}

/// Writes until it is known what became of it, or the term has ended.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) bucket: SharedBucket,
    pub(super) ended: CancellationToken,
}

/// One entry. The field names are a contract.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// Of the term in which it was written.
    token: u64,
    what: What,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// A member begins to conduct.
    Term {
        member: String,
    },
    Design {
        experiment: String,
        text: Text,
    },
    Change {
        experiment: String,
        text: Text,
    },
    Block {
        experiment: String,
        text: Text,
    },
}

/// A text, or where it is when it is too long for an entry.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    Here(String),
    /// In so many parts under its hash.
    Parts {
        hash: String,
        count: usize,
    },
}

impl Chronicle {
    /// Reads all of it and begins a term.
    ///
    /// # Errors
    /// A bus that is away, an entry that cannot be read, or [`Error::OfficeLost`] when a later term has begun.
    pub(super) async fn begin(writer: Writer, token: Token, member: &str) -> Result<(Self, Vec<Kept>)> {
        let mut chronicle = Self { writer, runtime: Handle::current(), token, next: 1 };
        let mut kept = BTreeMap::new();
        loop {
            chronicle.read(&mut kept).await?;
            let term = chronicle.encode(What::Term { member: member.to_owned() })?;
            // Another may have added something since: it is read as well.
            match chronicle.writer.bucket.create(&entry_key(chronicle.next), term).await {
                Err(error) if error.is_conflict() => {}
                written => {
                    written?;
                    break;
                }
            }
        }
        chronicle.next += 1;
        // Without a design nothing had begun.
        let kept = kept.into_values().filter(|kept: &Kept| !kept.design.is_empty()).collect();
        Ok((chronicle, kept))
    }

    async fn read(&mut self, kept: &mut BTreeMap<String, Kept>) -> Result<()> {
        loop {
            let keys: Vec<String> = (self.next..self.next + READ_AT_ONCE).map(entry_key).collect();
            let found = try_join_all(keys.iter().map(|key| self.writer.bucket.get(key))).await?;
            for entry in found {
                let Some(entry) = entry else { return Ok(()) };
                let damaged = || BusError::Damaged { what: "entry", name: entry_key(self.next) };
                let Stored { token, what } = serde_json::from_slice(&entry.value).map_err(|_| damaged())?;
                if token > self.token.0 {
                    return Err(Error::OfficeLost);
                }
                self.take(what, kept).await?;
                self.next += 1;
            }
        }
    }

    async fn take(&self, what: What, kept: &mut BTreeMap<String, Kept>) -> Result<()> {
        let mut of = |name: &str| {
            let begin = || Kept { name: name.to_owned(), ..Kept::default() };
            std::mem::take(kept.entry(name.to_owned()).or_insert_with(begin))
        };
        let (experiment, now) = match what {
            What::Term { .. } => return Ok(()),
            What::Design { experiment, text } => {
                let design = self.text(text).await?;
                let before = of(&experiment);
                (experiment, Kept { design, ..before })
            }
            What::Change { experiment, text } => {
                let line = self.text(text).await?;
                let mut now = of(&experiment);
                now.changes.push_str(&line);
                now.changes.push('\n');
                (experiment, now)
            }
            What::Block { experiment, text } => {
                let line = self.text(text).await?;
                let mut now = of(&experiment);
                now.blocks.push(line);
                (experiment, now)
            }
        };
        kept.insert(experiment, now);
        Ok(())
    }

    async fn text(&self, text: Text) -> Result<String> {
        let (hash, count) = match text {
            Text::Here(text) => return Ok(text),
            Text::Parts { hash, count } => (hash, count),
        };
        let mut bytes = Vec::new();
        for part in 0..count {
            let entry = self.writer.bucket.get(&part_key(&hash, part)).await?;
            let damaged = || BusError::Damaged { what: "entry", name: part_key(&hash, part) };
            bytes.extend_from_slice(&entry.ok_or_else(damaged)?.value);
        }
        let is_whole = blake3::hash(&bytes).to_hex().as_str() == hash;
        let text = String::from_utf8(bytes).ok().filter(|_| is_whole);
        Ok(text.ok_or_else(|| BusError::Damaged { what: "entry", name: part_key(&hash, 0) })?)
    }

    async fn add(&mut self, name: &str, entry: Entry<'_>) -> Result<()> {
        let experiment = name.to_owned();
        let what = match entry {
            Entry::Evidence { hash, document } => return self.keep_parts(hash, document).await.map(drop),
            Entry::Design(text) => What::Design { experiment, text: self.shorten(text).await? },
            Entry::Change(text) => What::Change { experiment, text: self.shorten(text).await? },
            Entry::Block(text) => What::Block { experiment, text: self.shorten(text).await? },
        };
        let bytes = self.encode(what)?;
        self.writer.write(&entry_key(self.next), bytes, None).await?;
        self.next += 1;
        Ok(())
    }

    /// A text as an entry may hold it.
    async fn shorten(&self, text: &str) -> Result<Text> {
        if text.len() <= TEXT_BYTES_MAX {
            return Ok(Text::Here(text.to_owned()));
        }
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        let count = self.keep_parts(&hash, text.as_bytes()).await?;
        Ok(Text::Parts { hash, count })
    }

    async fn keep_parts(&self, hash: &str, bytes: &[u8]) -> Result<usize> {
        let parts = bytes.chunks(PART_BYTES_MAX);
        let count = parts.len();
        for (number, part) in parts.enumerate() {
            // The same under the same hash: it does not matter who wrote it.
            self.writer.write(&part_key(hash, number), Bytes::copy_from_slice(part), None).await?;
        }
        Ok(count)
    }

    fn encode(&self, what: What) -> Result<Bytes> {
        let stored = serde_json::to_vec(&Stored { token: self.token.0, what }).map_err(std::io::Error::from);
        Ok(stored.map_err(Error::file("write", "the record of experiments"))?.into())
    }
}

impl Keeper for Chronicle {
    /// Blocks its thread, which must not be one of the runtime's own.
    fn keep(&mut self, name: &str, entry: Entry<'_>) -> Result<()> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.add(name, entry))
    }
}

impl Writer {
    /// Writes a value where there is none, or over the entry of a revision; the new one.
    ///
    /// # Errors
    /// [`Error::OfficeLost`] when another has written there, or the term has ended; what the bus will never take.
    pub(super) async fn write(&self, key: &str, value: Bytes, expected: Option<Revision>) -> Result<Revision> {
        loop {
            let written = async {
                match expected {
                    None => self.bucket.create(key, value.clone()).await,
                    Some(revision) => self.bucket.update(key, value.clone(), revision).await,
                }
            };
            let written = tokio::select! {
                () = self.ended.cancelled() => return Err(Error::OfficeLost),
                written = written => written,
            };
            match written {
                Ok(revision) => return Ok(revision),
                Err(error) if error.is_conflict() => match self.bucket.get(key).await {
                    // What was not answered may have been done all the same.
                    Ok(Some(entry)) if entry.value == value => return Ok(entry.revision),
                    Ok(_) => {
                        // Whoever works in this term need not wait to be told.
                        self.ended.cancel();
                        return Err(Error::OfficeLost);
                    }
                    Err(error) => tracing::debug!(%error, "the record of experiments cannot be read now"),
                },
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "the record of experiments cannot be written now");
                }
                Err(error) => return Err(error.into()),
            }
            sleep(RETRY).await;
        }
    }
}

/// Where the record is kept.
pub(super) fn record_spec() -> BucketSpec {
    BucketSpec { name: "experiments".to_owned(), version: 1, bytes_max: RECORD_BYTES_MAX }
}

fn entry_key(number: u64) -> String {
    format!("entry.{number:010}")
}

fn part_key(hash: &str, number: usize) -> String {
    format!("part.{hash}.{number:04}")
}

/// Some hundred experiments of a hundred nodes each.
const RECORD_BYTES_MAX: u64 = 512 << 20;
const READ_AT_ONCE: u64 = 32;
/// What a value may hold, less what JSON adds to a text in it.
const TEXT_BYTES_MAX: usize = 256 << 10;
const PART_BYTES_MAX: usize = 512 << 10;
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use nearcast_bus::{Bus, BusSettings};

    use super::*;

    struct World {
        bus: Bus,
        _folder: tempfile::TempDir,
    }

    impl World {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { bus: Bus::open(BusSettings::embedded(folder.path())).await.unwrap(), _folder: folder }
        }

        async fn begin(&self, token: u64) -> Result<(Chronicle, Vec<Kept>)> {
            let bucket = self.bus.bucket(record_spec()).await.unwrap();
            let writer = Writer { bucket, ended: CancellationToken::new() };
            Chronicle::begin(writer, Token(token), "m").await
        }
    }

    fn kept(design: &str, changes: &str, blocks: &[&str]) -> Kept {
        let blocks = blocks.iter().map(|block| (*block).to_owned()).collect();
        Kept { name: "trial".to_owned(), design: design.to_owned(), changes: changes.to_owned(), blocks }
    }

    #[tokio::test]
    async fn a_successor_finds_what_was_written_however_long_it_is() {
        let world = World::new().await;
        let (mut first, found) = world.begin(3).await.unwrap();
        assert_eq!(found, []);
        let design = "d".repeat(3 * PART_BYTES_MAX / 2);
        first.add("trial", Entry::Design(&design)).await.unwrap();
        first.add("trial", Entry::Change("one")).await.unwrap();
        first.add("trial", Entry::Block("b1")).await.unwrap();
        let document = vec![7; 2 * PART_BYTES_MAX];
        let hash = blake3::hash(&document).to_hex();
        for _ in 0..2 {
            first.add("trial", Entry::Evidence { hash: &hash, document: &document }).await.unwrap();
        }
        for number in 2..=40 {
            first.add("trial", Entry::Block(&format!("b{number}"))).await.unwrap();
        }
        first.add("trial", Entry::Change("two")).await.unwrap();
        let (_, found) = world.begin(5).await.unwrap();
        let blocks: Vec<String> = (1..=40).map(|number| format!("b{number}")).collect();
        let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
        assert_eq!(found, [kept(&design, "one\ntwo\n", &blocks)]);
        let evidence = first.writer.bucket.get(&part_key(&hash, 1)).await.unwrap().unwrap();
        assert_eq!(evidence.value.len(), PART_BYTES_MAX);
    }

    #[tokio::test]
    async fn who_conducts_no_more_can_write_nothing_and_nobody_goes_back() {
        let world = World::new().await;
        let (mut first, _) = world.begin(3).await.unwrap();
        first.add("trial", Entry::Design("d")).await.unwrap();
        let (mut second, found) = world.begin(5).await.unwrap();
        assert_eq!(found, [kept("d", "", &[])]);
        // It does not know yet.
        assert!(matches!(first.add("trial", Entry::Change("stale")).await, Err(Error::OfficeLost)));
        second.add("trial", Entry::Change("good")).await.unwrap();
        assert!(matches!(first.add("trial", Entry::Block("stale")).await, Err(Error::OfficeLost)));
        assert!(matches!(world.begin(4).await, Err(Error::OfficeLost)));
        let (_, found) = world.begin(6).await.unwrap();
        assert_eq!(found, [kept("d", "good\n", &[])]);
    }

    #[tokio::test]
    async fn two_who_begin_at_once_follow_each_other() {
        let world = World::new().await;
        let (a, b) = tokio::join!(world.begin(5), world.begin(5));
        let (mut a, mut b) = (a.unwrap().0, b.unwrap().0);
        let written = [a.add("trial", Entry::Design("a")).await, b.add("trial", Entry::Design("b")).await];
        assert_eq!(written.iter().filter(|written| written.is_ok()).count(), 1, "{written:?}");
    }

    #[tokio::test]
    async fn what_was_written_without_an_answer_is_not_written_twice() {
        let world = World::new().await;
        let (mut chronicle, _) = world.begin(3).await.unwrap();
        // As if the answer had been lost.
        let what = What::Change { experiment: "trial".to_owned(), text: Text::Here("one".to_owned()) };
        let bytes = chronicle.encode(what).unwrap();
        chronicle.writer.bucket.create(&entry_key(chronicle.next), bytes).await.unwrap();
        chronicle.add("trial", Entry::Change("one")).await.unwrap();
        chronicle.add("trial", Entry::Design("d")).await.unwrap();
        assert_eq!(world.begin(4).await.unwrap().1, [kept("d", "one\n", &[])]);
    }

    #[tokio::test]
    async fn a_damaged_entry_stops_whoever_would_begin() {
        let world = World::new().await;
        let (chronicle, _) = world.begin(3).await.unwrap();
        chronicle.writer.bucket.create(&entry_key(chronicle.next), "x".into()).await.unwrap();
        assert!(matches!(world.begin(4).await, Err(Error::Bus(BusError::Damaged { .. }))));
    }
}
