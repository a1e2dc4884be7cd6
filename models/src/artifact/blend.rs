//! `links.parquet` and `contexts.parquet`: what the blend counted, by key name.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt32Array},
    datatypes::{DataType, Float32Type, UInt32Type},
};
use nearcast_datasets::{KeyId, Timestamp};
use parquet::file::metadata::KeyValue;

use crate::{
    BlendContextRow, BlendKeyRow, BlendLinkRow, Error, Result, TrainedBlend,
    artifact::{
        CONTEXTS, LINKS,
        tables::{AT, column, number, read, strings, write},
    },
};

/// Footer entry with the decayed number of all requests.
const REQUESTS: &str = "nearcast.requests";

/// Columns `key`, `occurrences`, `first_seconds`, `recent`, and `other`, `direct`, `after`, `before`, `direct_seconds`,
/// one row per pair; keys joined to none have one row without.
pub(super) fn write_links(trained: &TrainedBlend) -> Result<Vec<u8>> {
    let name = |key: KeyId| trained.keys.name(key.0).map(|name| &**name);
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    let [mut occurrences, mut recent, mut direct, mut after, mut before] = [const { Vec::<f32>::new() }; 5];
    let [mut first_at, mut direct_at] = [const { Vec::<u32>::new() }; 2];
    for row in &trained.rows {
        let Some(key) = name(row.key) else { continue };
        let none = BlendLinkRow { to: row.key, direct: 0.0, after: 0.0, before: 0.0, direct_at: 0 };
        let known = row.links.iter().filter_map(|link| Some((Some(name(link.to)?), link)));
        let mut known: Vec<(Option<&str>, &BlendLinkRow)> = known.collect();
        if known.is_empty() {
            known.push((None, &none));
        }
        for (other, link) in known {
            keys.push(key);
            occurrences.push(row.occurrences);
            first_at.push(row.first_at);
            recent.push(row.recent);
            others.push(other);
            direct.push(link.direct);
            after.push(link.after);
            before.push(link.before);
            direct_at.push(link.direct_at);
        }
    }
    let floats = |numbers: Vec<f32>| -> ArrayRef { Arc::new(Float32Array::from(numbers)) };
    let columns: [(&str, ArrayRef, bool); 9] = [
        ("key", Arc::new(StringArray::from(keys)), false),
        ("occurrences", floats(occurrences), false),
        ("first_seconds", Arc::new(UInt32Array::from(first_at)), false),
        ("recent", floats(recent), false),
        ("other", Arc::new(StringArray::from(others)), true),
        ("direct", floats(direct), false),
        ("after", floats(after), false),
        ("before", floats(before), false),
        ("direct_seconds", Arc::new(UInt32Array::from(direct_at)), false),
    ];
    let entry = |name: &str, value: String| KeyValue::new(name.to_owned(), value);
    let footer = vec![entry(AT, trained.at.micros().to_string()), entry(REQUESTS, trained.requests.to_string())];
    write(LINKS, columns, Some(footer))
}

/// Columns `before` (null at the beginning of a session), `key`, `occurrences`, `successor`, `count`, one row per
/// follower of a pair of keys.
pub(super) fn write_contexts(trained: &TrainedBlend) -> Result<Vec<u8>> {
    let name = |key: KeyId| trained.keys.name(key.0).map(|name| &**name);
    let (mut befores, mut keys, mut successors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut occurrences, mut counts) = (Vec::new(), Vec::new());
    for row in &trained.contexts {
        let Some(key) = name(row.current) else { continue };
        for (successor, count) in &row.followers {
            let Some(successor) = name(*successor) else { continue };
            befores.push(row.before.and_then(name));
            keys.push(key);
            occurrences.push(row.occurrences);
            successors.push(successor);
            counts.push(*count);
        }
    }
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("before", Arc::new(StringArray::from(befores)), true),
        ("key", Arc::new(StringArray::from(keys)), false),
        ("occurrences", Arc::new(Float32Array::from(occurrences)), false),
        ("successor", Arc::new(StringArray::from(successors)), false),
        ("count", Arc::new(Float32Array::from(counts)), false),
    ];
    write(CONTEXTS, columns, None)
}

