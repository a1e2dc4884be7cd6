//! What a forecast has learned, in a form that outlives the process.

use nearcast_datasets::{KeyId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    counted::{Counts, DAYPARTS, Decayed, Volume},
    learned::Class,
};

/// Everything that a forecast counted and learned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedForecast {
    pub(super) counted: SavedCounts,
    pub(super) classes: Vec<Class>,
    pub(super) together: Vec<SavedNeighbours>,
}

/// What was counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedCounts {
    pub(super) first_at: Option<Timestamp>,
    pub(super) keys: Vec<(KeyId, SavedKey)>,
    pub(super) all: Decayed,
    pub(super) of_region: Vec<Decayed>,
    pub(super) of_daypart: [f32; DAYPARTS],
    pub(super) volumes: Vec<Volume>,
}

/// One key's counts; regions that never asked for it are left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedKey {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) all: Counts,
    pub(super) dayparts: [f32; DAYPARTS],
    pub(super) regions: Vec<(u16, Counts)>,
}

/// One key and those that follow it and that it follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedNeighbours {
    pub(super) key: KeyId,
    pub(super) asked: f32,
    pub(super) after: Vec<(KeyId, f32)>,
    pub(super) before: Vec<KeyId>,
}

impl SavedForecast {
    /// For so many regions.
    pub(crate) fn regions(&self) -> usize {
        self.counted.of_region.len()
    }

    /// Gives keys other numbers; those without one are left out.
    pub(crate) fn renumber(&mut self, new: &dyn Fn(KeyId) -> Option<KeyId>) {
        let keys = std::mem::take(&mut self.counted.keys).into_iter();
        self.counted.keys = keys.filter_map(|(key, saved)| Some((new(key)?, saved))).collect();
        self.together = std::mem::take(&mut self.together)
            .into_iter()
            .filter_map(|SavedNeighbours { key, asked, after, before }| {
                Some(SavedNeighbours {
                    key: new(key)?,
                    asked,
                    after: after.into_iter().filter_map(|(key, times)| Some((new(key)?, times))).collect(),
                    before: before.into_iter().filter_map(new).collect(),
                })
            })
            .collect();
    }
}
