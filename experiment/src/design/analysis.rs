//! From measured blocks to an interval.

use super::{CellHistory, Forecast, Measured, Plan};
use crate::{
    Interval, Result,
    sequence::{DesignSequence, Residual, Unit},
};

/// One metric of a running switchback.
#[derive(Clone, Debug)]
pub struct Analysis {
    forecasts: Vec<Forecast>,
    sequence: DesignSequence,
    block: usize,
}

impl Analysis {
    /// An analysis of `plan`, with the same histories of one metric that the plan's first block follows.
    ///
    /// # Errors
    /// When the histories do not vary at all, so that there is no variance to plan for.
    pub fn new(plan: &Plan, cells: &[CellHistory]) -> Result<Self> {
        let sequence = DesignSequence::new(plan.variance_planned, plan.alpha)?;
        let forecasts = cells.iter().map(|cell| Forecast::of(&cell.blocks, plan.season_blocks)).collect();
        Ok(Self { forecasts, sequence, block: 0 })
    }

    /// Takes in the next block: what each cell measured after the burn-in, in the plan's order; none for a cell without
    /// a log. A pair counts when both of its cells were measured.
    pub fn handle_block(&mut self, plan: &Plan, measured: &[Option<Measured>]) {
        let at = |cell: usize| measured.get(cell).copied().flatten().filter(|found| found.requests > 0.0);
        let residual = |cell: usize, found: Measured| Residual {
            requests: found.requests,
            residual: found.mean - self.forecasts[cell].predict(),
        };
        let mut units = Vec::with_capacity(plan.schedule.pairs());
        for pair in 0..plan.schedule.pairs() {
            let Some((treated, control)) = plan.schedule.treated_first(pair, self.block) else { continue };
            if let (Some(of_treated), Some(of_control)) = (at(treated), at(control)) {
                units.push(Unit::of_pair(residual(treated, of_treated), residual(control, of_control)));
            }
        }
        self.sequence.handle_block(&units);
        let effect = self.sequence.expected();
        for (cell, forecast) in self.forecasts.iter_mut().enumerate() {
            let is_treated = plan.schedule.arm(cell, self.block) == Some(super::Arm::Treated);
            match at(cell) {
                Some(found) => forecast.handle(found.mean - if is_treated { effect } else { 0.0 }),
                None => forecast.skip(),
            }
        }
        self.block += 1;
    }

    /// The effect, treated less control, with an interval that holds at every block's end.
    pub fn interval(&self) -> Interval {
        self.sequence.interval()
    }

    /// Units that the interval rests on: pairs times blocks.
    pub fn units(&self) -> u64 {
        self.sequence.units()
    }
}