/// What [`write_links`] and [`write_contexts`] wrote; its network is left as it is by default.
pub(super) fn read_blend(links: Vec<u8>, contexts: Vec<u8>) -> Result<TrainedBlend> {
    let (batches, footer) = read(LINKS, links)?;
    let value = |name: &str| footer.iter().find(|entry| entry.key == name).and_then(|entry| entry.value.clone());
    let missing = |name: &str| Error::content(LINKS, format!("its footer has no {name}"));
    let at = value(AT).and_then(|value| value.parse().ok()).ok_or_else(|| missing(AT))?;
    let requests = value(REQUESTS).and_then(|value| value.parse().ok()).ok_or_else(|| missing(REQUESTS))?;
    let mut trained = TrainedBlend { at: Timestamp::from_micros(at), requests, ..TrainedBlend::default() };
    for batch in &batches {
        read_links_batch(batch, &mut trained)?;
    }
    for batch in &read(CONTEXTS, contexts)?.0 {
        read_contexts_batch(batch, &mut trained)?;
    }
    Ok(trained)
}

fn read_links_batch(batch: &RecordBatch, trained: &mut TrainedBlend) -> Result<()> {
    let (keys, others) = (strings(LINKS, batch, "key")?, strings(LINKS, batch, "other")?);
    let [occurrences, recent] = ["occurrences", "recent"].map(|name| floats(LINKS, batch, name));
    let (occurrences, recent) = (occurrences?, recent?);
    let [direct, after, before] = ["direct", "after", "before"].map(|name| floats(LINKS, batch, name));
    let (direct, after, before) = (direct?, after?, before?);
    let (first_at, direct_at) = (seconds(batch, "first_seconds")?, seconds(batch, "direct_seconds")?);
    for place in 0..batch.num_rows() {
        let key = number(&mut trained.keys, keys.value(place));
        if trained.rows.last().is_none_or(|row| row.key != key) {
            let (occurrences, recent) = (occurrences[place], recent[place]);
            let row = BlendKeyRow { key, occurrences, first_at: first_at[place], recent, links: Vec::new() };
            trained.rows.push(row);
        }
        if let Some((row, other)) = trained.rows.last_mut().zip(others.is_valid(place).then(|| others.value(place))) {
            let to = number(&mut trained.keys, other);
            let (direct, after, before) = (direct[place], after[place], before[place]);
            row.links.push(BlendLinkRow { to, direct, after, before, direct_at: direct_at[place] });
        }
    }
    Ok(())
}

fn read_contexts_batch(batch: &RecordBatch, trained: &mut TrainedBlend) -> Result<()> {
    let befores = strings(CONTEXTS, batch, "before")?;
    let (keys, successors) = (strings(CONTEXTS, batch, "key")?, strings(CONTEXTS, batch, "successor")?);
    let (occurrences, counts) = (floats(CONTEXTS, batch, "occurrences")?, floats(CONTEXTS, batch, "count")?);
    for place in 0..batch.num_rows() {
        let before = befores.is_valid(place).then(|| number(&mut trained.keys, befores.value(place)));
        let current = number(&mut trained.keys, keys.value(place));
        let follower = (number(&mut trained.keys, successors.value(place)), counts[place]);
        match trained.contexts.last_mut() {
            Some(row) if row.before == before && row.current == current => row.followers.push(follower),
            _ => {
                let (occurrences, followers) = (occurrences[place], vec![follower]);
                trained.contexts.push(BlendContextRow { before, current, occurrences, followers });
            }
        }
    }
    Ok(())
}

/// A column of counts, none of which may be negative or not finite.
fn floats<'a>(file: &str, batch: &'a RecordBatch, name: &str) -> Result<&'a [f32]> {
    let counts = &column(file, batch, name, &DataType::Float32)?.as_primitive::<Float32Type>().values()[..];
    match counts.iter().all(|count| count.is_finite() && *count >= 0.0) {
        true => Ok(counts),
        false => Err(Error::content(file, "a count is negative or not finite")),
    }
}

fn seconds<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [u32]> {
    Ok(column(LINKS, batch, name, &DataType::UInt32)?.as_primitive::<UInt32Type>().values())
}
