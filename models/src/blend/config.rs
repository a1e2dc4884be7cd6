//! How much the blend remembers, and how it learns.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bounds, forgetting and learning of a [`Blend`](crate::Blend).
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `links_per_key` | 32 | keys joined to a key; the one worth least makes room | 1..=1,024 |
/// | `window` | 5 | distinct keys of a session, newest first, that a request is joined to | 1..=8 |
/// | `contexts_max` | 131,072 | pairs of consecutive keys with followers of their own; old ones make room | ≥ 2 |
/// | `candidates_max` | 64 | candidates of a request that the network looks at | 21..=1,024 |
/// | `hot_keys` | 24 | favourites kept per region, and overall | 0..=256 |
/// | `half_life_seconds` | 2,592,000 (30 days) | time after which a link is worth half | > 0 |
/// | `hot_half_life_seconds` | 1,800 | time after which a request is worth half to a region's favourites | > 0 |
/// | `recent_half_life_seconds` | 3,600 | time after which a request is worth half to a key's recent count | > 0 |
/// | `learning_rate` | 0.05 | step size of the network (Adagrad) | > 0 |
/// | `learn_every` | 32 | of so many requests one teaches the network online | ≥ 1 |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlendConfig {
    /// Keys joined to a key; the one worth least makes room.
    pub links_per_key: usize,
    /// Distinct keys of a session, newest first, that a request is joined to.
    pub window: usize,
    /// Pairs of consecutive keys with followers of their own; old ones make room.
    pub contexts_max: usize,
    /// Candidates of a request that the network looks at.
    pub candidates_max: usize,
    /// Favourites kept per region, and overall.
    pub hot_keys: usize,
    /// Seconds after which a link is worth half.
    pub half_life_seconds: f64,
    /// Seconds after which a request is worth half to a region's favourites.
    pub hot_half_life_seconds: f64,
    /// Seconds after which a request is worth half to a key's recent count.
    pub recent_half_life_seconds: f64,
    /// Step size of the network (Adagrad).
    pub learning_rate: f32,
    /// Of so many requests one teaches the network online.
    pub learn_every: u32,
}

impl Default for BlendConfig {
    fn default() -> Self {
        Self {
            links_per_key: 32,
            window: 5,
            contexts_max: 131_072,
            candidates_max: 64,
            hot_keys: 24,
            half_life_seconds: 2_592_000.0,
            hot_half_life_seconds: 1_800.0,
            recent_half_life_seconds: 3_600.0,
            learning_rate: 0.05,
            learn_every: 32,
        }
    }
}

impl BlendConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let rate = f64::from(self.learning_rate);
        let within = |value: usize, least: usize, most: usize| (least..=most).contains(&value);
        let checks: [(&'static str, bool, f64, &'static str); 10] = [
            ("blend.links_per_key", within(self.links_per_key, 1, 1_024), self.links_per_key as f64, "from 1 to 1024"),
            ("blend.window", within(self.window, 1, WINDOW_MAX), self.window as f64, "from 1 to 8"),
            ("blend.contexts_max", self.contexts_max >= 2, self.contexts_max as f64, "at least 2"),
            (
                "blend.candidates_max",
                within(self.candidates_max, 21, 1_024),
                self.candidates_max as f64,
                "from 21 to 1024",
            ),
            ("blend.hot_keys", within(self.hot_keys, 0, 256), self.hot_keys as f64, "from 0 to 256"),
            ("blend.half_life_seconds", positive(self.half_life_seconds), self.half_life_seconds, "above 0"),
            (
                "blend.hot_half_life_seconds",
                positive(self.hot_half_life_seconds),
                self.hot_half_life_seconds,
                "above 0",
            ),
            (
                "blend.recent_half_life_seconds",
                positive(self.recent_half_life_seconds),
                self.recent_half_life_seconds,
                "above 0",
            ),
            ("blend.learning_rate", positive(rate), rate, "above 0"),
            ("blend.learn_every", self.learn_every > 0, f64::from(self.learn_every), "at least 1"),
        ];
        match checks.into_iter().find(|(_, good, ..)| !good) {
            Some((field, _, value, expected)) => Err(Error::Config { field, value: value.to_string(), expected }),
            None => Ok(()),
        }
    }
}

/// The widest window.
pub(super) const WINDOW_MAX: usize = 8;
