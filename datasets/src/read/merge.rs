//! Merges the files of a log into one stream of runs in time order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    ops::Range,
    sync::Arc,
};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use super::{
    MERGED_FILES_MAX,
    columns::Wanted,
    file::{Batches, LogFile},
    rows::{Origin, Rows},
};
use crate::{Error, LogSource, Timestamp, error::Result, time::rfc3339};

/// The files of a log: waiting until the merge reaches their first instant, then open until they are exhausted.
///
/// Files that do not overlap in time are so read one after the other, however many there are. A file that does not
/// tell its first instant is open from the start.
#[derive(Debug)]
pub(crate) struct Merge {
    log: String,
    window: Range<Timestamp>,
    waiting: VecDeque<LogFile>,
    open: Vec<Option<Cursor>>,
    heads: BinaryHeap<Reverse<Head>>,
    opened_count: usize,
    spent: Option<usize>,
    last: Timestamp,
    row_count: u64,
}

/// The next row of an open file; files opened earlier go first at the same instant, so the order is reproducible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    time: Timestamp,
    opened: usize,
    slot: usize,
}

#[derive(Debug)]
struct Cursor {
    name: Arc<str>,
    batches: Batches,
    rows: Rows,
    first_row: u64,
    ahead: Range<usize>,
    opened: usize,
}

/// Consecutive rows of one file that come next in time order.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Which of the open files.
    pub(crate) slot: usize,
    /// The rows' positions in the file's current batch.
    pub(crate) rows: Range<usize>,
}

impl Merge {
    /// Reads all footers of a log, checks all columns, and orders the files by their first instant.
    pub(crate) fn open(source: &LogSource, wanted: Wanted) -> Result<Self> {
        let log = source.to_string();
        let files: Result<Vec<LogFile>> = source.files()?.into_iter().map(|at| LogFile::open(at, wanted)).collect();
        let mut files = files?;
        let row_count = files.iter().map(LogFile::row_count).sum();
        if row_count == 0 {
            return Err(Error::Empty { log });
        }
        files.sort_by_key(|file| file.span().map_or(Timestamp::MIN, |span| span.0));
        Ok(Self {
            log,
            window: Timestamp::MIN..Timestamp::MAX,
            waiting: files.into(),
            open: Vec::new(),
            heads: BinaryHeap::new(),
            opened_count: 0,
            spent: None,
            last: Timestamp::MIN,
            row_count,
        })
    }

    /// Keeps only the rows of `window`. To be called before the first run.
    pub(crate) fn within(mut self, window: Range<Timestamp>) -> Self {
        let inside =
            |file: &LogFile| file.span().is_none_or(|(first, last)| last >= window.start && first < window.end);
        self.waiting.retain(inside);
        self.window = window;
        self
    }

    /// Rows of all files together, in and outside of the window.
    pub(crate) fn row_count(&self) -> u64 {
        self.row_count
    }

