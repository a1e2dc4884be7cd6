//! A log in coded columns, read once and shared by all cells.

use std::ops::Range;

use nearcast_cache_node::core::routing::key_hash;
use nearcast_datasets::{
    ByteRange, ClientId, Dictionaries, EventChunk, Interner, KeyId, LogReader, LogSource, RegionId, RequestEvent,
    Timestamp, schema,
};

use super::{ReplayError, Result};

/// How a log is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Every object counts as one byte.
    pub unit_size: bool,
    /// All regions are one, called `default`.
    pub single_region: bool,
}

/// A log in memory: 26 bytes a request, half as much again when it has byte ranges.
#[derive(Debug)]
pub struct LogColumns {
    timestamps: Vec<Timestamp>,
    clients: Vec<ClientId>,
    regions: Vec<RegionId>,
    keys: Vec<KeyId>,
    /// Empty with unit sizes.
    sizes_bytes: Vec<u64>,
    /// Empty when no request has a range.
    ranges: Vec<Option<ByteRange>>,
    client_hashes: Vec<u64>,
    key_hashes: Vec<u64>,
    key_names: Interner,
    region_names: Vec<String>,
    distinct_bytes: u64,
}

/// One request of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) timestamp: Timestamp,
    /// Hash of the client's pseudonym.
    pub(super) client: u64,
    pub(super) region: RegionId,
    pub(super) key: KeyId,
    pub(super) size_bytes: u64,
    pub(super) range: Option<ByteRange>,
}

impl LogColumns {
    /// Reads a log as a whole; `progress` hears how many requests were read.
    ///
    /// # Errors
    /// When the log cannot be read, is not sorted by time, or is empty.
    pub fn read(source: &LogSource, options: ReadOptions, mut progress: impl FnMut(u64)) -> Result<Self> {
        let mut reader = LogReader::open(source)?;
        let mut names = Dictionaries::default();
        let mut columns = Self::with_capacity(usize::try_from(reader.row_count().unwrap_or(0)).unwrap_or(0), options);
        let mut seen = Vec::new();
        while let Some(chunk) = reader.next_chunk(&mut names)? {
            columns.append(&chunk, options);
            columns.distinct_bytes += new_bytes(&chunk, options, &mut seen);
            progress(columns.len() as u64);
        }
        if columns.is_empty() {
            return Err(ReplayError::EmptyLog { log: source.to_string() });
        }
        columns.name(names, options);
        Ok(columns)
    }

    /// Reads what several logs, which may overlap in time, hold of a window. Names, regions and bytes of anything
    /// outside it stay unknown.
    ///
    /// # Errors
    /// When a log cannot be read or is not sorted by time, or no request is in the window.
    pub fn read_within(sources: &[LogSource], window: &Range<Timestamp>, options: ReadOptions) -> Result<Self> {
        let mut names = Dictionaries::default();
        let mut chunks = Vec::new();
        for source in sources {
            let mut reader = LogReader::open(source)?.within(window.clone());
            while let Some(chunk) = reader.next_chunk(&mut names)? {
                chunks.push(chunk);
            }
        }
        let mut columns = Self::with_capacity(chunks.iter().map(EventChunk::len).sum(), options);
        let mut seen = Vec::new();
        for chunk in if sources.len() > 1 { vec![in_time_order(&chunks)] } else { chunks } {
            columns.append(&chunk, options);
            columns.distinct_bytes += new_bytes(&chunk, options, &mut seen);
        }
        if columns.is_empty() {
            let logs: Vec<_> = sources.iter().map(ToString::to_string).collect();
            return Err(ReplayError::EmptyLog { log: logs.join(", ") });
        }
        columns.name(names, options);
        Ok(columns)
    }

    /// Takes over events that are in memory already, in time order.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a RequestEvent>, options: ReadOptions) -> Self {
        let mut names = Dictionaries::default();
        let mut columns = Self::with_capacity(0, options);
        let mut chunk = EventChunk::default();
        for event in events {
            chunk.timestamps.push(event.timestamp);
            chunk.clients.push(ClientId(names.clients.insert(&event.client)));
            chunk.regions.push(RegionId(u16::try_from(names.regions.insert(&event.region)).unwrap_or(u16::MAX)));
            chunk.keys.push(KeyId(names.keys.insert(&event.key)));
            chunk.sizes_bytes.push(event.size_bytes);
            chunk.ranges.push(event.range);
        }
        columns.append(&chunk, options);
        columns.distinct_bytes = new_bytes(&chunk, options, &mut Vec::new());
        columns.name(names, options);
        columns
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no request.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Number of distinct keys.
    pub fn key_count(&self) -> usize {
        self.key_names.len()
    }

    /// Bytes of the distinct keys, each as large as at its first request.
    pub fn distinct_bytes(&self) -> u64 {
        self.distinct_bytes
    }

