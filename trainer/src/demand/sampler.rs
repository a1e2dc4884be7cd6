//! Walks over a log and draws cells of the demand table, with what was known before and what came.

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::DemandHistory;
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    DemandPlan, DemandSample, PerHorizon,
    recent::{RecentRequests, draw_region},
    windows::{Cell, Step, Windows},
};
use crate::features::Request;

/// Takes a log's requests in the order of time and keeps a bounded sample of its cells.
///
/// Half of the samples are cells that are asked for within the longest horizon, each kept with a probability that grows
/// with its requests. The others are drawn without looking at the answer, half of them from the requests that came
/// last, because cells that are likely to be asked for tell most, and half from all cells alike; those that turn out
/// to be asked for are dropped, as the first half stands for them.
#[derive(Debug)]
pub(crate) struct DemandSampler {
    plan: DemandPlan,
    rng: ChaCha8Rng,
    /// Where the step that is being filled begins.
    step_at: Option<Timestamp>,
    filling: Step,
    windows: Windows,
    history: DemandHistory,
    recent: RecentRequests,
    known: Vec<KeyId>,
    is_known: Vec<bool>,
    samples: Vec<DemandSample>,
}

impl DemandSampler {
    /// A sampler that has seen nothing.
    pub(crate) fn new(plan: DemandPlan) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(plan.seed),
            history: DemandHistory::new(plan.keys_max),
            plan,
            step_at: None,
            filling: Step::default(),
            windows: Windows::default(),
            recent: RecentRequests::default(),
            known: Vec::new(),
            is_known: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Takes the next request; requests come in the order of time.
    pub(crate) fn push(&mut self, request: Request) {
        let grid = &self.plan.grid;
        let mut step_at = *self.step_at.get_or_insert_with(|| grid.align(request.at));
        let step = grid.step;
        while request.at >= step_at.after(step) {
            self.close_step(step_at);
            step_at = step_at.after(step);
        }
        self.step_at = Some(step_at);
        self.filling.push(request);
    }

    /// The samples in the order of time.
    pub(crate) fn finish(mut self) -> Vec<DemandSample> {
        let Some(mut step_at) = self.step_at else { return Vec::new() };
        // Silence up to the end is an answer, too.
        while step_at.after(self.plan.grid.step) <= self.plan.end {
            self.close_step(step_at);
            step_at = step_at.after(self.plan.grid.step);
        }
        let (drawn, kept) = (self.samples.len(), self.plan.samples_max);
        if drawn > kept {
            self.samples.shuffle(&mut self.rng);
            self.samples.truncate(kept);
            let factor = drawn as f32 / kept as f32;
            self.samples.iter_mut().for_each(|sample| sample.weight *= factor);
        }
        self.samples.sort_by_key(|sample| (sample.at, sample.key, sample.region));
        self.samples
    }

    /// The step that begins at `step_at` is complete: asks at the instant that now has all its horizons ahead.
    fn close_step(&mut self, step_at: Timestamp) {
        self.windows.push(std::mem::take(&mut self.filling));
        let ahead = self.plan.grid.steps_ahead();
        if self.windows.steps_ahead() < ahead {
            return;
        }
        let (step, before) = (self.plan.grid.step, u32::try_from(ahead - 1).unwrap_or(u32::MAX));
        let at = step_at.before(step * before);
        if at >= self.plan.asked_from && step_at.after(step) <= self.plan.end {
            self.ask(at);
        }
        for request in self.windows.advance(&self.plan.grid) {
            if self.history.record(request.at, request.key, request.region) {
                self.meet(request.key);
            }
            self.recent.push(request.key, request.region);
        }
    }

    fn meet(&mut self, key: KeyId) {
        let code = key.0 as usize;
        if self.is_known.len() <= code {
            self.is_known.resize(code + 1, false);
        }
        if !std::mem::replace(&mut self.is_known[code], true) {
            self.known.push(key);
        }
    }

    fn ask(&mut self, at: Timestamp) {
        let answers = self.windows.answers(&self.plan.grid, |key| self.history.first_request(key).is_some());
        let longest = self.plan.grid.horizons.len().saturating_sub(1);
        let per_answer = self.plan.samples_max as f64 / self.answers_expected();
        let mut asked = 0.0;
        for (cell, requests) in answers {
            asked += f64::from(requests[longest]);
            let probability = (0.5 * per_answer * f64::from(requests[longest])).min(1.0);
            if self.rng.random_bool(probability) {
                self.keep(at, cell, requests, 1.0 / probability);
            }
        }
        // Half of the silent samples where the requests are, half spread over time.
        let expected = 0.25 * (per_answer * asked + self.plan.samples_max as f64 / self.instants());
        let draws = (expected + self.rng.random::<f64>()).floor() as u64;
        for _ in 0..draws {
            self.draw_silent(at, expected);
        }
    }

    /// One draw from the mixture; `expected` draws are made at this instant on average.
    fn draw_silent(&mut self, at: Timestamp, expected: f64) {
        let regions = self.plan.regions;
        let drawn = match self.rng.random_bool(0.5) {
            true => self.recent.draw(regions, &mut self.rng),
            false if self.known.is_empty() => None,
            false => {
                let key = self.known[self.rng.random_range(0..self.known.len())];
                Some((key, draw_region(regions, &mut self.rng)))
            }
        };
        let Some(cell) = drawn.filter(|cell| !self.windows.is_asked(*cell)) else { return };
        let anywhere = 1.0 / (self.known.len() * regions.max(1)) as f64;
        let probability = 0.5 * self.recent.probability(cell.0, cell.1, regions) + 0.5 * anywhere;
        self.keep(at, cell, PerHorizon::default(), 1.0 / (expected * probability));
    }

    fn keep(&mut self, at: Timestamp, cell: Cell, requests: PerHorizon, weight: f64) {
        let (key, region): (KeyId, RegionId) = cell;
        let Some(counts) = self.history.counts(at, key, region) else { return };
        let (last_window, day_ago) = self.windows.look_back(&self.plan.grid, cell);
        let newborn = self.history.first_request(key).is_some_and(|first| first >= self.plan.newborn_from);
        self.samples.push(DemandSample {
            key,
            region,
            at,
            counts,
            last_window,
            day_ago,
            requests,
            weight: weight as f32,
            newborn,
        });
    }

    /// Requests in the longest horizons of all instants: every request is an answer at several instants.
    fn answers_expected(&self) -> f64 {
        let horizon = self.plan.grid.horizons.last();
        let steps = horizon.map_or(1.0, |horizon| horizon.steps as f64 * f64::from(horizon.share));
        (self.plan.requests as f64 * steps).max(1.0)
    }

    fn instants(&self) -> f64 {
        (self.plan.end.since(self.plan.asked_from).as_secs_f64() / self.plan.grid.step.as_secs_f64()).max(1.0)
    }
}
