//! Co-access tables as an artifact carries them, from the pairs that were counted.

use std::{cmp::Reverse, time::Duration};

use nearcast_datasets::{Interner, KeyId, Map};
use nearcast_models::{CoAccessConfig, CoAccessRow, TrainedCoAccess};

use crate::{
    Result,
    features::{Features, PairLimits, PairScope, TimeRange},
    progress::OnProgress,
};

/// The co-access of `range` in both scopes, decayed to its end and within the configured bounds.
pub(crate) fn fit_coaccess(
    features: &Features,
    range: TimeRange,
    config: &CoAccessConfig,
    progress: OnProgress<'_>,
) -> Result<TrainedCoAccess> {
    let half_life = Duration::from_secs_f64(config.half_life_seconds);
    let limits = PairLimits { successors_max: config.successors_per_key, half_life };
    let mut occurrences = features.occurrences(range, half_life)?;
    // The keys seen most keep their place; a stable sort leaves ties in the order of the log.
    occurrences.sort_by(|a, b| b.1.total_cmp(&a.1));
    occurrences.truncate(config.keys_max);
    let mut keys = Interner::default();
    let occurrences: Vec<(KeyId, KeyId, f64)> =
        occurrences.into_iter().map(|(key, count)| (key, KeyId(keys.insert(features.log.key(key))), count)).collect();
    let kept: Map<KeyId, usize> = (0..).zip(&occurrences).map(|(place, (code, ..))| (*code, place)).collect();
    // Hashing names again and again would cost as much as counting.
    let mut numbers: Vec<Option<KeyId>> = vec![None; features.log.keys.bound()];
    occurrences.iter().for_each(|(code, number, _)| numbers[code.0 as usize] = Some(*number));
    let mut number =
        |code: KeyId| *numbers[code.0 as usize].get_or_insert_with(|| KeyId(keys.insert(features.log.key(code))));
    let mut rows = |scope| -> Result<Vec<CoAccessRow>> {
        // Only rows that stay are held: there may be many times more.
        let mut successors: Vec<Vec<(KeyId, f32)>> = vec![Vec::new(); occurrences.len()];
        features.for_each_source(scope, range, limits, progress, |pairs| {
            if let Some(place) = pairs.first().and_then(|pair| kept.get(&pair.from)) {
                successors[*place] = pairs.iter().map(|pair| (pair.to, pair.weight as f32)).collect();
            }
            Ok(())
        })?;
        Ok(to_rows(successors, &occurrences, &mut number))
    };
    let client = rows(PairScope::Client)?;
    let region = rows(PairScope::Region)?;
    Ok(TrainedCoAccess { keys, at: range.end, client, region })
}

/// One row per key that has successors, most requested key first; `successors` lie beside `occurrences`.
fn to_rows(
    successors: Vec<Vec<(KeyId, f32)>>,
    occurrences: &[(KeyId, KeyId, f64)],
    mut number: impl FnMut(KeyId) -> KeyId,
) -> Vec<CoAccessRow> {
    let pairs = successors.into_iter().zip(occurrences).filter(|(successors, _)| !successors.is_empty());
    pairs
        .map(|(mut successors, (_, key, count))| {
            successors.iter_mut().for_each(|(to, _)| *to = number(*to));
            successors.sort_by_key(|(_, weight)| Reverse(weight.to_bits()));
            CoAccessRow { key: *key, occurrences: *count as f32, successors }
        })
        .collect()
}
