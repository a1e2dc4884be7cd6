//! Demand: questions and answers for the placement head, and the baselines it must beat.
//!
//! The population is every cell (key, region, instant): instants lie one step apart, keys are all that were asked for
//! anywhere before the instant, regions are all of the log. What was counted before the instant is the question, how
//! often the key was then requested in the region within each horizon is the answer. Nearly all cells are silent, so
//! they are sampled, with the inverse of their probability as weight: weighted sums over the samples estimate the sums
//! over the whole population without bias (Hansen and Hurwitz, 1943).

mod baseline;
mod recent;
mod sampler;
#[cfg(test)]
mod tests;
mod windows;

use std::time::Duration;

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::{HORIZONS_MAX, RecentCounts};

pub use self::baseline::BaselineFit;
pub(crate) use self::{
    baseline::{DAY_AGO, DECAYED_AVERAGE, LAST_WINDOW, deviance, fit_baselines},
    sampler::DemandSampler,
};

/// One number per horizon, shortest first; entries beyond the configured horizons are zero.
pub(crate) type PerHorizon = [f32; HORIZONS_MAX];

/// One question with its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DemandSample {
    /// The key.
    pub(crate) key: KeyId,
    /// The region, as the log numbers it.
    pub(crate) region: RegionId,
    /// When the horizons begin.
    pub(crate) at: Timestamp,
    /// What was counted before.
    pub(crate) counts: RecentCounts,
    /// Requests in a window before `at` that is as long as the horizon.
    pub(crate) last_window: PerHorizon,
    /// Requests in the horizon's window a day before.
    pub(crate) day_ago: PerHorizon,
    /// Requests in the horizon.
    pub(crate) requests: PerHorizon,
    /// How many cells this one stands for.
    pub(crate) weight: f32,
    /// Whether the key was first asked for after [`DemandPlan::newborn_from`].
    pub(crate) newborn: bool,
}

/// What is sampled.
#[derive(Clone, Debug)]
pub(crate) struct DemandPlan {
    /// The first instant to ask at; earlier requests only fill the counts.
    pub(crate) asked_from: Timestamp,
    /// No horizon reaches beyond this.
    pub(crate) end: Timestamp,
    /// Horizons, and how they fit the log's precision.
    pub(crate) grid: DemandGrid,
    /// Regions numbered from zero.
    pub(crate) regions: usize,
    /// About how many samples to draw.
    pub(crate) samples_max: usize,
    /// Requests between `asked_from` and `end`.
    pub(crate) requests: u64,
    /// Keys asked for first from here on are newborn.
    pub(crate) newborn_from: Timestamp,
    /// Most keys whose history is held.
    pub(crate) keys_max: usize,
    /// Seed of the draw.
    pub(crate) seed: u64,
}

/// The instants that demand is asked at, and how many steps each horizon lasts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DemandGrid {
    /// From one instant to the next.
    pub(crate) step: Duration,
    /// Per horizon.
    pub(crate) horizons: Vec<GridHorizon>,
}

/// A horizon on the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GridHorizon {
    /// How far it reaches.
    pub(crate) horizon: Duration,
    /// Steps that cover it.
    pub(crate) steps: usize,
    /// Its share of those steps: 1 unless the log's precision is coarser than the horizon. Then the requests of the
    /// steps are taken to be spread evenly, which is good enough to fit on but not to measure with.
    pub(crate) share: f32,
}

impl DemandGrid {
    /// A grid for `horizons`, shortest first, on a log whose timestamps are multiples of `resolution` (zero for none).
    pub(crate) fn new(horizons: &[Duration], resolution: Duration) -> Self {
        let shortest = horizons.first().copied().unwrap_or(Duration::from_secs(60));
        let step = shortest.max(resolution);
        let on_grid = |horizon: &Duration| {
            let steps = horizon.as_micros().div_ceil(step.as_micros()).max(1);
            let share = horizon.as_secs_f64() / (step.as_secs_f64() * steps as f64);
            GridHorizon { horizon: *horizon, steps: usize::try_from(steps).unwrap_or(usize::MAX), share: share as f32 }
        };
        Self { step, horizons: horizons.iter().map(on_grid).collect() }
    }

    /// Steps that cover the longest horizon.
    pub(crate) fn steps_ahead(&self) -> usize {
        self.horizons.iter().map(|horizon| horizon.steps).max().unwrap_or(1)
    }

    /// Steps that make a day.
    fn steps_a_day(&self) -> usize {
        (DAY.as_secs_f64() / self.step.as_secs_f64()).round().max(1.0) as usize
    }

    /// The last instant of the grid that is not after `at`.
    pub(crate) fn align(&self, at: Timestamp) -> Timestamp {
        let step = i64::try_from(self.step.as_micros()).unwrap_or(i64::MAX).max(1);
        Timestamp::from_micros(at.micros() - at.micros().rem_euclid(step))
    }
}

impl GridHorizon {
    /// Whether the log is precise enough for this horizon to be measured.
    pub(crate) fn measurable(&self) -> bool {
        (self.share - 1.0).abs() < 1e-6
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
