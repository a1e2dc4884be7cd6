//! Streams a log row by row, with strings and all optional columns.

use super::{
    CHUNK_ROWS_MAX,
    coded::check_key,
    columns::Wanted,
    merge::{Merge, Run},
    rows::{Origin, Rows, Text},
};
use crate::{LogSource, RequestEvent, ServedFrom, error::Result, schema};

/// Streams a log row by row in time order, with strings and all optional columns. Slower than
/// [`LogReader`](crate::LogReader), which replaces strings by numbers. The first error ends the stream.
///
/// # Errors
/// As [`LogReader::open`](crate::LogReader::open); the items as
/// [`LogReader::next_chunk`](crate::LogReader::next_chunk).
pub fn read_events(source: &LogSource) -> Result<impl Iterator<Item = Result<RequestEvent>> + Send + use<>> {
    let merge = Merge::open(source, Wanted::Events)?;
    Ok(Events { merge, run: None, failed: false })
}

#[derive(Debug)]
struct Events {
    merge: Merge,
    run: Option<Run>,
    failed: bool,
}

impl Events {
    fn advance(&mut self) -> Result<Option<RequestEvent>> {
        if self.run.as_ref().is_none_or(|run| run.rows.is_empty()) {
            self.run = self.merge.next_run(CHUNK_ROWS_MAX)?;
        }
        let Some(run) = self.run.as_mut() else { return Ok(None) };
        let Some(row) = run.rows.next() else { return Ok(None) };
        self.merge.rows(run).map(|(rows, origin)| event(rows, row, origin)).transpose()
    }
}

impl Iterator for Events {
    type Item = Result<RequestEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance();
        self.failed = item.is_err();
        item.transpose()
    }
}

fn event(rows: &Rows, row: usize, origin: Origin<'_>) -> Result<RequestEvent> {
    let optional = |text: &Text| text.get(row).map(str::to_owned);
    let required = |text: &Text| text.get(row).unwrap_or_default().to_owned();
    let key = required(&rows.key);
    check_key(&key, row, origin)?;
    let outcome = rows.outcome.get(row).map(|word| {
        let unknown = |()| origin.bad_value(schema::OUTCOME, row, format!("\"{word}\" is no outcome"));
        word.parse::<ServedFrom>().map_err(unknown)
    });
    Ok(RequestEvent {
        timestamp: rows.time(row),
        client: required(&rows.client),
        region: required(&rows.region),
        key,
        size_bytes: rows.sizes[row],
        range: rows.range(row, origin)?,
        node: optional(&rows.node),
        outcome: outcome.transpose()?,
        latency_us: rows.latency_us(row),
        arm: optional(&rows.arm),
        model_version: optional(&rows.model_version),
    })
}
