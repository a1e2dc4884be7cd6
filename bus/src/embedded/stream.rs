//! Streams of an embedded bus.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    EmbeddedBus,
    schema::{EXTENTS, Number, RECORDS, StreamMeta, Tables},
    writer::Writer,
};
use crate::{
    Appended, Discard, DurableStream, Error, Extent, Partition, Read, Record, Result, Sequence, SharedClock,
    StreamSpec, Tail,
    spec::{check_id, check_payload},
};

/// A stream of an embedded bus.
#[derive(Debug)]
pub(super) struct EmbeddedStream {
    spec: Arc<StreamSpec>,
    number: Number,
    database: Arc<Database>,
    writer: Writer,
    clock: SharedClock,
    /// Where each partition's next record will be.
    heads: Vec<watch::Sender<u64>>,
    refused: AtomicU64,
}

impl EmbeddedStream {
    /// Opens or makes it; one that is open already in another way goes on being told of what is appended here.
    pub(super) async fn open(spec: StreamSpec, other: Option<&Self>, bus: &EmbeddedBus) -> Result<Self> {
        let (wanted, create) = (spec.clone(), bus.create);
        let (number, heads) = bus.writer.write(move |tables| open(tables, &wanted, create), |_| ()).await?;
        let heads = match other {
            Some(other) => other.heads.clone(),
            None => heads.into_iter().map(|next| watch::channel(next).0).collect(),
        };
        Ok(Self {
            spec: Arc::new(spec),
            number,
            database: Arc::clone(&bus.database),
            writer: bus.writer.clone(),
            clock: Arc::clone(&bus.clock),
            heads,
            refused: AtomicU64::new(0),
        })
    }

    fn head(&self, partition: Partition) -> Result<&watch::Sender<u64>> {
        self.spec.check_partition(partition)?;
        let missing = Error::NoPartition { name: self.spec.name.clone(), partition, count: self.spec.partitions };
        self.heads.get(partition.0 as usize).ok_or(missing)
    }
}

#[async_trait]
impl DurableStream for EmbeddedStream {
    fn spec(&self) -> &StreamSpec {
        &self.spec
    }

