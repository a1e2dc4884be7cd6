//! The requests around an instant, step by step: a day behind it, and the horizons ahead of it.

use std::collections::VecDeque;

use nearcast_datasets::{KeyId, Map, RegionId};

use super::{DemandGrid, PerHorizon};
use crate::features::Request;

/// A key in a region.
pub(super) type Cell = (KeyId, RegionId);

/// The requests of one step.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// In the order of time.
    pub(super) requests: Vec<Request>,
    counts: Map<Cell, u32>,
}

impl Step {
    pub(super) fn push(&mut self, request: Request) {
        *self.counts.entry((request.key, request.region)).or_default() += 1;
        self.requests.push(request);
    }
}

/// Steps before and after the instant that is asked about.
#[derive(Debug, Default)]
pub(super) struct Windows {
    behind: VecDeque<Map<Cell, u32>>,
    ahead: VecDeque<Step>,
}

impl Windows {
    /// Adds a whole step at the far end.
    pub(super) fn push(&mut self, step: Step) {
        self.ahead.push_back(step);
    }

    /// Steps ahead of the instant.
    pub(super) fn steps_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Moves the instant on by one step and returns that step's requests.
    pub(super) fn advance(&mut self, grid: &DemandGrid) -> Vec<Request> {
        let Step { requests, counts } = self.ahead.pop_front().unwrap_or_default();
        self.behind.push_back(counts);
        if self.behind.len() > grid.steps_a_day() {
            self.behind.pop_front();
        }
        requests
    }

    /// Every cell that is asked for ahead and that `known` holds for, with its requests per horizon, in order.
    pub(super) fn answers(&self, grid: &DemandGrid, known: impl Fn(KeyId) -> bool) -> Vec<(Cell, PerHorizon)> {
        let mut found: Map<Cell, PerHorizon> = Map::default();
        for (step, counts) in self.ahead.iter().map(|step| &step.counts).enumerate() {
            for (cell, count) in counts.iter().filter(|((key, _), _)| known(*key)) {
                let sums = found.entry(*cell).or_default();
                for (sum, horizon) in sums.iter_mut().zip(&grid.horizons) {
                    if step < horizon.steps {
                        *sum += *count as f32 * horizon.share;
                    }
                }
            }
        }
        let mut answers: Vec<_> = found.into_iter().collect();
        answers.sort_unstable_by_key(|(cell, _)| *cell);
        answers
    }

    /// Whether `cell` is asked for in any step ahead.
    pub(super) fn is_asked(&self, cell: Cell) -> bool {
        self.ahead.iter().any(|step| step.counts.contains_key(&cell))
    }

    /// Requests for `cell` in windows as long as the horizons, just before the instant and a day before them.
    pub(super) fn look_back(&self, grid: &DemandGrid, cell: Cell) -> (PerHorizon, PerHorizon) {
        let count = |step: usize| {
            let counts = self.behind.get(step);
            counts.and_then(|counts| counts.get(&cell)).copied().unwrap_or_default() as f32
        };
        let (len, day) = (self.behind.len(), grid.steps_a_day());
        let (mut last, mut day_ago) = (PerHorizon::default(), PerHorizon::default());
        for (horizon, (last, day_ago)) in grid.horizons.iter().zip(last.iter_mut().zip(&mut day_ago)) {
            let steps = horizon.steps.min(day);
            *last = horizon.share * (len.saturating_sub(steps)..len).map(count).sum::<f32>();
            if len >= day {
                *day_ago = horizon.share * (len - day..len - day + steps).map(count).sum::<f32>();
            }
        }
        (last, day_ago)
    }
}
