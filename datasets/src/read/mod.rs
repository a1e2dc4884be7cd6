//! Streams a log in time order with bounded memory.

mod coded;
mod columns;
mod events;
mod file;
mod merge;
mod remote;
mod rows;

use std::ops::Range;

use self::{coded::Coder, columns::Wanted, merge::Merge};
use crate::{Dictionaries, EventChunk, LogSource, Map, Timestamp, error::Result};

pub use self::events::read_events;

/// The most rows in one [`EventChunk`].
pub const CHUNK_ROWS_MAX: usize = 8_192;
/// The most files whose time spans overlap that are merged at once.
pub const MERGED_FILES_MAX: usize = 64;

/// Reads a log chunk by chunk, in time order, with strings replaced by numbers.
///
/// Memory is bounded by one batch and one Parquet page per column for each file open at once, of which there are at
/// most [`MERGED_FILES_MAX`], plus the dictionaries, which grow with the distinct strings. Files whose time spans do
/// not overlap, such as days, are read one after the other and may be any number. Content is checked on the way:
/// order, nulls, key lengths, ranges.
#[derive(Debug)]
pub struct LogReader {
    merge: Merge,
    coders: Map<usize, Coder>,
    whole: bool,
}

impl LogReader {
    /// Opens a log, reads every file's footer and checks the columns.
    ///
    /// # Errors
    /// [`Error`](crate::Error) about places, footers, columns, or [`Error::Empty`](crate::Error::Empty).
    pub fn open(source: &LogSource) -> Result<Self> {
        Ok(Self { merge: Merge::open(source, Wanted::Coded)?, coders: Map::default(), whole: true })
    }

    /// Reads only rows with `window.start <= timestamp < window.end`; row groups outside are skipped unread. To be
    /// called before the first chunk.
    #[must_use]
    pub fn within(self, window: Range<Timestamp>) -> Self {
        Self { merge: self.merge.within(window), whole: false, ..self }
    }

    /// Number of rows, unless a window was set.
    pub fn row_count(&self) -> Option<u64> {
        self.whole.then(|| self.merge.row_count())
    }

    /// The next rows, at most [`CHUNK_ROWS_MAX`]; `None` at the end.
    ///
    /// Pass the same `dictionaries` every time and remove nothing from them in between: the reader remembers the
    /// numbers of strings it has seen.
    ///
    /// # Errors
    /// [`Error`](crate::Error) about reading or content, naming file and row. Reading on after an error is of no use.
    pub fn next_chunk(&mut self, dictionaries: &mut Dictionaries) -> Result<Option<EventChunk>> {
        let mut chunk = EventChunk::default();
        while chunk.len() < CHUNK_ROWS_MAX {
            let Some(run) = self.merge.next_run(CHUNK_ROWS_MAX - chunk.len())? else { break };
            if let Some(rows) = self.merge.rows(&run) {
                self.coders.entry(run.slot).or_default().append(rows, &run.rows, dictionaries, &mut chunk)?;
            }
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// The first and last instant of a log, from the footers where they say it, else by reading the timestamps.
pub(crate) fn time_span(source: &LogSource) -> Result<(Timestamp, Timestamp)> {
    let mut merge = Merge::open(source, Wanted::Times)?;
    if let Some(span) = merge.span() {
        return Ok(span);
    }
    let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
    while let Some(run) = merge.next_run(CHUNK_ROWS_MAX)? {
        if let Some((rows, _)) = merge.rows(&run) {
            first = first.min(rows.time(run.rows.start));
            last = last.max(rows.time(run.rows.end - 1));
        }
    }
    Ok((first, last))
}
