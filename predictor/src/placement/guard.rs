//! Falls back on the reactive forecast while that one would have earned more.
//!
//! A ghost account: at each plan, what reads would have waited since the last one is worked out for the plan that was
//! carried out or proposed and for the one that the reactive forecast would have made, from the requests that came. Both
//! sums fade by the same factor, and the better one decides the next plan. Following the leader of two experts with
//! forgetting costs at most a few plans' losses each time the better one changes.

use serde::{Deserialize, Serialize};

/// Which of two plans to carry out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardChoice {
    /// The forecast's own.
    #[default]
    Forecast,
    /// The reactive one.
    Reactive,
}

/// The ghost account of two plans.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Guard {
    forecast_seconds: f64,
    reactive_seconds: f64,
    choice: GuardChoice,
    fallbacks: u64,
}

impl Guard {
    /// Since the last plan, reads would have waited so many seconds under each of its two versions.
    pub fn handle_outcome(&mut self, forecast_seconds: f64, reactive_seconds: f64) {
        self.forecast_seconds = MEMORY * self.forecast_seconds + forecast_seconds;
        self.reactive_seconds = MEMORY * self.reactive_seconds + reactive_seconds;
        let was = self.choice;
        self.choice = match was {
            GuardChoice::Forecast if self.forecast_seconds > TOLERANCE * self.reactive_seconds => GuardChoice::Reactive,
            GuardChoice::Reactive if self.forecast_seconds < self.reactive_seconds => GuardChoice::Forecast,
            same => same,
        };
        self.fallbacks += u64::from(was != self.choice && self.choice == GuardChoice::Reactive);
    }

    /// Which plan to carry out.
    pub fn choice(&self) -> GuardChoice {
        self.choice
    }

    /// How often the reactive plan took over.
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks
    }
}

/// What an account still weighs at the next plan.
const MEMORY: f64 = 0.8;
/// The forecast may be so much worse before the reactive plan takes over.
const TOLERANCE: f64 = 1.02;
