//! Buckets of an embedded bus.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::watch;

use super::{
    EmbeddedBus,
    schema::{BucketMeta, CHANGES, ENTRIES, Number, Tables},
    stream::blocking,
    writer::Writer,
};
use crate::{
    Bucket, BucketSpec, Change, Entry, Error, Result, Revision, Watch,
    spec::{check_key, check_payload},
};

/// A bucket of an embedded bus.
#[derive(Debug)]
pub(super) struct EmbeddedBucket {
    spec: Arc<BucketSpec>,
    number: Number,
    database: Arc<Database>,
    writer: Writer,
    /// The last revision.
    head: watch::Sender<u64>,
}

impl EmbeddedBucket {
    /// Opens or makes it; one that is open already in another way goes on being told of what is changed here.
    pub(super) async fn open(spec: BucketSpec, other: Option<&Self>, bus: &EmbeddedBus) -> Result<Self> {
        let (wanted, create) = (spec.clone(), bus.create);
        let (number, revision) = bus.writer.write(move |tables| open(tables, &wanted, create), |_| ()).await?;
        let head = other.map_or_else(|| watch::channel(revision).0, |other| other.head.clone());
        Ok(Self { spec: Arc::new(spec), number, database: Arc::clone(&bus.database), writer: bus.writer.clone(), head })
    }

    async fn put(&self, key: &str, value: Option<Bytes>, expected: Option<Revision>) -> Result<Revision> {
        check_key(key)?;
        check_payload(value.as_ref().map_or(0, Bytes::len))?;
        let (number, spec, key, head) = (self.number, Arc::clone(&self.spec), key.to_owned(), self.head.clone());
        let change = move |tables: &mut Tables<'_>| put(tables, (number, &spec), &key, value.as_ref(), expected);
        self.writer.write(change, move |revision| head.send_modify(|last| *last = (*last).max(revision.0))).await
    }
}