    /// The regions by number.
    pub fn region_names(&self) -> &[String] {
        &self.region_names
    }

    pub(super) fn row(&self, row: usize) -> Row {
        Row {
            timestamp: self.timestamps[row],
            client: self.client_hashes[self.clients[row].0 as usize],
            region: self.regions[row],
            key: self.keys[row],
            size_bytes: self.sizes_bytes.get(row).copied().unwrap_or(1),
            range: self.ranges.get(row).copied().flatten(),
        }
    }

    pub(super) fn first_timestamp(&self) -> Timestamp {
        self.timestamps.first().copied().unwrap_or_default()
    }

    pub(super) fn last_timestamp(&self) -> Timestamp {
        self.timestamps.last().copied().unwrap_or_default()
    }

    /// The largest object and its row.
    pub(super) fn largest(&self) -> Option<(usize, u64)> {
        self.sizes_bytes.iter().copied().enumerate().max_by_key(|(_, bytes)| *bytes)
    }

    pub(super) fn key_name(&self, key: KeyId) -> &str {
        self.key_names.name(key.0).map_or("", |name| name)
    }

    pub(super) fn find_key(&self, name: &str) -> Option<KeyId> {
        self.key_names.find(name).map(KeyId)
    }

    pub(super) fn key_hash(&self, key: KeyId) -> u64 {
        self.key_hashes[key.0 as usize]
    }

    fn with_capacity(rows: usize, options: ReadOptions) -> Self {
        Self {
            timestamps: Vec::with_capacity(rows),
            clients: Vec::with_capacity(rows),
            regions: Vec::with_capacity(rows),
            keys: Vec::with_capacity(rows),
            sizes_bytes: Vec::with_capacity(if options.unit_size { 0 } else { rows }),
            ranges: Vec::new(),
            client_hashes: Vec::new(),
            key_hashes: Vec::new(),
            key_names: Interner::default(),
            region_names: Vec::new(),
            distinct_bytes: 0,
        }
    }

    fn name(&mut self, names: Dictionaries, options: ReadOptions) {
        self.client_hashes = names.clients.iter().map(|(_, name)| key_hash(name)).collect();
        self.key_hashes = names.keys.iter().map(|(_, name)| key_hash(name)).collect();
        self.region_names = if options.single_region {
            vec![schema::DEFAULT_REGION.to_owned()]
        } else {
            names.regions.iter().map(|(_, name)| name.to_string()).collect()
        };
        self.key_names = names.keys;
    }

    fn append(&mut self, chunk: &EventChunk, options: ReadOptions) {
        let rows = self.timestamps.len();
        self.timestamps.extend_from_slice(&chunk.timestamps);
        self.clients.extend_from_slice(&chunk.clients);
        if options.single_region {
            self.regions.resize(rows + chunk.len(), RegionId(0));
        } else {
            self.regions.extend_from_slice(&chunk.regions);
        }
        self.keys.extend_from_slice(&chunk.keys);
        if options.unit_size {
            return;
        }
        self.sizes_bytes.extend_from_slice(&chunk.sizes_bytes);
        if !self.ranges.is_empty() || chunk.ranges.iter().any(Option::is_some) {
            self.ranges.resize(rows, None);
            self.ranges.extend_from_slice(&chunk.ranges);
        }
    }
}

/// All rows as one chunk; rows of the same instant keep their order.
fn in_time_order(chunks: &[EventChunk]) -> EventChunk {
    let mut places: Vec<(Timestamp, &EventChunk, usize)> = chunks
        .iter()
        .flat_map(|chunk| chunk.timestamps.iter().enumerate().map(move |(row, timestamp)| (*timestamp, chunk, row)))
        .collect();
    places.sort_by_key(|(timestamp, ..)| *timestamp);
    let mut merged = EventChunk::default();
    for (timestamp, chunk, row) in places {
        merged.timestamps.push(timestamp);
        merged.clients.push(chunk.clients[row]);
        merged.regions.push(chunk.regions[row]);
        merged.keys.push(chunk.keys[row]);
        merged.sizes_bytes.push(chunk.sizes_bytes[row]);
        merged.ranges.push(chunk.ranges[row]);
    }
    merged
}

/// Bytes of the keys that the chunk names for the first time.
fn new_bytes(chunk: &EventChunk, options: ReadOptions, seen: &mut Vec<bool>) -> u64 {
    let mut bytes: u64 = 0;
    for (key, size_bytes) in chunk.keys.iter().zip(&chunk.sizes_bytes) {
        let index = key.0 as usize;
        if index >= seen.len() {
            seen.resize(index + 1, false);
        }
        if !std::mem::replace(&mut seen[index], true) {
            bytes = bytes.saturating_add(if options.unit_size { 1 } else { *size_bytes });
        }
    }
    bytes
}
