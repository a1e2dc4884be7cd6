//! What is still to happen, in the order of the virtual clock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use nearcast_datasets::{SegmentId, Timestamp};

/// A transfer that will end at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Landing {
    pub(super) node: usize,
    pub(super) segment: SegmentId,
    pub(super) bytes: u64,
    pub(super) is_prefetch: bool,
    pub(super) is_from_peer: bool,
}

/// Transfers by their end; those that end together in the order in which they started.
#[derive(Debug, Default)]
pub(super) struct Landings {
    heap: BinaryHeap<Reverse<(Timestamp, u64, Landing)>>,
    started: u64,
}

impl Landings {
    pub(super) fn push(&mut self, at: Timestamp, landing: Landing) {
        self.heap.push(Reverse((at, self.started, landing)));
        self.started += 1;
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<Landing> {
        self.heap.pop().map(|Reverse((.., landing))| landing)
    }
}

/// A line on which everything takes the same time and so arrives in the order in which it was sent.
#[derive(Debug)]
pub(super) struct Line<T> {
    delay: Duration,
    underway: VecDeque<(Timestamp, T)>,
}

impl<T> Line<T> {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, underway: VecDeque::new() }
    }

    pub(super) fn send(&mut self, now: Timestamp, message: T) {
        self.underway.push_back((now.after(self.delay), message));
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.underway.front().map(|(at, _)| *at)
    }

    pub(super) fn receive(&mut self) -> Option<T> {
        self.underway.pop_front().map(|(_, message)| message)
    }
}
