//! What the reactive strategy would have done, for the guard to compare with.

use nearcast_datasets::{KeyId, Map, RegionId, Timestamp};

use crate::placement::{
    DecayedAverage, DemandTable, Forecast, Guard, KeyDemand, Plan, Planner, planner::waiting_seconds,
};

/// The reactive strategy that the guard compares with, as it would have done.
#[derive(Debug)]
pub(super) struct Ghost {
    pub(super) guard: Guard,
    pub(super) forecast: DecayedAverage,
    pub(super) planner: Planner,
    /// The last plans of the forecast and of the reactive one.
    pub(super) plans: (Plan, Plan),
    pub(super) came: Map<KeyId, (u64, Vec<f32>)>,
}

impl Ghost {
    pub(super) fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId, bytes: u64) {
        self.forecast.record(now, key, region);
        let regions = self.planner.sites().regions();
        let (size, came) = self.came.entry(key).or_insert_with(|| (bytes, vec![0.0; regions]));
        *size = bytes;
        if let Some(count) = came.get_mut(usize::from(region.0)) {
            *count += 1.0;
        }
    }

    /// Tells the guard what reads would have waited under both plans.
    pub(super) fn settle(&mut self) {
        let sites = self.planner.sites();
        let mut table = DemandTable::new(sites.regions());
        for (key, (bytes, came)) in self.came.drain() {
            table.push(KeyDemand { key, bytes, ..KeyDemand::default() }, &came);
        }
        let waiting = |plan: &Plan| waiting_seconds(sites, &table, |key| plan.nodes(key));
        self.guard.handle_outcome(waiting(&self.plans.0), waiting(&self.plans.1));
    }
}
