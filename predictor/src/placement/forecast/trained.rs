//! The trained placement head as one more expert of the learning forecast.

use std::{fmt, sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::{DemandHistory, DemandQuery, ItemRef, Model};

use super::{Forecast, Learned, SavedForecast, learned::Asked};

/// What a model version's placement head expects, weighed online against what can be counted: a head that was trained
/// on other traffic is believed as far as it proves right.
pub struct Trained {
    model: Arc<Model>,
    learned: Learned,
    history: DemandHistory,
    items: Vec<Option<ItemRef>>,
    /// The model's number of each region.
    regions: Vec<usize>,
    horizon: Duration,
    claims: Vec<f32>,
}

impl Trained {
    /// For regions of these names. The model knows some of them, by name.
    pub fn new<S: AsRef<str>>(model: Arc<Model>, regions: &[S]) -> Self {
        let find = |name: &S| model.regions.iter().position(|known| known == name.as_ref()).unwrap_or(usize::MAX);
        Self {
            learned: Learned::new(regions.len()),
            history: DemandHistory::new(model.placement.config().keys_max),
            items: Vec::new(),
            regions: regions.iter().map(find).collect(),
            horizon: Duration::ZERO,
            claims: vec![0.0; regions.len()],
            model,
        }
    }

    /// Sets `claims` to what the head expects by region; nothing for keys that it has no history of.
    fn ask_head(&mut self, now: Timestamp, key: KeyId) {
        self.claims.fill(0.0);
        let Some(Some(item)) = self.items.get(key.0 as usize).copied() else { return };
        let head = &self.model.placement;
        let horizons = &head.config().horizons_seconds;
        let wanted = self.horizon.as_secs_f64();
        let distance = |place: &usize| (f64::from(horizons[*place]).ln() - wanted.max(1.0).ln()).abs();
        let Some(place) = (0..horizons.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))) else { return };
        let scale = (wanted / f64::from(horizons[place])) as f32;
        for (index, (claim, region)) in self.claims.iter_mut().zip(&self.regions).enumerate() {
            let Some(counts) = self.history.counts(now, key, RegionId(index as u16)) else { continue };
            let query = DemandQuery { item, region: *region, at: now, counts };
            *claim = scale * head.expected_requests(&self.model.sequence, &query)[place];
        }
    }
}

impl Trained {
    fn expect_with(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32], asked: Asked) {
        self.ask_head(now, key);
        let claims = std::mem::take(&mut self.claims);
        self.learned.expect_with(now, key, requests, asked, Some(&claims));
        self.claims = claims;
    }
}

impl fmt::Debug for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trained").field("regions", &self.regions).finish_non_exhaustive()
    }
}

impl Forecast for Trained {
    fn learn_key(&mut self, key: KeyId, name: &str) {
        let slot = key.0 as usize;
        if self.items.len() <= slot {
            self.items.resize(slot + 1, None);
        }
        self.items[slot] = Some(self.model.vocabulary.item(name));
    }

    fn forget_key(&mut self, key: KeyId) {
        self.history.forget(key);
        self.items.get_mut(key.0 as usize).into_iter().for_each(|item| *item = None);
        self.learned.forget_key(key);
    }

    fn note_client(&mut self, now: Timestamp, client: u64, key: KeyId) {
        self.learned.note_client(now, client, key);
    }

    fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId) {
        self.history.record(now, key, region);
        self.learned.record(now, key, region);
    }

    fn begin(&mut self, now: Timestamp, horizon: Duration) {
        self.horizon = horizon;
        self.learned.begin(now, horizon);
    }

    /// What the head claims is taken to hold for as long as is looked ahead.
    fn look_ahead(&mut self, horizons: &[usize]) {
        self.learned.look_ahead(horizons);
    }

    /// What the head was told of keys is not saved: it is claimed anew from the requests that come.
    fn save(&self) -> Option<SavedForecast> {
        self.learned.save()
    }

    fn restore(&mut self, saved: SavedForecast) {
        self.learned.restore(saved);
    }

    fn expect(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32], is_planned: bool) {
        self.expect_with(now, key, requests, if is_planned { Asked::Planned } else { Asked::Passing });
    }

    fn expect_soon(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32]) {
        self.expect_with(now, key, requests, Asked::Soon);
    }
}
