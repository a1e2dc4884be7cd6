//! Prefetches that wait for their transfer, best value per byte first.

use std::{cmp::Reverse, collections::BTreeMap};

use nearcast_datasets::{Map, SegmentId};

use super::PrefetchOrder;

/// Ascending: best value per byte first, then oldest.
type Rank = (Reverse<i64>, u64);

/// A bounded priority queue with one order per segment.
#[derive(Debug)]
pub(super) struct PrefetchQueue {
    orders: BTreeMap<Rank, PrefetchOrder>,
    ranks: Map<SegmentId, Rank>,
    bytes: u64,
    orders_max: usize,
    bytes_max: u64,
    pushed: u64,
}

impl PrefetchQueue {
    pub(super) fn new(orders_max: usize, bytes_max: u64) -> Self {
        Self { orders: BTreeMap::new(), ranks: Map::default(), bytes: 0, orders_max, bytes_max, pushed: 0 }
    }

    pub(super) fn contains(&self, segment: SegmentId) -> bool {
        !self.ranks.is_empty() && self.ranks.contains_key(&segment)
    }

    /// Queues an order whose segment is not queued yet. Orders that had to give way, perhaps this one itself, go into
    /// `turned_away`.
    pub(super) fn push(&mut self, order: PrefetchOrder, turned_away: &mut Vec<PrefetchOrder>) {
        let rank = (Reverse(value_per_byte(&order)), self.pushed);
        self.pushed += 1;
        self.bytes += order.bytes;
        self.ranks.insert(order.segment, rank);
        self.orders.insert(rank, order);
        while self.orders.len() > self.orders_max || self.bytes > self.bytes_max {
            let Some((_, worst)) = self.orders.pop_last() else { break };
            self.forget(&worst);
            turned_away.push(worst);
        }
    }

    /// The best order, left in the queue.
    pub(super) fn peek(&self) -> Option<&PrefetchOrder> {
        self.orders.first_key_value().map(|(_, order)| order)
    }

    /// The best order.
    pub(super) fn pop(&mut self) -> Option<PrefetchOrder> {
        let (_, order) = self.orders.pop_first()?;
        self.forget(&order);
        Some(order)
    }

    /// Takes one segment's order out.
    pub(super) fn remove(&mut self, segment: SegmentId) -> Option<PrefetchOrder> {
        if self.ranks.is_empty() {
            return None;
        }
        let rank = self.ranks.remove(&segment)?;
        let order = self.orders.remove(&rank)?;
        self.bytes -= order.bytes;
        Some(order)
    }

    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    fn forget(&mut self, order: &PrefetchOrder) {
        self.ranks.remove(&order.segment);
        self.bytes -= order.bytes;
    }
}

/// Value per byte in a form with a total order: nanoseconds per MiB, saturating.
fn value_per_byte(order: &PrefetchOrder) -> i64 {
    let per_byte = order.value_seconds / order.bytes.max(1) as f64;
    (per_byte * NANOS_PER_SECOND * BYTES_PER_MIB) as i64
}

const NANOS_PER_SECOND: f64 = 1e9;
const BYTES_PER_MIB: f64 = 1_048_576.0;
