//! Sessions: each client's requests in time order, cut where the client paused.

use std::ops::Range;

use arrow::datatypes::{Int64Type, UInt32Type};
use nearcast_datasets::KeyId;

use super::{Features, TimeRange, columns::column};
use crate::Result;

/// All sessions of a range of time, one after the other in one allocation (four bytes a request).
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    keys: Vec<KeyId>,
    starts: Vec<usize>,
}

impl Sessions {
    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Number of pairs of consecutive requests within a session: what next-key prediction learns from.
    pub(crate) fn transitions(&self) -> usize {
        self.keys.len() - self.starts.len()
    }

    /// The keys of the session at `index`, in time order.
    pub(crate) fn get(&self, index: usize) -> &[KeyId] {
        let Range { start, end } = self.bounds(index);
        &self.keys[start..end]
    }

    /// Every session.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[KeyId]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Where the session at `index` lies among all requests.
    pub(crate) fn bounds(&self, index: usize) -> Range<usize> {
        self.starts[index]..self.starts.get(index + 1).copied().unwrap_or(self.keys.len())
    }

    fn push(&mut self, key: KeyId, starts_session: bool) {
        if starts_session {
            self.starts.push(self.keys.len());
        }
        self.keys.push(key);
    }
}

impl Features {
    /// The sessions of `range`, ordered by client.
    pub(crate) fn sessions(&self, range: TimeRange) -> Result<Sessions> {
        let sql = format!(
            "WITH {} SELECT key, starts FROM flagged ORDER BY client, at, position",
            flagged(range, self.config.session_gap_micros())
        );
        let mut sessions = Sessions::default();
        self.engine.for_each(&sql, |batch| {
            let keys = column::<UInt32Type>(batch, "key")?;
            let starts = column::<Int64Type>(batch, "starts")?;
            for (key, starts) in keys.values().iter().zip(starts.values()) {
                sessions.push(KeyId(*key), *starts == 1);
            }
            Ok(())
        })?;
        Ok(sessions)
    }
}

/// The common table `flagged`: the requests of `range`, with `starts` = 1 where a client's session begins.
pub(super) fn flagged(range: TimeRange, gap_micros: i64) -> String {
    format!(
        "gaps AS (SELECT client, at, position, key, \
           at - LAG(at) OVER (PARTITION BY client ORDER BY at, position) AS gap FROM requests WHERE {}), \
         flagged AS (SELECT client, at, position, key, \
           CASE WHEN gap <= {gap_micros} THEN 0 ELSE 1 END AS starts FROM gaps)",
        range.condition()
    )
}