#[async_trait]
impl Bucket for EmbeddedBucket {
    fn spec(&self) -> &BucketSpec {
        &self.spec
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        let (database, number, key) = (Arc::clone(&self.database), self.number, key.to_owned());
        blocking(move || {
            let transaction = database.begin_read().map_err(Error::store("read"))?;
            let entries = transaction.open_table(ENTRIES).map_err(Error::store("read"))?;
            let entry = entries.get((number, key.as_str())).map_err(Error::store("read"))?;
            Ok(entry.and_then(|entry| {
                let (revision, is_there, value) = entry.value();
                let entry = Entry { value: Bytes::copy_from_slice(value), revision: Revision(revision) };
                is_there.then_some(entry)
            }))
        })
        .await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision> {
        self.put(key, Some(value), None).await
    }

    async fn update(&self, key: &str, value: Bytes, revision: Revision) -> Result<Revision> {
        self.put(key, Some(value), Some(revision)).await
    }

    async fn delete(&self, key: &str, revision: Revision) -> Result<Revision> {
        self.put(key, None, Some(revision)).await
    }

    async fn watch(&self) -> Result<Box<dyn Watch>> {
        let (number, database, head) = (self.number, Arc::clone(&self.database), self.head.subscribe());
        Ok(Box::new(EmbeddedWatch { number, database, head, seen: 0 }))
    }
}

#[derive(Debug)]
struct EmbeddedWatch {
    number: Number,
    database: Arc<Database>,
    head: watch::Receiver<u64>,
    /// The last revision that was told of.
    seen: u64,
}

#[async_trait]
impl Watch for EmbeddedWatch {
    async fn next(&mut self) -> Result<Change> {
        loop {
            let seen = self.seen;
            let head = *self.head.wait_for(|last| *last > seen).await.map_err(|_| Error::Closed)?;
            let (database, number) = (Arc::clone(&self.database), self.number);
            if let Some(change) = blocking(move || change_after(&database, number, seen)).await? {
                self.seen = change.revision.0;
                return Ok(change);
            }
            self.seen = head;
        }
    }
}

fn open(tables: &mut Tables<'_>, spec: &BucketSpec, create: bool) -> Result<(Number, u64)> {
    let name = spec.name.as_str();
    let stored = tables.buckets.get(name).map_err(Error::store("read"))?.map(|meta| meta.value().to_vec());
    let damaged = || Error::Damaged { what: "bucket", name: name.to_owned() };
    let number = match stored {
        Some(bytes) => {
            let meta: BucketMeta = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            if meta.version > spec.version {
                let (found, known) = (meta.version, spec.version);
                return Err(Error::Newer { what: "bucket", name: name.to_owned(), found, known });
            }
            meta.number
        }
        None if !create => return Err(Error::Missing { what: "bucket", name: name.to_owned() }),
        None => {
            let count = redb::ReadableTableMetadata::len(&tables.buckets).map_err(Error::store("read"))?;
            Number::try_from(count).map_err(|_| damaged())?
        }
    };
    let meta = BucketMeta { number, version: spec.version };
    let bytes = serde_json::to_vec(&meta).map_err(|_| damaged())?;
    tables.buckets.insert(name, bytes.as_slice()).map_err(Error::store("write"))?;
    Ok((number, state(tables, number)?.0))
}

/// Replaces or removes an entry, if it is the expected one.
fn put(
    tables: &mut Tables<'_>,
    (number, spec): (Number, &BucketSpec),
    key: &str,
    value: Option<&Bytes>,
    expected: Option<Revision>,
) -> Result<Revision> {
    let entry = tables.entries.get((number, key)).map_err(Error::store("read"))?;
    let (old_revision, is_there, old_bytes) = entry.map_or((0, false, 0), |entry| {
        let (revision, is_there, value) = entry.value();
        (revision, is_there, (key.len() + value.len()) as u64)
    });
    let found = is_there.then_some(Revision(old_revision));
    if found != expected {
        return Err(Error::Conflict { key: key.to_owned(), found });
    }
    let (last, bytes) = state(tables, number)?;
    let bytes = bytes.saturating_sub(old_bytes) + (key.len() + value.map_or(0, Bytes::len)) as u64;
    if value.is_some() && bytes > spec.bytes_max {
        return Err(spec.full());
    }
    let revision = last + 1;
    let mut write = || -> Result<(), redb::Error> {
        if old_revision > 0 {
            tables.changes.remove((number, old_revision))?;
        }
        let stored = value.map_or(&[][..], |value| value);
        tables.entries.insert((number, key), (revision, value.is_some(), stored))?;
        tables.changes.insert((number, revision), key)?;
        tables.states.insert(number, (revision, bytes))?;
        Ok(())
    };
    write().map_err(Error::store("write"))?;
    Ok(Revision(revision))
}

fn state(tables: &Tables<'_>, number: Number) -> Result<(u64, u64)> {
    let state = tables.states.get(number).map_err(Error::store("read"))?;
    Ok(state.map_or((0, 0), |state| state.value()))
}

fn change_after(database: &Database, number: Number, seen: u64) -> Result<Option<Change>> {
    let transaction = database.begin_read().map_err(Error::store("read"))?;
    let changes = transaction.open_table(CHANGES).map_err(Error::store("read"))?;
    let mut range = changes.range((number, seen + 1)..=(number, u64::MAX)).map_err(Error::store("read"))?;
    let Some((at, key)) = range.next().transpose().map_err(Error::store("read"))? else { return Ok(None) };
    let (revision, key) = (Revision(at.value().1), key.value().to_owned());
    let entries = transaction.open_table(ENTRIES).map_err(Error::store("read"))?;
    let entry = entries.get((number, key.as_str())).map_err(Error::store("read"))?;
    let value = entry.and_then(|entry| {
        let (_, is_there, value) = entry.value();
        is_there.then(|| Bytes::copy_from_slice(value))
    });
    Ok(Some(Change { key, revision, value }))
}
