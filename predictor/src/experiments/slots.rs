//! What nodes measured, slot by slot of time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_experiment::{
    Sketch,
    design::{CellHistory, Measured},
};
use serde::{Deserialize, Serialize};

use super::question::{MetricName, NodeHistory};

/// One node in one slot. The field names are a contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slot {
    /// Requests.
    pub requests: u64,
    /// Of those, answered by the node itself.
    pub hits: u64,
    /// Of those, failed.
    pub errors: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// Of those, from the origin.
    pub origin_bytes: u64,
    /// Bytes fetched ahead that left unused.
    pub wasted_bytes: u64,
    /// The sum of all times to the last byte.
    pub wait_seconds: f64,
    /// The longest of them.
    pub wait_seconds_max: f64,
}

impl Slot {
    /// Counts a request.
    pub fn add(&mut self, served: ServedFrom, bytes: u64, latency: Duration) {
        self.requests += 1;
        self.hits += u64::from(served.is_hit());
        self.errors += u64::from(served == ServedFrom::Error);
        self.bytes += bytes;
        self.origin_bytes += if served == ServedFrom::Origin { bytes } else { 0 };
        self.wait_seconds += latency.as_secs_f64();
        self.wait_seconds_max = latency.as_secs_f64().max(self.wait_seconds_max);
    }

    /// Takes in another slot's counts.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.errors += other.errors;
        self.bytes += other.bytes;
        self.origin_bytes += other.origin_bytes;
        self.wasted_bytes += other.wasted_bytes;
        self.wait_seconds += other.wait_seconds;
        self.wait_seconds_max = other.wait_seconds_max.max(self.wait_seconds_max);
    }

    /// A metric's mean; the 99th percentile is not known of a slot, and the maximum stands for it.
    pub(super) fn measured(&self, metric: MetricName) -> Measured {
        let requests = self.requests as f64;
        let per = |sum: f64, of: f64| if of > 0.0 { sum / of } else { 0.0 };
        let mean = match metric {
            MetricName::ErrorRatio => per(self.errors as f64, requests),
            MetricName::HitRatio => per(self.hits as f64, requests),
            MetricName::OriginRatio => per(self.origin_bytes as f64, self.bytes as f64),
            MetricName::P99Ms => self.wait_seconds_max * 1e3,
            MetricName::WaitMs => per(self.wait_seconds * 1e3, requests),
            MetricName::WastedRatio => per(self.wasted_bytes as f64, self.bytes as f64),
        };
        Measured { requests, mean }
    }
}

/// A block of a running experiment at one node, from its burn-in on.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockTally {
    pub(super) slot: Slot,
    pub(super) waits: Sketch,
}

impl BlockTally {
    pub(super) fn add(&mut self, served: ServedFrom, bytes: u64, latency: Duration) {
        self.slot.add(served, bytes, latency);
        self.waits.add(latency.as_secs_f64());
    }

    pub(super) fn measured(&self, metric: MetricName) -> Measured {
        let measured = self.slot.measured(metric);
        if metric != MetricName::P99Ms {
            return measured;
        }
        let p99 = self.waits.quantile(0.99).ok().flatten();
        p99.map_or(measured, |seconds| Measured { mean: seconds * 1e3, ..measured })
    }
}

/// The last slots of every node, bounded.
#[derive(Debug)]
pub(crate) struct Slots {
    length: Duration,
    nodes: BTreeMap<Arc<str>, VecDeque<Slot>>,
    /// The number of every node's newest slot.
    newest: Option<i64>,
}

impl Slots {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, nodes: BTreeMap::new(), newest: None }
    }

    /// The number of the newest slot: how many of its length there were since the epoch.
    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// What all nodes measured in the slots of these numbers, without what is empty.
    pub(super) fn between(&self, first: i64, end: i64) -> impl Iterator<Item = (i64, BTreeMap<Arc<str>, Slot>)> {
        let newest = self.newest.unwrap_or(i64::MIN);
        let kept = self.nodes.values().map(VecDeque::len).max().unwrap_or(0) as i64;
        let first = first.max(newest.saturating_sub(kept) + 1);
        let of = move |number: i64| {
            let back = usize::try_from(newest - number).ok()?;
            let measured = self.nodes.iter().filter_map(|(node, slots)| {
                let slot = slots.len().checked_sub(1 + back).and_then(|place| slots.get(place))?;
                (*slot != Slot::default()).then(|| (Arc::clone(node), *slot))
            });
            let nodes: BTreeMap<Arc<str>, Slot> = measured.collect();
            (!nodes.is_empty()).then_some((number, nodes))
        };
        (first..end.min(newest.saturating_add(1))).filter_map(of)
    }

    /// Takes in what a node measured in the slot of a number.
    pub(super) fn take_in(&mut self, number: i64, node: &Arc<str>, measured: &Slot) {
        if let Some(slot) = self.numbered(node, number) {
            slot.merge(measured);
        }
    }

    /// The slot of a node at a moment, if it is not older than all that is kept.
    pub(super) fn at(&mut self, node: &Arc<str>, moment: Timestamp) -> Option<&mut Slot> {
        let number = moment.micros().div_euclid(i64::try_from(self.length.as_micros()).ok()?.max(1));
        self.numbered(node, number)
    }

    fn numbered(&mut self, node: &Arc<str>, number: i64) -> Option<&mut Slot> {
        let newest = *self.newest.get_or_insert(number);
        let ahead = number - newest;
        if ahead > SLOTS_MAX as i64 {
            // A pause longer than all that is kept.
            self.nodes.clear();
            self.newest = Some(number);
        } else if ahead > 0 {
            for slots in self.nodes.values_mut() {
                slots.extend(std::iter::repeat_n(Slot::default(), usize::try_from(ahead).ok()?));
                let over = slots.len().saturating_sub(SLOTS_MAX);
                slots.drain(..over);
            }
            self.newest = Some(number);
        }
        if !self.nodes.contains_key(node) {
            self.nodes.insert(Arc::clone(node), VecDeque::from([Slot::default()]));
        }
        let slots = self.nodes.get_mut(node)?;
        let back = usize::try_from(self.newest? - number).ok()?;
        let place = slots.len().checked_sub(1 + back)?;
        slots.get_mut(place)
    }

    /// What a node measured, but for the slot that has not ended.
    pub(super) fn history(&self, node: &str) -> Option<NodeHistory> {
        let (name, slots) = self.nodes.get_key_value(node)?;
        let count = slots.len() - 1;
        let length = i64::try_from(self.length.as_micros()).ok()?;
        let first = self.newest? - i64::try_from(count).ok()?;
        Some(NodeHistory {
            node: Arc::clone(name),
            first_micros: first * length,
            slot_seconds: self.length.as_secs_f64(),
            slots: slots.iter().take(count).copied().collect(),
        })
    }
}