    async fn append(&self, partition: Partition, id: &str, payload: Bytes) -> Result<Appended> {
        check_id(id)?;
        check_payload(payload.len())?;
        let head = self.head(partition)?.clone();
        let (number, spec, id, now) = (self.number, Arc::clone(&self.spec), id.to_owned(), self.clock.unix());
        let change = move |tables: &mut Tables<'_>| append(tables, (number, &spec), partition, &id, &payload, now);
        let then = move |appended: &Appended| {
            head.send_modify(|next| *next = (*next).max(appended.sequence.next().0));
        };
        let outcome = self.writer.write(change, then).await;
        if matches!(outcome, Err(Error::StreamFull { .. })) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    async fn tail(&self, partition: Partition, from: Sequence) -> Result<Box<dyn Tail>> {
        let head = self.head(partition)?.subscribe();
        let next = from.max(Sequence::FIRST);
        let (number, database) = (self.number, Arc::clone(&self.database));
        Ok(Box::new(EmbeddedTail { number, partition, next, head, database }))
    }

    async fn extent(&self, partition: Partition) -> Result<Extent> {
        self.spec.check_partition(partition)?;
        let (database, at) = (Arc::clone(&self.database), (self.number, partition.0));
        blocking(move || {
            let transaction = database.begin_read().map_err(Error::store("read"))?;
            let extents = transaction.open_table(EXTENTS).map_err(Error::store("read"))?;
            let extent = extents.get(at).map_err(Error::store("read"))?.map(|extent| extent.value());
            Ok(as_extent(extent))
        })
        .await
    }

    async fn trim(&self, partition: Partition, before: Sequence) -> Result<()> {
        self.spec.check_partition(partition)?;
        let number = self.number;
        self.writer.write(move |tables| trim(tables, number, partition, before), |()| ()).await
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct EmbeddedTail {
    number: Number,
    partition: Partition,
    next: Sequence,
    head: watch::Receiver<u64>,
    database: Arc<Database>,
}

#[async_trait]
impl Tail for EmbeddedTail {
    async fn next(&mut self, max: usize) -> Result<Read> {
        let wanted = self.next.0;
        self.head.wait_for(|next| *next > wanted).await.map_err(|_| Error::Closed)?;
        let (number, partition, database) = (self.number, self.partition, Arc::clone(&self.database));
        let read = blocking(move || read(&database, number, partition, Sequence(wanted), max.max(1))).await?;
        self.next = match &read {
            Read::Records(records) => records.last().map_or(self.next, |record| record.sequence.next()),
            Read::Gap { to, .. } => *to,
        };
        Ok(read)
    }

    fn position(&self) -> Sequence {
        self.next
    }
}

fn open(tables: &mut Tables<'_>, spec: &StreamSpec, create: bool) -> Result<(Number, Vec<u64>)> {
    let name = spec.name.as_str();
    let stored = tables.streams.get(name).map_err(Error::store("read"))?.map(|meta| meta.value().to_vec());
    let damaged = || Error::Damaged { what: "stream", name: name.to_owned() };
    let meta = match stored {
        Some(bytes) => {
            let meta: StreamMeta = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            if meta.version > spec.version {
                let (found, known) = (meta.version, spec.version);
                return Err(Error::Newer { what: "stream", name: name.to_owned(), found, known });
            }
            if meta.partitions != spec.partitions {
                let (found, asked) = (meta.partitions, spec.partitions);
                return Err(Error::Partitions { name: name.to_owned(), found, asked });
            }
            StreamMeta { version: spec.version, ..meta }
        }
        None if !create => return Err(Error::Missing { what: "stream", name: name.to_owned() }),
        None => {
            let count = redb::ReadableTableMetadata::len(&tables.streams).map_err(Error::store("read"))?;
            let number = Number::try_from(count).map_err(|_| damaged())?;
            StreamMeta { number, version: spec.version, partitions: spec.partitions }
        }
    };
    let bytes = serde_json::to_vec(&meta).map_err(|_| damaged())?;
    tables.streams.insert(name, bytes.as_slice()).map_err(Error::store("write"))?;
    let next = |partition| Ok(extent(tables, meta.number, Partition(partition))?.next.0);
    let heads = (0..meta.partitions).map(next).collect::<Result<Vec<u64>>>()?;
    Ok((meta.number, heads))
}

fn append(
    tables: &mut Tables<'_>,
    (number, spec): (Number, &StreamSpec),
    partition: Partition,
    id: &str,
    payload: &Bytes,
    now: Duration,
) -> Result<Appended> {
    let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let window_us = u64::try_from(spec.duplicates_within.as_micros()).unwrap_or(u64::MAX);
    forget_ids(tables, number, partition, now_us.saturating_sub(window_us)).map_err(Error::store("write"))?;
    let known = tables.ids.get((number, partition.0, id)).map_err(Error::store("read"))?.map(|at| at.value());
    if let Some(sequence) = known {
        return Ok(Appended { sequence: Sequence(sequence), is_duplicate: true });
    }
    let mut extent = extent(tables, number, partition)?;
    let bytes = record_bytes(id, payload);
    if bytes > spec.bytes_max || (spec.discard == Discard::Newest && extent.bytes + bytes > spec.bytes_max) {
        return Err(spec.full(partition));
    }
    let sequence = extent.next;
    let mut write = |tables: &mut Tables<'_>| -> Result<(), redb::Error> {
        while extent.bytes + bytes > spec.bytes_max {
            discard_first(tables, number, partition, &mut extent)?;
        }
        tables.records.insert((number, partition.0, sequence.0), (id, payload.as_ref()))?;
        tables.ids.insert((number, partition.0, id), sequence.0)?;
        tables.id_times.insert((number, partition.0, sequence.0), (now_us, id))?;
        let (first, next, bytes) = (extent.first.0, sequence.next().0, extent.bytes + bytes);
        tables.extents.insert((number, partition.0), (first, next, bytes))?;
        Ok(())
    };
    write(tables).map_err(Error::store("write"))?;
    Ok(Appended { sequence, is_duplicate: false })
}

/// Forgets ids of records that were appended before a time.
fn forget_ids(
    tables: &mut Tables<'_>,
    number: Number,
    partition: Partition,
    before_us: u64,
) -> Result<(), redb::Error> {
    for _ in 0..FORGET_MAX {
        let range = (number, partition.0, 0)..=(number, partition.0, u64::MAX);
        let oldest = tables.id_times.range(range)?.next().transpose()?;
        let oldest = oldest.map(|(at, value)| (at.value().2, value.value().0, value.value().1.to_owned()));
        let Some((sequence, _, id)) = oldest.filter(|(_, time_us, _)| *time_us < before_us) else { break };
        tables.id_times.remove((number, partition.0, sequence))?;
        tables.ids.remove((number, partition.0, id.as_str()))?;
    }
    Ok(())
}

fn discard_first(
    tables: &mut Tables<'_>,
    number: Number,
    partition: Partition,
    extent: &mut Extent,
) -> Result<(), redb::Error> {
    if let Some(record) = tables.records.remove((number, partition.0, extent.first.0))? {
        let (id, payload) = record.value();
        extent.bytes = extent.bytes.saturating_sub((id.len() + payload.len()) as u64 + RECORD_BYTES);
    }
    extent.first = extent.first.next();
    if extent.first >= extent.next {
        extent.bytes = 0;
    }
    Ok(())
}

fn trim(tables: &mut Tables<'_>, number: Number, partition: Partition, before: Sequence) -> Result<()> {
    let mut extent = extent(tables, number, partition)?;
    while extent.first < before.min(extent.next) {
        discard_first(tables, number, partition, &mut extent).map_err(Error::store("write"))?;
    }
    let value = (extent.first.0, extent.next.0, extent.bytes);
    tables.extents.insert((number, partition.0), value).map_err(Error::store("write"))?;
    Ok(())
}

fn extent(tables: &Tables<'_>, number: Number, partition: Partition) -> Result<Extent> {
    let extent = tables.extents.get((number, partition.0)).map_err(Error::store("read"))?;
    Ok(as_extent(extent.map(|extent| extent.value())))
}

fn as_extent(stored: Option<(u64, u64, u64)>) -> Extent {
    let (first, next, bytes) = stored.unwrap_or((Sequence::FIRST.0, Sequence::FIRST.0, 0));
    Extent { first: Sequence(first), next: Sequence(next), bytes }
}

fn read(database: &Database, number: Number, partition: Partition, from: Sequence, max: usize) -> Result<Read> {
    let transaction = database.begin_read().map_err(Error::store("read"))?;
    let extents = transaction.open_table(EXTENTS).map_err(Error::store("read"))?;
    let extent = extents.get((number, partition.0)).map_err(Error::store("read"))?.map(|extent| extent.value());
    let first = as_extent(extent).first;
    if first > from {
        return Ok(Read::Gap { from, to: first });
    }
    let table = transaction.open_table(RECORDS).map_err(Error::store("read"))?;
    let range = (number, partition.0, from.0)..=(number, partition.0, u64::MAX);
    let (mut records, mut bytes) = (Vec::new(), 0);
    for record in table.range(range).map_err(Error::store("read"))? {
        let (at, value) = record.map_err(Error::store("read"))?;
        let (id, payload) = value.value();
        bytes += payload.len();
        let sequence = Sequence(at.value().2);
        records.push(Record { sequence, id: id.to_owned(), payload: Bytes::copy_from_slice(payload) });
        if records.len() >= max || bytes >= READ_BYTES_MAX {
            break;
        }
    }
    Ok(Read::Records(records))
}

/// Runs what reads a file where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(read).await.map_err(|_| Error::Closed)?
}

fn record_bytes(id: &str, payload: &Bytes) -> u64 {
    (id.len() + payload.len()) as u64 + RECORD_BYTES
}

/// What keeping a record takes beside its id and payload, about.
const RECORD_BYTES: u64 = 64;
/// Ids that one append forgets at most.
const FORGET_MAX: usize = 4;
/// After so many bytes a read returns.
const READ_BYTES_MAX: usize = 4 << 20;
