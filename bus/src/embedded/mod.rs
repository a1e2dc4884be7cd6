//! The bus inside of one process, kept in one file.
//!
//! The file is a [redb](https://www.redb.org) database: transactions, checksums, crash safety. What is acknowledged has
//! been synced. One process has it open at a time.

mod bucket;
mod schema;
mod stream;
mod writer;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use redb::{Database, DatabaseError, ReadableDatabase, TableError};
use tokio::sync::Mutex;

use self::{
    bucket::EmbeddedBucket,
    schema::{FORMAT, META, META_CLOCK, META_FORMAT, Tables},
    stream::EmbeddedStream,
    writer::Writer,
};
use crate::{Bucket, BucketSpec, DurableStream, Error, Result, SharedBucket, SharedClock, SharedStream, StreamSpec};

/// A bus inside of this process.
#[derive(Debug)]
pub(crate) struct EmbeddedBus {
    database: Arc<Database>,
    writer: Writer,
    clock: SharedClock,
    create: bool,
    /// What is open: all who open the same work on the same.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    streams: BTreeMap<String, Arc<EmbeddedStream>>,
    buckets: BTreeMap<String, Arc<EmbeddedBucket>>,
}

impl EmbeddedBus {
    /// Opens the database in a folder, or makes it.
    pub(crate) fn open(folder: &Path, create: bool, skew_max: Duration, clock: SharedClock) -> Result<Self> {
        fs::create_dir_all(folder)
            .map_err(|source| Error::Store { action: "make the folder of", source: Box::new(source) })?;
        let path = folder.join(FILE);
        let database = open_database(&path)?;
        check(&database, &path, clock.unix(), skew_max)?;
        let database = Arc::new(database);
        let writer = Writer::start(Arc::clone(&database), Arc::clone(&clock))?;
        Ok(Self { database, writer, clock, create, open: Mutex::default() })
    }

    pub(crate) async fn stream(&self, spec: StreamSpec) -> Result<SharedStream> {
        spec.check()?;
        let mut open = self.open.lock().await;
        if let Some(stream) = open.streams.get(&spec.name)
            && *stream.spec() == spec
        {
            return Ok(Arc::clone(stream) as SharedStream);
        }
        let name = spec.name.clone();
        let stream = EmbeddedStream::open(spec, open.streams.get(&name).map(Arc::as_ref), self).await?;
        let stream = Arc::new(stream);
        open.streams.insert(name, Arc::clone(&stream));
        Ok(stream)
    }

    pub(crate) async fn bucket(&self, spec: BucketSpec) -> Result<SharedBucket> {
        spec.check()?;
        let mut open = self.open.lock().await;
        if let Some(bucket) = open.buckets.get(&spec.name)
            && *bucket.spec() == spec
        {
            return Ok(Arc::clone(bucket) as SharedBucket);
        }
        let name = spec.name.clone();
        let bucket = EmbeddedBucket::open(spec, open.buckets.get(&name).map(Arc::as_ref), self).await?;
        let bucket = Arc::new(bucket);
        open.buckets.insert(name, Arc::clone(&bucket));
        Ok(bucket)
    }

    pub(crate) async fn close(self) {
        self.writer.close().await;
    }
}

fn open_database(path: &Path) -> Result<Database> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: PathBuf::from(path) },
        other => Error::store("open")(other),
    })
}

/// Refuses a database of a newer program, and one that was written in what the clock says is the future.
fn check(database: &Database, path: &Path, now: Duration, skew_max: Duration) -> Result<()> {
    let (format, last) = read_meta(database)?;
    if let Some(found) = format.filter(|format| *format > FORMAT) {
        let (found, known) = (u32::try_from(found).unwrap_or(u32::MAX), FORMAT as u32);
        return Err(Error::Newer { what: "database", name: path.display().to_string(), found, known });
    }
    let behind = Duration::from_micros(last).saturating_sub(now);
    if behind > skew_max {
        return Err(Error::Clock { skew: behind, direction: "behind", skew_max });
    }
    if format.is_none() {
        let transaction = database.begin_write().map_err(Error::store("write"))?;
        {
            // Every table is there from now on, so that reading need not expect otherwise.
            let mut tables = Tables::open(&transaction).map_err(Error::store("write"))?;
            tables.meta.insert(META_FORMAT, FORMAT).map_err(Error::store("write"))?;
        }
        transaction.commit().map_err(Error::store("write"))?;
    }
    Ok(())
}

/// The format, if there is one, and the latest time that was written, in microseconds.
fn read_meta(database: &Database) -> Result<(Option<u64>, u64)> {
    let transaction = database.begin_read().map_err(Error::store("read"))?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok((None, 0)),
        Err(error) => return Err(Error::store("read")(error)),
    };
    let read = |key| meta.get(key).map(|value| value.map(|value| value.value())).map_err(Error::store("read"));
    Ok((read(META_FORMAT)?, read(META_CLOCK)?.unwrap_or(0)))
}

const FILE: &str = "bus.redb";
/// What the database keeps in memory.
const CACHE_BYTES: usize = 64 << 20;
