//! The objects of a log: which there are, and how large.

use nearcast_datasets::{Dictionaries, LogReader, LogSource, Map, Timestamp};

use super::target::rooted;

/// Every key of a log with the size of its object.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    sizes: Map<Box<str>, u64>,
    /// The instant of the log's first request, from when all objects date.
    pub(crate) since: Timestamp,
}

impl Objects {
    /// Reads a whole log. An object that changes its size in the log has its last size all the time.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn of_log(source: &LogSource) -> nearcast_datasets::Result<Self> {
        let mut reader = LogReader::open(source)?;
        let mut dictionaries = Dictionaries::default();
        let mut sizes = Vec::new();
        let mut since = None;
        while let Some(chunk) = reader.next_chunk(&mut dictionaries)? {
            since = since.or_else(|| chunk.timestamps.first().copied());
            sizes.resize(dictionaries.keys.bound(), 0);
            for (key, size) in chunk.keys.iter().zip(&chunk.sizes_bytes) {
                sizes[key.0 as usize] = *size;
            }
        }
        let sized = dictionaries.keys.iter().zip(sizes);
        let sizes = sized.map(|((_, key), size)| (rooted(key).into(), size)).collect();
        Ok(Self { sizes, since: since.unwrap_or_default() })
    }

    /// The size in bytes of the object of a key with its leading slash, if the log knows it.
    pub(crate) fn size(&self, key: &str) -> Option<u64> {
        self.sizes.get(key).copied()
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }
}
