//! How often each region will ask for each key.

mod counted;
mod decayed;
mod learned;
mod saved;
mod together;
mod trained;

use std::{fmt::Debug, time::Duration};

use nearcast_datasets::{KeyId, RegionId, Timestamp};

pub use self::{
    counted::{Counted, HALF_LIVES_SECONDS},
    decayed::DecayedAverage,
    learned::Learned,
    saved::SavedForecast,
    trained::Trained,
};

/// Expects requests per key and region; learns from the requests it is told of, which come in the order of time.
pub trait Forecast: Debug {
    /// A key that requests may be told of from now on, by its name; again when its number goes to another key.
    fn learn_key(&mut self, _key: KeyId, _name: &str) {}

    /// A key's number is about to be given to another: what was counted and promised under it is not the other's.
    fn forget_key(&mut self, key: KeyId);

    /// A client, by a hash of who it is, is about to ask for a key.
    fn note_client(&mut self, _now: Timestamp, _client: u64, _key: KeyId) {}

    /// One request.
    fn record(&mut self, now: Timestamp, key: KeyId, region: RegionId);

    /// A plan for the `horizon` from `now` on is about to be made: time to learn from what came since the last one.
    fn begin(&mut self, now: Timestamp, horizon: Duration);

    /// From now until the next [`Self::begin`], [`Self::expect`] says of each region what comes on average over so many
    /// horizons, one after the other. One that does not tell times apart has nothing to do.
    fn look_ahead(&mut self, _horizons: &[usize]) {}

    /// Sets `requests`, by region, to what is expected for `key` within the horizon of the last [`Self::begin`], from
    /// `now` on, or on average within those that [`Self::look_ahead`] named. With `is_planned`, what then comes tells the
    /// forecast how good it was.
    fn expect(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32], is_planned: bool);

    /// The same for the first horizon alone.
    fn expect_soon(&mut self, now: Timestamp, key: KeyId, requests: &mut [f32]) {
        self.expect(now, key, requests, false);
    }

    /// What it has counted and learned; `None` for one that a process need not remember.
    fn save(&self) -> Option<SavedForecast> {
        None
    }

    /// Goes on from what another of its kind had learned.
    fn restore(&mut self, _saved: SavedForecast) {}

    /// Keys, with their bytes, that it expects requests for though nobody has asked for them lately.
    fn foreseen(&self) -> Vec<(KeyId, u64)> {
        Vec::new()
    }
}
