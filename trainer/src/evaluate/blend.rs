//! Sequence model and co-access table as one list of proposals.

use nearcast_datasets::KeyId;
use nearcast_models::{CoAccess, CoAccessRow, Model, Successor};

use super::rank::{PLACES, Proposals};
use crate::{Result, features::Features, fit::ItemMap};

/// What a co-access table says; keys numbered `keys` and above are not in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Successors<'a> {
    /// The successors of the current key.
    pub(crate) successors: &'a [Successor],
    /// Keys of the log are numbered below this.
    pub(crate) keys: u32,
}

/// Both models' candidates by the mean of their probabilities, best first; a model that does not name a key gives zero.
pub(crate) fn blended(rows: &[(u32, f32)], items: &ItemMap, coaccess: Successors<'_>) -> Proposals {
    let mut pool: Vec<(Option<KeyId>, f32)> = Vec::with_capacity(rows.len() + coaccess.successors.len());
    pool.extend(rows.iter().map(|(row, score)| (items.rows[*row as usize], score.exp())));
    for successor in coaccess.successors {
        let key = Some(successor.key).filter(|key| key.0 < coaccess.keys);
        match pool.iter_mut().find(|(held, _)| key.is_some() && *held == key) {
            Some((_, probability)) => *probability += successor.probability,
            None => pool.push((key, successor.probability)),
        }
    }
    pool.sort_by(|a, b| b.1.total_cmp(&a.1));
    pool.truncate(PLACES + 1);
    pool.into_iter().map(|(key, _)| key).collect()
}

/// The model's client-scope table with keys numbered as in the log; keys that the log never names come after those.
pub(crate) fn import_coaccess(features: &Features, model: &Model) -> Result<CoAccess> {
    let mut keys = features.log.keys.clone();
    let trained = &model.coaccess;
    let mut number = |key: KeyId| trained.keys.name(key.0).map(|name| KeyId(keys.insert(name)));
    let mut table = CoAccess::new(&model.config.coaccess)?;
    let rows: Vec<CoAccessRow> = trained
        .client
        .iter()
        .filter_map(|row| {
            let successors = row.successors.iter().filter_map(|(key, weight)| Some((number(*key)?, *weight))).collect();
            Some(CoAccessRow { key: number(row.key)?, occurrences: row.occurrences, successors })
        })
        .collect();
    table.import(trained.at, rows);
    Ok(table)
}
