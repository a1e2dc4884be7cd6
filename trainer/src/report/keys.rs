//! What a version knows about single keys.

use nearcast_datasets::{KeyId, Map};
use nearcast_models::Model;

use crate::{Result, features::Features};

/// What a version knows about one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyFacts {
    /// The key.
    pub(crate) key: String,
    /// Requests in the training range; none without a row of its own.
    pub(crate) requests: Option<u64>,
    /// Keys that the same client asks for next, with their share of the key's occurrences, highest first.
    pub(crate) next: Vec<(String, f64)>,
    /// Keys that other clients of the region ask for next, as above.
    pub(crate) next_by_others: Vec<(String, f64)>,
    /// Keys with the nearest embeddings, with the cosine, highest first.
    pub(crate) nearest: Vec<(String, f64)>,
    /// Requests by hour of the day (UTC) in the log of the report; none when it does not name the key.
    pub(crate) hours: Option<[u64; 24]>,
}

/// Explains `keys`, or the most requested ones when none is asked for.
pub(super) fn key_facts(features: &Features, model: &Model, keys: &[String]) -> Result<Vec<KeyFacts>> {
    let frequent = model.vocabulary.iter().take(KEYS_SHOWN).map(|(key, _)| key.to_string());
    let names: Vec<String> = if keys.is_empty() { frequent.collect() } else { keys.to_vec() };
    let codes: Vec<Option<KeyId>> = names.iter().map(|name| features.log.keys.find(name).map(KeyId)).collect();
    let known: Vec<KeyId> = codes.iter().copied().flatten().collect();
    let hourly = features.hourly(&known)?;
    let counts: Map<&str, u64> = model.vocabulary.iter().map(|(key, count)| (&**key, count)).collect();
    let facts = names.iter().zip(codes).zip(nearest(model, &names)).map(|((name, code), nearest)| KeyFacts {
        key: name.clone(),
        requests: counts.get(name.as_str()).copied(),
        next: successors(model, name, Scope::Client),
        next_by_others: successors(model, name, Scope::Region),
        nearest,
        hours: code.and_then(|code| hourly.get(&code).copied()),
    });
    Ok(facts.collect())
}

#[derive(Clone, Copy)]
enum Scope {
    Client,
    Region,
}

fn successors(model: &Model, name: &str, scope: Scope) -> Vec<(String, f64)> {
    let trained = &model.coaccess;
    let rows = match scope {
        Scope::Client => &trained.client,
        Scope::Region => &trained.region,
    };
    let Some(row) = trained.keys.find(name).and_then(|code| rows.iter().find(|row| row.key.0 == code)) else {
        return Vec::new();
    };
    let share = |count: f32| f64::from(count) / f64::from(row.occurrences.max(count).max(f32::MIN_POSITIVE));
    let named = |(key, count): &(KeyId, f32)| Some((trained.keys.name(key.0)?.to_string(), share(*count)));
    row.successors.iter().take(NEIGHBOURS).filter_map(named).collect()
}

/// For each name the rows whose embeddings point most nearly the same way as its own, which is made of its tokens when it
/// has no row. One pass over the vocabulary for all.
fn nearest(model: &Model, names: &[String]) -> Vec<Vec<(String, f64)>> {
    let unit = |key: &str| {
        let mut vector = model.sequence.embedding(&model.vocabulary.item(key));
        // The last number is the bias: how frequent the key is, not what it is like.
        vector.pop();
        let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let scaled = |value: &f32| if length > 0.0 { f64::from(*value) / length } else { 0.0 };
        vector.iter().map(scaled).collect::<Vec<f64>>()
    };
    let own: Vec<Vec<f64>> = names.iter().map(|name| unit(name)).collect();
    let mut found: Vec<Vec<(&str, f64)>> = vec![Vec::new(); names.len()];
    for (key, _) in model.vocabulary.iter() {
        let key: &str = key;
        let other = unit(key);
        for ((name, own), best) in names.iter().zip(&own).zip(&mut found) {
            let cosine: f64 = own.iter().zip(&other).map(|(a, b)| a * b).sum();
            let place = best.partition_point(|(_, held)| *held >= cosine);
            if name != key && place < NEIGHBOURS {
                best.insert(place, (key, cosine));
                best.truncate(NEIGHBOURS);
            }
        }
    }
    let named = |best: Vec<(&str, f64)>| best.into_iter().map(|(key, cosine)| (key.to_owned(), cosine)).collect();
    found.into_iter().map(named).collect()
}

/// Keys explained when none is asked for.
const KEYS_SHOWN: usize = 10;
/// Successors and neighbours shown of each.
const NEIGHBOURS: usize = 5;