/// Cuts histories into blocks that all of them cover, leaving out what a burn-in would; one list of cells per metric.
pub(super) fn cut(
    histories: &[NodeHistory],
    block: Duration,
    burn_in: Duration,
) -> BTreeMap<MetricName, Vec<CellHistory>> {
    let block_micros = i64::try_from(block.as_micros()).unwrap_or(i64::MAX).max(1);
    let slot_micros = |history: &NodeHistory| ((history.slot_seconds * 1e6) as i64).max(1);
    let first = histories.iter().map(|history| history.first_micros.div_euclid(block_micros) + 1).max();
    let end = |history: &NodeHistory| history.first_micros + slot_micros(history) * history.slots.len() as i64;
    let last = histories.iter().map(|history| end(history).div_euclid(block_micros)).min();
    let (Some(first), Some(last)) = (first, last) else { return BTreeMap::new() };
    let count = usize::try_from(last - first).unwrap_or_default().min(HISTORY_BLOCKS_MAX);
    let first = last - count as i64;
    let burn_micros = i64::try_from(burn_in.as_micros()).unwrap_or(i64::MAX);
    let blocks = |history: &NodeHistory| {
        let mut blocks = vec![Slot::default(); count];
        for (slot, number) in history.slots.iter().zip(0_i64..) {
            let at = history.first_micros + number * slot_micros(history);
            let place = at.div_euclid(block_micros) - first;
            // By its middle: a slot may be as long as a block.
            let is_past = at.rem_euclid(block_micros) + slot_micros(history) / 2 >= burn_micros;
            if let Some(block) = usize::try_from(place).ok().and_then(|place| blocks.get_mut(place)).filter(|_| is_past)
            {
                block.merge(slot);
            }
        }
        blocks
    };
    let cells: Vec<(String, Vec<Slot>)> =
        histories.iter().map(|history| (history.node.as_ref().to_owned(), blocks(history))).collect();
    let of = |metric: MetricName| {
        let cell = |(name, blocks): &(String, Vec<Slot>)| CellHistory {
            name: name.clone(),
            blocks: blocks.iter().map(|block| block.measured(metric)).collect(),
        };
        (metric, cells.iter().map(cell).collect())
    };
    MetricName::ALL.into_iter().map(of).collect()
}

/// Slots kept of each node.
pub(super) const SLOTS_MAX: usize = 60_480;
/// Blocks of history that a plan is made from.
const HISTORY_BLOCKS_MAX: usize = 2_016;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn slots_follow_each_other_without_a_gap_and_are_cut_into_common_blocks() {
        let mut slots = Slots::new(Duration::from_secs(10));
        let (eu, us): (Arc<str>, Arc<str>) = ("eu".into(), "us".into());
        for second in 0..200 {
            let node = if second >= 25 && second % 2 == 0 { &us } else { &eu };
            let served = if second % 4 < 2 { ServedFrom::Memory } else { ServedFrom::Origin };
            slots.at(node, at(second)).unwrap().add(served, 10, Duration::from_millis(second as u64));
        }
        assert!(slots.at(&us, at(3)).is_none(), "older than what is kept of it");
        let histories = ["eu", "us"].map(|node| slots.history(node).unwrap());
        assert_eq!((histories[0].slots.len(), histories[0].first_micros), (19, 0));
        assert_eq!((histories[1].slots.len(), histories[1].first_micros), (17, 20_000_000));
        let metrics = cut(&histories, Duration::from_secs(40), Duration::from_secs(20));
        let hits = &metrics[&MetricName::HitRatio];
        let requests: Vec<f64> = hits[1].blocks.iter().map(|block| block.requests).collect();
        assert_eq!((hits[0].blocks.len(), requests), (3, vec![10.0; 3]), "40..160 less the first half of each block");
        assert!((hits[1].blocks[0].mean - 0.5).abs() < 1e-9);
        assert!((metrics[&MetricName::P99Ms][0].blocks[0].mean - 79.0).abs() < 1e-9);
    }
}
