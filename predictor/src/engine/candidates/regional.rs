//! Candidates from demand: a key that was asked for in one region, for the others that lack it.

use crate::engine::demand::{Counts, Demand};
use nearcast_datasets::KeyId;

/// P(a node is asked for a key while it would be kept) if the key's requests come at the pace they came lately, and
/// regions want it as much as they want other keys.
///
/// Of `stay_requests` requests at the node, as large a share should be for this key as of all requests lately.
pub(in crate::engine) fn probability(demand: &Demand, key: KeyId, stay_requests: u64) -> f32 {
    let pace = demand.pace(demand.global(key));
    1.0 - (-pace * stay_requests as f32).exp()
}

/// The share of a key's requests that one region makes; 0..=1.
pub(in crate::engine) fn region_share(regional: Counts, global: Counts) -> f32 {
    if global.long > 0.0 { (regional.long / global.long).min(1.0) } else { 0.0 }
}
