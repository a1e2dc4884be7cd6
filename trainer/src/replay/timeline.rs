//! What happened when: the counted part of a log in slices of equal time.

use std::time::Duration;

use nearcast_datasets::Timestamp;
use serde::Serialize;

/// What was counted within a slice of time. A request belongs to the slice in which it came, a prefetched segment to
/// the one in which its outcome became known, whenever it was ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimeSlice {
    /// Where the slice starts, in microseconds since the Unix epoch; it ends where the next one starts.
    pub start_us: i64,
    /// Requests of clients.
    pub requests: u64,
    /// Of those, not answered from what the region's own node held.
    pub misses: u64,
    /// The same without prefetching.
    pub baseline_misses: u64,
    /// Prefetched segments that were asked for after they had landed and before they left.
    pub used: u64,
    /// Prefetched segments that were asked for before they had landed.
    pub late: u64,
    /// Prefetched segments that left without having been asked for.
    pub unused: u64,
    /// Bytes whose fetch into a node began, from peers and origin alike.
    pub fetched_bytes: u64,
}

/// Slices of equal length, at most [`SLICES_MAX`].
#[derive(Debug)]
pub(super) struct Timeline {
    start: Timestamp,
    width: Duration,
    slices: Vec<TimeSlice>,
}

impl Timeline {
    /// Empty slices from `start` to `end`, both included.
    pub(super) fn new(start: Timestamp, end: Timestamp) -> Self {
        let span_us = end.since(start).as_micros() + 1;
        let width_us = span_us.div_ceil(SLICES_MAX);
        let width = Duration::from_micros(u64::try_from(width_us).unwrap_or(u64::MAX));
        let start_us = |index| start.after(width * index).micros();
        let count = u32::try_from(span_us.div_ceil(width_us)).unwrap_or(u32::MAX);
        let slices = (0..count).map(|index| TimeSlice { start_us: start_us(index), ..TimeSlice::default() }).collect();
        Self { start, width, slices }
    }

    /// The slice of an instant. What was due before the start counts for the first one.
    pub(super) fn at(&mut self, now: Timestamp) -> &mut TimeSlice {
        let index = now.since(self.start).as_micros() / self.width.as_micros();
        let last = self.slices.len() - 1;
        &mut self.slices[usize::try_from(index).unwrap_or(last).min(last)]
    }

    pub(super) fn slices(&self) -> &[TimeSlice] {
        &self.slices
    }
}

/// Slices of a log: enough to see a day in a month, and wide enough to be drawn.
const SLICES_MAX: u128 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn every_instant_falls_into_the_slice_that_starts_last_before_it() {
        for end in [1_000, 1_001, 1_038, 1_039, 1_040, 987_654] {
            let mut timeline = Timeline::new(at(1_000), at(end));
            (900..=end).for_each(|micros| timeline.at(at(micros)).requests += 1);
            let slices = timeline.slices();
            let ends = slices.iter().skip(1).map(|slice| slice.start_us).chain([end + 1]);
            let lengths: Vec<_> = slices.iter().zip(ends).map(|(slice, end)| (end - slice.start_us) as u64).collect();
            assert_eq!(slices[0].start_us, 1_000);
            assert_eq!(slices[0].requests, lengths[0] + 100, "until {end}");
            assert!(slices.iter().zip(&lengths).skip(1).all(|(slice, length)| slice.requests == *length), "{slices:?}");
            assert!(lengths.iter().all(|length| *length > 0) && lengths.len() <= 40, "{lengths:?}");
        }
    }
}
