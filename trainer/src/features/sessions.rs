//! Sessions: each client's requests in time order, cut where the client paused.

use std::ops::Range;

use nearcast_datasets::KeyId;

use super::{Features, TimeRange};
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
}

impl Features {
    /// The sessions of `range`, ordered by client.
    ///
    /// Two passes: one counts each client's requests, the other puts them where they belong, which rows in the order of
    /// time make a sort by client and time.
    pub(crate) fn sessions(&self, range: TimeRange) -> Result<Sessions> {
        let mut places = vec![0_usize; self.log.clients + 1];
        self.scan(range, |rows| {
            rows.client.iter().for_each(|client| places[*client as usize + 1] += 1);
            Ok(())
        })?;
        for client in 1..places.len() {
            places[client] += places[client - 1];
        }
        let count = places.last().copied().unwrap_or_default();
        let (mut keys, mut starts) = (vec![KeyId(0); count], vec![0_u64; count.div_ceil(64)]);
        let mut last_at = vec![i64::MIN; self.log.clients];
        let gap_micros = self.config.session_gap_micros();
        self.scan(range, |rows| {
            for ((at, client), key) in rows.at.iter().zip(rows.client).zip(rows.key) {
                let client = *client as usize;
                let (place, last) = (places[client], std::mem::replace(&mut last_at[client], *at));
                places[client] += 1;
                keys[place] = KeyId(*key);
                if last == i64::MIN || *at - last > gap_micros {
                    starts[place / 64] |= 1 << (place % 64);
                }
            }
            Ok(())
        })?;
        let starts = (0..count).filter(|place| starts[place / 64] >> (place % 64) & 1 == 1).collect();
        Ok(Sessions { keys, starts })
    }
}
