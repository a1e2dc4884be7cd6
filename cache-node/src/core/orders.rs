//! The node core's side of commands: queueing, starting and landing prefetches, evicting and pinning to order.

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::{CommandId, CommandStatus, OutcomeKind};

use super::{
    FetchFailed, Fetched, Landed, MissCause, NodeCore, NodeEvent, PrefetchOrder,
    flights::{Flight, RECALLED},
};
use crate::index::{Admission, Pinned};

impl NodeCore {
    /// A command to fetch a segment before anyone asks. Its [`NodeEvent::Result`] follows at once or when it ends.
    pub fn handle_order(&mut self, now: Timestamp, order: PrefetchOrder) {
        self.counters.prefetch.ordered += 1;
        let segment = order.segment;
        if self.index.contains(segment) || self.flights.contains(segment) || self.queue.contains(segment) {
            self.counters.prefetch.already_present += 1;
            self.report_result(&order, CommandStatus::AlreadyPresent);
        } else if order.deadline < now {
            self.expire(&order);
        } else if order.bytes > self.index.probation_bytes_max() {
            self.reject(&order);
        } else {
            let mut turned_away = std::mem::take(&mut self.turned_away);
            self.queue.push(order, &mut turned_away);
            for worst in turned_away.drain(..) {
                self.reject(&worst);
            }
            self.turned_away = turned_away;
        }
    }

    /// The next prefetch to start, or `None` while there is none, its bounds are reached or demand needs the links.
    /// Call again after [`Self::handle_order`], [`Self::handle_fetched`] and [`Self::handle_prefetched`].
    #[must_use]
    pub fn poll_prefetch(&mut self, now: Timestamp) -> Option<PrefetchOrder> {
        while let Some(best) = self.queue.peek() {
            let bytes = self.flights.prefetch_bytes().saturating_add(best.bytes);
            let is_too_much = self.flights.prefetch_count() > 0 && bytes > self.prefetch_flight_bytes_max;
            if self.flights.prefetch_count() >= self.prefetch_slots()
                || self.flights.len() >= self.flights_max
                || is_too_much
            {
                return None;
            }
            let order = self.queue.pop()?;
            if order.deadline < now {
                self.expire(&order);
                continue;
            }
            self.counters.prefetch.started += 1;
            let PrefetchOrder { command, segment, bytes, deadline, .. } = order;
            self.flights.start(segment, Flight::Prefetch { command, bytes, deadline, is_demanded: false });
            return Some(order);
        }
        None
    }

    /// A transfer that [`Self::poll_prefetch`] started ended. When it failed while demand waited for it, the result
    /// says so: the caller fetches for those who wait and then calls [`Self::handle_fetched`].
    pub fn handle_prefetched(
        &mut self,
        now: Timestamp,
        segment: SegmentId,
        result: Result<Fetched, FetchFailed>,
    ) -> Landed {
        let Some(Flight::Prefetch { command, deadline, is_demanded, .. }) = self.flights.end(segment) else {
            return Landed::default();
        };
        let Ok(fetched) = result else {
            let is_recalled = deadline == RECALLED && !is_demanded;
            let prefetch = &mut self.counters.prefetch;
            *(if is_recalled { &mut prefetch.expired } else { &mut prefetch.failed }) += 1;
            let status = if is_recalled { CommandStatus::Expired } else { CommandStatus::Failed };
            self.events.push_back(ended(command, segment, status, 0));
            if is_demanded {
                // Its requests are counted already, as late prefetches, so none is counted as waiting here.
                self.flights.start(segment, Flight::Demand { cause: MissCause::LatePrefetch, waiting: 0 });
            }
            return Landed { demand_waits: is_demanded, ..Landed::default() };
        };
        self.counters.prefetch.landed += 1;
        self.counters.prefetch.landed_bytes += fetched.bytes;
        if is_demanded {
            let is_held = self.store_demanded(now, segment, &fetched);
            self.events.push_back(ended(command, segment, CommandStatus::Done, fetched.bytes));
            return Landed { is_held, cause: Some(MissCause::LatePrefetch), demand_waits: false };
        }
        let status = self.store_prefetched(now, segment, &fetched, command, deadline);
        self.events.push_back(ended(command, segment, status, fetched.bytes));
        Landed { is_held: status == CommandStatus::Done, cause: None, demand_waits: false }
    }

