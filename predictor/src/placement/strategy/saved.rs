//! What a strategy knows, in a form that outlives the process.

use nearcast_datasets::{KeyId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Active, Placer, Strategy, schedule::Reach};
use crate::placement::{Forecast, Guard, budget::WasteBudget, forecast::SavedForecast, prices::Prices};

/// Everything that a strategy counted and learned: with it, another one plans as this one would have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedStrategy {
    forecast: SavedForecast,
    keys: Vec<(KeyId, Active)>,
    budget: Option<WasteBudget>,
    /// The guard, and what its reactive forecast counted.
    ghost: Option<(Guard, SavedForecast)>,
    prices: Option<Prices>,
    reach: Reach,
}

impl SavedStrategy {
    /// For so many regions.
    pub fn regions(&self) -> usize {
        self.forecast.regions()
    }

    /// The keys that it plans for, with their bytes and when they were last asked for.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, u64, Timestamp)> {
        self.keys.iter().map(|(key, active)| (*key, active.bytes, active.last))
    }

    /// Gives keys other numbers; those without one are left out.
    pub fn renumber(&mut self, new: &dyn Fn(KeyId) -> Option<KeyId>) {
        self.forecast.renumber(new);
        if let Some((_, forecast)) = &mut self.ghost {
            forecast.renumber(new);
        }
        let keys = std::mem::take(&mut self.keys).into_iter();
        self.keys = keys.filter_map(|(key, active)| Some((new(key)?, active))).collect();
    }
}

impl Strategy {
    /// All that it knows; `None` when its forecast is not one that can be saved.
    pub fn save(&self) -> Option<SavedStrategy> {
        let mut keys: Vec<(KeyId, Active)> = self.keys.iter().map(|(key, active)| (*key, *active)).collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        let ghost = self.ghost.as_ref().map(|ghost| Some((ghost.guard, ghost.forecast.save()?)));
        let prices = match &self.placer {
            Placer::Replicas(planner) => Some(planner.prices().clone()),
            Placer::Single(_) => None,
        };
        Some(SavedStrategy {
            forecast: self.forecast.save()?,
            keys,
            budget: self.budget,
            ghost: ghost.flatten(),
            prices,
            reach: self.reach.clone(),
        })
    }

    /// Goes on with what another one knew. What it has heard since it began is forgotten. Prices count from the first
    /// plan on where the nodes are as many.
    pub fn restore(&mut self, saved: SavedStrategy) {
        let SavedStrategy { forecast, keys, budget, ghost, prices, reach } = saved;
        self.forecast.restore(forecast);
        self.keys = keys.into_iter().collect();
        if let (Some(own), Some(saved)) = (&mut self.budget, budget) {
            own.take_over(&saved);
        }
        if let (Some(own), Some((guard, forecast))) = (&mut self.ghost, ghost) {
            own.guard = guard;
            own.forecast.restore(forecast);
        }
        self.restored = prices;
        self.reach = reach;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearcast_datasets::RegionId;

    use super::*;
    use crate::placement::{Cost, NodeSet, Planner, PlannerConfig, Sites, StrategyConfig};

    #[test]
    fn how_far_plans_look_ahead_outlives_the_process() {
        let far = Cost { round_trip: 0.2, per_byte: 1e-3 };
        let sites = Sites::new(1, vec![100_000], |_, _| Cost::default(), |_| far);
        let config =
            StrategyConfig { link_share: Some(0.01), requests_min: 0, waste_share: None, ..StrategyConfig::default() };
        let begin = || {
            let planner = Planner::new(PlannerConfig::default(), sites.clone().unwrap());
            Strategy::reactive(config, planner, Duration::from_secs(3_600))
        };
        let nobody = |_: KeyId| NodeSet::EMPTY;
        let mut strategy = begin();
        let second = |second: i64| Timestamp::from_micros(1_000_000 * second);
        for number in 0..600 {
            let key = KeyId(number as u32 % 50);
            strategy.handle_request(second(number), (key, "/a"), RegionId(0), 1_000, &nobody, &mut Vec::new());
        }
        strategy.handle_timeout(second(900), &nobody, None);
        let looked = |strategy: &Strategy| {
            strategy.reach.horizons(strategy.placer.sites(), &strategy.config, Duration::from_secs(900))
        };
        assert!(looked(&strategy)[0] > 1, "{:?}", looked(&strategy));
        let mut another = begin();
        another.restore(strategy.save().expect("an average can be saved"));
        assert_eq!(looked(&another), looked(&strategy));
    }
}
