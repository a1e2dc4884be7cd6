//! The account: every number needed to explain what the engine did and why.

use serde::{Deserialize, Serialize};

/// What the engine did so far. Counters start at zero when the engine is made or its arm is reset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Requests observed.
    pub requests: u64,
    /// Of those, answered by the node itself.
    pub hits: u64,
    /// Bytes fetched on demand.
    pub demand_bytes: u64,
    /// Candidates proposed by all sources, merged.
    pub candidates: u64,
    /// Orders issued.
    pub issued: u64,
    /// Bytes asked for by issued orders.
    pub issued_bytes: u64,
    /// Orders used.
    pub used: u64,
    /// Orders that demand overtook.
    pub late: u64,
    /// Orders that ended unused.
    pub unused: u64,
    /// Orders that were not carried out.
    pub refused: u64,
    /// Bytes fetched by orders that ended unused.
    pub wasted_bytes: u64,
    /// Value expected at issue of the orders that have ended, in seconds.
    pub expected_value_seconds: f64,
    /// Value that those orders turned out to have, in seconds.
    pub realised_value_seconds: f64,
}