    /// A command to drop a segment, held, pinned, queued or not there at all.
    pub fn handle_evict(&mut self, now: Timestamp, command: CommandId, segment: SegmentId) {
        if let Some(order) = self.queue.remove(segment) {
            self.expire(&order);
        }
        self.drop_segment(now, segment, MissCause::Expired, OutcomeKind::EvictedUnused);
        self.events.push_back(ended(command, segment, CommandStatus::Done, 0));
    }

    /// No prefetch that was ordered so far is wanted any more: those that wait are dropped, and those under way, unless
    /// demand has joined them, expire when they end ([`Self::is_recalled`]). How many there were.
    pub fn handle_recall(&mut self) -> u64 {
        let mut recalled = self.flights.recall();
        while let Some(order) = self.queue.pop() {
            recalled += 1;
            self.expire(&order);
        }
        recalled
    }

    /// Whether a prefetch under way is recalled and still nobody waits for it: its transfer may be broken off.
    #[must_use]
    pub fn is_recalled(&self, segment: SegmentId) -> bool {
        self.flights.is_recalled(segment)
    }

    /// A command to hold a segment until it is ordered away. Rejected when it is not held or too much is pinned.
    pub fn handle_pin(&mut self, command: CommandId, segment: SegmentId) {
        let status = match self.index.pin(segment) {
            Pinned::Done => CommandStatus::Done,
            Pinned::Absent | Pinned::Full => CommandStatus::Rejected,
        };
        self.events.push_back(ended(command, segment, status, 0));
    }

    /// A command to leave a pinned segment to eviction again. Nothing happens to one that is not pinned.
    pub fn handle_unpin(&mut self, now: Timestamp, command: CommandId, segment: SegmentId) {
        self.index.unpin(now, segment);
        self.events.push_back(ended(command, segment, CommandStatus::Done, 0));
    }

    /// Leaves everything that is pinned to eviction again: who ordered it is gone.
    pub fn release_pinned(&mut self, now: Timestamp) {
        self.index.unpin_all(now);
    }

    /// Takes the queued prefetch of a segment that demand asks for now out of the queue; returns whether there was one.
    pub(super) fn overtake_queued(&mut self, now: Timestamp, segment: SegmentId) -> bool {
        let Some(order) = self.queue.remove(segment) else { return false };
        self.record_late(now, segment, order.command);
        self.report_result(&order, CommandStatus::Expired);
        true
    }

    /// Prefetch transfers that may be under way beside demand's: the more demand there is, the fewer, down to none.
    fn prefetch_slots(&self) -> usize {
        let all = self.demand_flights_max.saturating_add(1);
        let left = all.saturating_sub(self.flights.demand_count());
        self.prefetch_flights_max.saturating_mul(left).div_ceil(all)
    }

    fn store_prefetched(
        &mut self,
        now: Timestamp,
        segment: SegmentId,
        fetched: &Fetched,
        command: CommandId,
        deadline: Timestamp,
    ) -> CommandStatus {
        let Fetched { bytes, is_cacheable, .. } = *fetched;
        if !is_cacheable {
            self.record_departed(segment, MissCause::Uncacheable);
            return CommandStatus::Failed;
        }
        if deadline < now {
            self.counters.prefetch.expired += 1;
            return CommandStatus::Expired;
        }
        let is_held = self.index.insert(now, segment, bytes, Admission::Prefetched(command), &mut self.evicted);
        self.report_evicted(now);
        if !is_held {
            self.counters.prefetch.rejected += 1;
            self.record_departed(segment, MissCause::Rejected);
            return CommandStatus::Rejected;
        }
        self.departed.take(segment);
        self.events.push_back(NodeEvent::Gained { segment, bytes });
        CommandStatus::Done
    }

    fn expire(&mut self, order: &PrefetchOrder) {
        self.counters.prefetch.expired += 1;
        self.report_result(order, CommandStatus::Expired);
    }

    fn reject(&mut self, order: &PrefetchOrder) {
        self.counters.prefetch.rejected += 1;
        self.record_departed(order.segment, MissCause::Rejected);
        self.report_result(order, CommandStatus::Rejected);
    }

    fn report_result(&mut self, order: &PrefetchOrder, status: CommandStatus) {
        self.events.push_back(ended(order.command, order.segment, status, 0));
    }
}

fn ended(command: CommandId, segment: SegmentId, status: CommandStatus, bytes: u64) -> NodeEvent {
    NodeEvent::Result { command, segment, status, bytes }
}
