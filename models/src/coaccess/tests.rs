//! What the co-access table promises.

use std::time::Duration;

use nearcast_datasets::{KeyId, Timestamp};

use crate::{CoAccess, CoAccessConfig, CoAccessRow, Result, Successor};

const A: KeyId = KeyId(1);
const B: KeyId = KeyId(2);
const C: KeyId = KeyId(3);

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_secs(seconds))
}

fn table(keys_max: usize, successors_per_key: usize, prior_weight: f32) -> Result<CoAccess> {
    CoAccess::new(&CoAccessConfig { keys_max, successors_per_key, half_life_seconds: 100.0, prior_weight })
}

fn successors(table: &CoAccess, now: Timestamp, key: KeyId) -> Vec<Successor> {
    let mut out = Vec::new();
    table.successors(now, key, 0.0, &mut out);
    out
}

fn keys(table: &CoAccess, now: Timestamp, key: KeyId) -> Vec<u32> {
    successors(table, now, key).iter().map(|successor| successor.key.0).collect()
}

#[test]
fn probability_is_the_smoothed_share_of_occurrences() -> Result<()> {
    let mut table = table(10, 4, 2.0)?;
    for turn in 0..8 {
        table.record(at(0), A);
        table.observe(at(0), A, if turn < 6 { B } else { C }, 1.0);
    }
    let found = successors(&table, at(0), A);
    assert_eq!(found.iter().map(|s| (s.key, s.support)).collect::<Vec<_>>(), [(B, 6.0), (C, 2.0)]);
    assert!((found[0].probability - 0.6).abs() < 1e-6 && (found[1].probability - 0.2).abs() < 1e-6);
    assert!(successors(&table, at(0), B).is_empty(), "counts are directed");
    Ok(())
}

#[test]
fn counts_halve_every_half_life_however_often_they_are_touched() -> Result<()> {
    let (mut touched, mut left_alone) = (table(10, 4, 0.0)?, table(10, 4, 0.0)?);
    for table in [&mut touched, &mut left_alone] {
        table.observe(at(0), A, B, 8.0);
    }
    for second in 1..=200 {
        touched.observe(at(second), A, C, 0.0);
    }
    for table in [&touched, &left_alone] {
        let support = successors(table, at(200), A)[0].support;
        assert!((support - 2.0).abs() < 1e-3, "{support}");
    }
    Ok(())
}

#[test]
fn a_full_list_replaces_its_smallest_and_counts_newcomers_honestly() -> Result<()> {
    let mut table = table(10, 2, 0.0)?;
    table.observe(at(0), A, B, 5.0);
    table.observe(at(0), A, C, 2.0);
    assert_eq!(table.counters().successors_replaced, 0, "two of two places are no overflow");
    table.observe(at(0), A, KeyId(4), 1.0);
    assert_eq!(table.counters().successors_replaced, 1);
    let supports: Vec<_> = successors(&table, at(0), A).iter().map(|s| (s.key.0, s.support)).collect();
    assert_eq!(supports, [(2, 5.0), (4, 1.0)], "the newcomer does not boast of what it inherited");
    table.observe(at(0), A, KeyId(5), 1.0);
    assert_eq!(keys(&table, at(0), A), [2, 5], "but needs it to defend its place: 3 against 5");
    Ok(())
}

#[test]
fn keys_beyond_the_bound_replace_the_least_recently_updated() -> Result<()> {
    let mut table = table(2, 2, 0.0)?;
    table.observe(at(0), A, C, 1.0);
    table.observe(at(1), B, C, 1.0);
    assert_eq!(table.counters().keys_replaced, 0);
    table.record(at(2), A);
    table.observe(at(3), C, A, 1.0);
    assert_eq!((table.counters().keys, table.counters().keys_replaced), (2, 1));
    assert!(keys(&table, at(3), B).is_empty());
    assert_eq!((keys(&table, at(3), A), keys(&table, at(3), C)), (vec![3], vec![1]));
    Ok(())
}

#[test]
fn a_forgotten_key_is_gone_on_both_sides_and_its_number_starts_anew() -> Result<()> {
    let mut table = table(10, 4, 0.0)?;
    table.observe(at(0), A, B, 3.0);
    table.observe(at(0), A, C, 1.0);
    table.observe(at(0), B, C, 1.0);
    table.forget(B);
    assert!(keys(&table, at(0), B).is_empty());
    assert_eq!(keys(&table, at(0), A), [3], "before the entry is touched again");
    table.observe(at(0), A, B, 1.0);
    assert!(
        (successors(&table, at(0), A)[0].support - 1.0).abs() < 1e-6,
        "the new bearer of the number has one count, not four"
    );
    table.forget(C);
    assert_eq!(table.export(at(0)).iter().map(|row| row.successors.len()).collect::<Vec<_>>(), [1]);
    Ok(())
}

#[test]
fn an_exported_table_imports_as_it_was_and_merges_with_what_is_there() -> Result<()> {
    let mut original = table(10, 4, 1.0)?;
    for (from, to, weight) in [(A, B, 4.0), (A, C, 1.0), (B, A, 2.0)] {
        original.record(at(0), from);
        original.observe(at(0), from, to, weight);
    }
    let rows = original.export(at(100));
    let expected = CoAccessRow { key: A, occurrences: 1.0, successors: vec![(B, 2.0), (C, 0.5)] };
    assert_eq!(rows[0], expected, "two occurrences and their counts, one half-life later");
    let mut copy = table(10, 4, 1.0)?;
    copy.import(at(100), rows.clone());
    assert_eq!(copy.export(at(100)), rows);
    copy.observe(at(200), A, B, 1.0);
    copy.import(at(100), rows);
    let support = successors(&copy, at(200), A)[0].support;
    assert!((support - 3.0).abs() < 1e-5, "1 + 2/2 + 2/2, but {support}");
    Ok(())
}

#[test]
fn import_keeps_the_most_frequent_keys_when_there_are_too_many() -> Result<()> {
    let row = |key: u32, occurrences| CoAccessRow { key: KeyId(key), occurrences, successors: vec![(A, 1.0)] };
    let mut table = table(2, 4, 1.0)?;
    table.import(at(0), [row(10, 9.0), row(11, 1.0), row(12, 5.0)]);
    assert_eq!(table.export(at(0)).iter().map(|row| row.key.0).collect::<Vec<_>>(), [10, 12]);
    Ok(())
}
