//! Co-access tables as an artifact carries them, from the pairs that SQL counted.

use std::{cmp::Reverse, time::Duration};

use nearcast_datasets::{Interner, KeyId, Map};
use nearcast_models::{CoAccessConfig, CoAccessRow, TrainedCoAccess};

use crate::{
    Result,
    features::{Features, Pair, PairLimits, PairScope, TimeRange},
};

/// The co-access of `range` in both scopes, decayed to its end and within the configured bounds.
pub(crate) fn fit_coaccess(features: &Features, range: TimeRange, config: &CoAccessConfig) -> Result<TrainedCoAccess> {
    let half_life = Duration::from_secs_f64(config.half_life_seconds);
    let limits = PairLimits { successors_max: config.successors_per_key, half_life };
    let mut occurrences = features.occurrences(range, half_life)?;
    // The keys seen most keep their place; a stable sort leaves ties in the order of the log.
    occurrences.sort_by(|a, b| b.1.total_cmp(&a.1));
    occurrences.truncate(config.keys_max);
    let mut keys = Interner::default();
    let occurrences: Vec<(KeyId, KeyId, f64)> =
        occurrences.into_iter().map(|(key, count)| (key, KeyId(keys.insert(features.log.key(key))), count)).collect();
    let mut rows = |scope| -> Result<Vec<CoAccessRow>> {
        let pairs = features.pairs(scope, range, limits)?;
        Ok(to_rows(&pairs, &occurrences, |key| KeyId(keys.insert(features.log.key(key)))))
    };
    let client = rows(PairScope::Client)?;
    let region = rows(PairScope::Region)?;
    Ok(TrainedCoAccess { keys, at: range.end, client, region })
}

/// One row per key that has successors, most requested key first.
fn to_rows(
    pairs: &[Pair],
    occurrences: &[(KeyId, KeyId, f64)],
    mut number: impl FnMut(KeyId) -> KeyId,
) -> Vec<CoAccessRow> {
    let by_source: Map<KeyId, &[Pair]> =
        pairs.chunk_by(|a, b| a.from == b.from).filter_map(|run| Some((run.first()?.from, run))).collect();
    let mut rows = Vec::with_capacity(by_source.len());
    for (code, key, count) in occurrences {
        let Some(pairs) = by_source.get(code) else { continue };
        let mut successors: Vec<_> = pairs.iter().map(|pair| (number(pair.to), pair.weight as f32)).collect();
        successors.sort_by_key(|(_, weight)| Reverse(weight.to_bits()));
        rows.push(CoAccessRow { key: *key, occurrences: *count as f32, successors });
    }
    rows
}
