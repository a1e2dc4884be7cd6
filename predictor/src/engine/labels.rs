//! Labels: which candidates turned out to be asked for, told late enough to be fair.

use std::{collections::VecDeque, time::Duration};

use nearcast_datasets::{KeyId, Map, Timestamp};
use nearcast_models::GateFeatures;

use super::{NodeIndex, calibrator::Claim};

/// A candidate whose fate is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// Where it would be used.
    pub node: NodeIndex,
    /// What.
    pub key: KeyId,
    /// What the gate knew of it.
    pub features: GateFeatures,
    /// P(used) as it was seen then.
    pub claim: Claim,
    /// Whether it was ordered: what became of it is then told by its outcome.
    pub is_ordered: bool,
    /// When it was proposed.
    pub at: Timestamp,
    /// The node's request count when it was proposed.
    pub at_request: u64,
}

/// What has become of it so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Unused,
    Used,
}

#[derive(Clone, Debug)]
struct Slot {
    watched: Watched,
    fate: Fate,
}

/// Candidates followed until enough requests have passed at their node.
///
/// A use is known at once, but that something will *not* be used only when its time is over. Were uses learnt as they
/// happen, a learner would at first see nothing else and believe everything is used. So every label is told at the same
/// age, counted in requests of its node: the order of telling is the order of proposing.
#[derive(Debug)]
pub(super) struct Labels {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    open: Map<(NodeIndex, KeyId), u32>,
    queues: Vec<VecDeque<u32>>,
    max: usize,
    pub refused: u64,
}

impl Labels {
    pub(super) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), open: Map::default(), queues: Vec::new(), max, refused: 0 }
    }

    /// Follows a candidate; `false` when it is followed already or there is no room.
    pub(super) fn watch(&mut self, watched: Watched) -> bool {
        if self.open.contains_key(&(watched.node, watched.key)) {
            return false;
        }
        if self.len() >= self.max {
            self.refused += 1;
            return false;
        }
        let slot = Some(Slot { watched, fate: Fate::Open });
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.open.insert((watched.node, watched.key), number);
        let node = usize::from(watched.node.0);
        if self.queues.len() <= node {
            self.queues.resize_with(node + 1, VecDeque::new);
        }
        self.queues[node].push_back(number);
        true
    }

    /// A node was asked for a key: a candidate for it was right, and in time if its transfer could have ended by now.
    pub(super) fn handle_asked(&mut self, now: Timestamp, node: NodeIndex, key: KeyId, transfer: Duration) {
        if let Some(slot) = self.close(node, key) {
            slot.fate = if now.since(slot.watched.at) >= transfer { Fate::Used } else { Fate::Unused };
        }
    }

    /// A prefetched key left its node, or never got there, before anyone asked.
    pub(super) fn handle_gone(&mut self, node: NodeIndex, key: KeyId) {
        if let Some(slot) = self.close(node, key) {
            slot.fate = Fate::Unused;
        }
    }

    /// The oldest candidate of a node that was proposed `age` or more of its requests ago, and whether it was used.
    pub(super) fn pop_due(&mut self, node: NodeIndex, requests: u64, age: u64) -> Option<(Watched, bool)> {
        let queue = self.queues.get_mut(usize::from(node.0))?;
        let number = *queue.front()?;
        let slot = self.slots[number as usize].as_ref()?;
        if slot.watched.at_request + age > requests {
            return None;
        }
        queue.pop_front();
        let slot = self.slots[number as usize].take()?;
        self.free.push(number);
        if slot.fate == Fate::Open {
            self.open.remove(&(slot.watched.node, slot.watched.key));
        }
        Some((slot.watched, slot.fate == Fate::Used))
    }

    /// How many candidates are followed.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How much of the room is taken; 0..=1.
    pub(super) fn fill(&self) -> f32 {
        self.len() as f32 / self.max as f32
    }

    fn close(&mut self, node: NodeIndex, key: KeyId) -> Option<&mut Slot> {
        if self.open.is_empty() {
            return None;
        }
        let number = self.open.remove(&(node, key))?;
        self.slots[number as usize].as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(key: u32, at_request: u64) -> Watched {
        Watched {
            node: NodeIndex(0),
            key: KeyId(key),
            features: [0.0; nearcast_models::GATE_FEATURE_COUNT],
            claim: Claim::default(),
            is_ordered: false,
            at: Timestamp::from_micros(0),
            at_request,
        }
    }

    #[test]
    fn tells_uses_and_disuses_at_the_same_age_in_order() {
        let mut labels = Labels::new(8);
        for (key, at_request) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
            assert!(labels.watch(watched(key, at_request)));
        }
        let transfer = Duration::from_millis(5);
        labels.handle_asked(Timestamp::from_micros(4_999), NodeIndex(0), KeyId(1), transfer);
        labels.handle_asked(Timestamp::from_micros(5_000), NodeIndex(0), KeyId(2), transfer);
        labels.handle_gone(NodeIndex(0), KeyId(3));
        labels.handle_asked(Timestamp::from_micros(9_000), NodeIndex(0), KeyId(3), transfer);
        assert!(labels.pop_due(NodeIndex(0), 9, 10).is_none(), "nothing is told before its age");
        let told: Vec<_> = std::iter::from_fn(|| labels.pop_due(NodeIndex(0), 12, 10)).collect();
        let told: Vec<_> = told.iter().map(|(watched, used)| (watched.key.0, *used)).collect();
        assert_eq!(told, [(1, false), (2, true), (3, false)]);
        assert_eq!(labels.len(), 1);
    }

    #[test]
    fn refuses_what_is_followed_already_and_what_exceeds_the_bound() {
        let mut labels = Labels::new(2);
        assert!(labels.watch(watched(1, 0)) && !labels.watch(watched(1, 0)));
        assert!(labels.watch(watched(2, 0)) && !labels.watch(watched(3, 0)));
        assert_eq!(labels.refused, 1);
        labels.handle_gone(NodeIndex(0), KeyId(1));
        assert!(labels.pop_due(NodeIndex(0), 0, 0).is_some() && labels.watch(watched(3, 0)));
    }
}