    /// The first and last instant of the log, where every file says it.
    pub(crate) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let spans: Option<Vec<_>> =
            self.waiting.iter().filter(|file| file.row_count() > 0).map(LogFile::span).collect();
        let spans = spans?;
        Some((spans.iter().map(|span| span.0).min()?, spans.iter().map(|span| span.1).max()?))
    }

    /// The next run of at most `rows_max` rows, or `None` at the end. Its rows stay readable until the next call.
    pub(crate) fn next_run(&mut self, rows_max: usize) -> Result<Option<Run>> {
        if let Some(slot) = self.spent.take() {
            self.refill(slot)?;
        }
        self.open_due()?;
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        let limit = self.heads.peek().map(|next| next.0);
        let next_file = self.waiting.front().and_then(LogFile::span).map(|span| span.0);
        let Some(cursor) = self.open[head.slot].as_mut() else { return Ok(None) };
        if head.time < self.last {
            let row = cursor.first_row + cursor.ahead.start as u64;
            let (before, at) = (rfc3339(self.last), rfc3339(head.time));
            return Err(Error::Unsorted { file: cursor.name.to_string(), row, before, at });
        }
        let goes_before = |index: usize| {
            let time = cursor.rows.time(index);
            limit.is_none_or(|limit| (time, head.opened) < (limit.time, limit.opened))
                && next_file.is_none_or(|first| time < first)
        };
        let start = cursor.ahead.start;
        let mut end = cursor.ahead.end.min(start + rows_max);
        if !goes_before(end - 1) {
            // The head itself goes first, or it would not be the head.
            end = (start + 1..end).find(|index| !goes_before(*index)).unwrap_or(end);
        }
        self.last = cursor.rows.time(end - 1);
        cursor.ahead.start = end;
        if cursor.ahead.is_empty() {
            self.spent = Some(head.slot);
        } else {
            self.heads.push(Reverse(Head { time: cursor.rows.time(end), ..head }));
        }
        Ok(Some(Run { slot: head.slot, rows: start..end }))
    }

    /// The batch that a run lies in, and where it comes from.
    pub(crate) fn rows(&self, run: &Run) -> Option<(&Rows, Origin<'_>)> {
        let cursor = self.open[run.slot].as_ref()?;
        Some((&cursor.rows, Origin { file: &cursor.name, first_row: cursor.first_row }))
    }

    /// Opens every waiting file that may hold the next row.
    fn open_due(&mut self) -> Result<()> {
        while let Some(file) = self.waiting.front() {
            let first = file.span().map_or(Timestamp::MIN, |span| span.0);
            if self.heads.peek().is_some_and(|head| head.0.time < first) {
                break;
            }
            let free = self.open.iter().position(Option::is_none);
            if free.is_none() && self.open.len() == MERGED_FILES_MAX {
                return Err(Error::TooManyOverlapping { log: self.log.clone(), max: MERGED_FILES_MAX });
            }
            let slot = free.unwrap_or(self.open.len());
            let Some(file) = self.waiting.pop_front() else { break };
            let name = Arc::clone(file.name());
            let (batches, first_row) = file.rows(&self.window)?;
            let cursor =
                Cursor { name, batches, rows: Rows::default(), first_row, ahead: 0..0, opened: self.opened_count };
            self.opened_count += 1;
            if slot == self.open.len() {
                self.open.push(Some(cursor));
            } else {
                self.open[slot] = Some(cursor);
            }
            self.refill(slot)?;
        }
        Ok(())
    }

    /// Reads the next batch with rows in the window into a slot, or frees the slot at the file's end.
    fn refill(&mut self, slot: usize) -> Result<()> {
        let Some(cursor) = self.open[slot].as_mut() else { return Ok(()) };
        if cursor.read(&self.window)? {
            let time = cursor.rows.time(cursor.ahead.start);
            self.heads.push(Reverse(Head { time, opened: cursor.opened, slot }));
        } else {
            self.open[slot] = None;
        }
        Ok(())
    }
}

impl Cursor {
    /// Reads on until a batch holds rows of the window; `false` at the end of what the window can hold.
    fn read(&mut self, window: &Range<Timestamp>) -> Result<bool> {
        loop {
            let before = self.rows.len().checked_sub(1).map_or(Timestamp::MIN, |last| self.rows.time(last));
            if before >= window.end {
                return Ok(false);
            }
            let Some(batch) = self.batches.next() else { return Ok(false) };
            let damaged = |source: ArrowError| Error::Parquet {
                action: "read",
                file: self.name.to_string(),
                source: ParquetError::from(source),
            };
            let batch = batch.map_err(damaged)?;
            self.first_row += self.rows.len() as u64;
            self.rows = Rows::check(&batch, Origin { file: &self.name, first_row: self.first_row }, before)?;
            self.ahead = self.rows.within(window);
            if !self.ahead.is_empty() {
                return Ok(true);
            }
        }
    }
}
