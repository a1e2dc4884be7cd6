//! Fetches of demand that a ghost takes to be under way.

use nearcast_datasets::{Map, SegmentId, Timestamp};

/// Segments that a ghost holds already and that would still be on their way.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Map<SegmentId, Timestamp>);

impl Arrivals {
    /// A segment was missed and lands at `lands_at`.
    pub(crate) fn start(&mut self, now: Timestamp, segment: SegmentId, lands_at: Timestamp) {
        if lands_at > now {
            self.0.retain(|_, at| *at > now);
            self.0.insert(segment, lands_at);
        }
    }

    /// Whether a segment is still on its way.
    pub(crate) fn is_under_way(&mut self, now: Timestamp, segment: SegmentId) -> bool {
        match self.0.get(&segment) {
            Some(at) if *at > now => true,
            Some(_) => {
                self.0.remove(&segment);
                false
            }
            None => false,
        }
    }
}
