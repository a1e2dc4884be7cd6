//! Transfers under way, shared by demand and prefetch so that no segment is fetched twice at a time.

use nearcast_datasets::{Map, SegmentId, Timestamp};
use nearcast_proto::message::CommandId;

use super::MissCause;

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flight {
    /// Demand started it.
    Demand {
        /// Why the segment was not there.
        cause: MissCause,
        /// Requests that wait for it.
        waiting: u64,
    },
    /// A command started it.
    Prefetch {
        command: CommandId,
        /// Bytes announced, to give back to the bound when it ends.
        bytes: u64,
        deadline: Timestamp,
        /// Whether demand joined it.
        is_demanded: bool,
    },
}

/// The transfers under way by segment.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: Map<SegmentId, Flight>,
    prefetch_bytes: u64,
    prefetch_count: usize,
}

impl Flights {
    pub(super) fn find_mut(&mut self, segment: SegmentId) -> Option<&mut Flight> {
        if self.flights.is_empty() { None } else { self.flights.get_mut(&segment) }
    }

    pub(super) fn contains(&self, segment: SegmentId) -> bool {
        self.flights.contains_key(&segment)
    }

    pub(super) fn start(&mut self, segment: SegmentId, flight: Flight) {
        if let Flight::Prefetch { bytes, .. } = flight {
            self.prefetch_bytes += bytes;
            self.prefetch_count += 1;
        }
        self.flights.insert(segment, flight);
    }

    pub(super) fn end(&mut self, segment: SegmentId) -> Option<Flight> {
        let flight = self.flights.remove(&segment)?;
        if let Flight::Prefetch { bytes, .. } = flight {
            self.prefetch_bytes -= bytes;
            self.prefetch_count -= 1;
        }
        Some(flight)
    }

    /// Has every prefetch that nobody waits for expire before it can land; how many there are.
    pub(super) fn recall(&mut self) -> u64 {
        let mut recalled = 0;
        for flight in self.flights.values_mut() {
            if let Flight::Prefetch { deadline, is_demanded: false, .. } = flight {
                *deadline = RECALLED;
                recalled += 1;
            }
        }
        recalled
    }

    /// Whether a prefetch is recalled and still nobody waits for it.
    pub(super) fn is_recalled(&self, segment: SegmentId) -> bool {
        let flight = self.flights.get(&segment);
        matches!(flight, Some(Flight::Prefetch { deadline: RECALLED, is_demanded: false, .. }))
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn prefetch_count(&self) -> usize {
        self.prefetch_count
    }

    pub(super) fn prefetch_bytes(&self) -> u64 {
        self.prefetch_bytes
    }

    pub(super) fn demand_count(&self) -> usize {
        self.flights.len() - self.prefetch_count
    }
}

/// The deadline of a prefetch that is not wanted any more.
pub(super) const RECALLED: Timestamp = Timestamp::MIN;
