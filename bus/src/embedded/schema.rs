//! The tables of an embedded bus. A database in another [`FORMAT`] is refused.

use redb::{Table, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

/// A stream's or bucket's number, which stands for its name in the other tables.
pub(super) type Number = u32;

/// `format` and `clock`, the latest time that was written, in microseconds since the Unix epoch.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
/// Streams by name: a [`StreamMeta`] as JSON.
pub(super) const STREAMS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("streams");
/// What a stream's partition holds: its first sequence, its next one, bytes.
pub(super) const EXTENTS: TableDefinition<'static, (Number, u32), (u64, u64, u64)> = TableDefinition::new("extents");
/// Records by stream, partition and sequence: id and payload.
pub(super) const RECORDS: TableDefinition<'static, (Number, u32, u64), (&str, &[u8])> = TableDefinition::new("records");
/// Ids that are remembered: their sequence.
pub(super) const IDS: TableDefinition<'static, (Number, u32, &str), u64> = TableDefinition::new("ids");
/// The same in the order in which they are forgotten: when the record was appended, in microseconds, and its id.
pub(super) const ID_TIMES: TableDefinition<'static, (Number, u32, u64), (u64, &str)> = TableDefinition::new("id_times");
/// Buckets by name: a [`BucketMeta`] as JSON.
pub(super) const BUCKETS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("buckets");
/// A bucket's last revision and its bytes.
pub(super) const STATES: TableDefinition<'static, Number, (u64, u64)> = TableDefinition::new("states");
/// Entries: revision, whether it is there (else it was removed), value.
pub(super) const ENTRIES: TableDefinition<'static, (Number, &str), (u64, bool, &[u8])> =
    TableDefinition::new("entries");
/// The keys of a bucket in the order of their revisions.
pub(super) const CHANGES: TableDefinition<'static, (Number, u64), &str> = TableDefinition::new("changes");

/// The layout of these tables.
pub(super) const FORMAT: u64 = 1;
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_CLOCK: &str = "clock";

/// What is known of a stream beside its records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamMeta {
    pub(super) number: Number,
    pub(super) version: u32,
    pub(super) partitions: u32,
}

/// What is known of a bucket beside its entries.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BucketMeta {
    pub(super) number: Number,
    pub(super) version: u32,
}

/// Every table, open for writing.
#[derive(Debug)]
pub(super) struct Tables<'txn> {
    pub(super) meta: Table<'txn, &'static str, u64>,
    pub(super) streams: Table<'txn, &'static str, &'static [u8]>,
    pub(super) extents: Table<'txn, (Number, u32), (u64, u64, u64)>,
    pub(super) records: Table<'txn, (Number, u32, u64), (&'static str, &'static [u8])>,
    pub(super) ids: Table<'txn, (Number, u32, &'static str), u64>,
    pub(super) id_times: Table<'txn, (Number, u32, u64), (u64, &'static str)>,
    pub(super) buckets: Table<'txn, &'static str, &'static [u8]>,
    pub(super) states: Table<'txn, Number, (u64, u64)>,
    pub(super) entries: Table<'txn, (Number, &'static str), (u64, bool, &'static [u8])>,
    pub(super) changes: Table<'txn, (Number, u64), &'static str>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            streams: transaction.open_table(STREAMS)?,
            extents: transaction.open_table(EXTENTS)?,
            records: transaction.open_table(RECORDS)?,
            ids: transaction.open_table(IDS)?,
            id_times: transaction.open_table(ID_TIMES)?,
            buckets: transaction.open_table(BUCKETS)?,
            states: transaction.open_table(STATES)?,
            entries: transaction.open_table(ENTRIES)?,
            changes: transaction.open_table(CHANGES)?,
        })
    }
}
