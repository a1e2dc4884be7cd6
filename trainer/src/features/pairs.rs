//! Co-access: which key follows which, how soon and how recently.

use std::time::Duration;

use arrow::datatypes::{Int64Type, UInt32Type};
use nearcast_datasets::KeyId;

use super::{Features, TimeRange, columns::column, sessions::flagged};
use crate::Result;

/// Who must have asked for both keys of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairScope {
    /// The same client within one session.
    Client,
    /// Different clients of the same region.
    Region,
}

/// How many pairs are kept and how long they count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairLimits {
    /// Most successors of one key.
    pub(crate) successors_max: usize,
    /// The age at which a pair counts half.
    pub(crate) half_life: Duration,
}

/// Two keys requested one shortly after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    /// The earlier key.
    pub(crate) from: KeyId,
    /// The later key.
    pub(crate) to: KeyId,
    /// Times seen, each weighted by one over the distance and halved per half-life before the end of the range.
    pub(crate) weight: f64,
}

impl Features {
    /// How often each key was requested in `range`, halved per half-life before its end, ordered by key.
    pub(crate) fn occurrences(&self, range: TimeRange, half_life: Duration) -> Result<Vec<(KeyId, f64)>> {
        let sql = format!(
            "SELECT key, SUM({}) AS weight FROM (SELECT key, at, 1 AS distance FROM requests WHERE {}) \
             GROUP BY key HAVING SUM({0}) > 0 ORDER BY key",
            weight_sql(range, half_life),
            range.condition(),
        );
        let mut occurrences = Vec::new();
        self.engine.for_each(&sql, |batch| {
            let keys = column::<UInt32Type>(batch, "key")?;
            let weights = column::<Int64Type>(batch, "weight")?;
            let rows = keys.values().iter().zip(weights.values());
            occurrences.extend(rows.map(|(key, weight)| (KeyId(*key), from_fixed(*weight))));
            Ok(())
        })?;
        Ok(occurrences)
    }

    /// The heaviest successors of every key in `range`, ordered by `from` and then by
    /// falling weight.
    pub(crate) fn pairs(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        self.engine.for_each(&self.pairs_sql(scope, range, limits), |batch| {
            let from = column::<UInt32Type>(batch, "source")?;
            let to = column::<UInt32Type>(batch, "target")?;
            let weight = column::<Int64Type>(batch, "weight")?;
            let rows = from.values().iter().zip(to.values()).zip(weight.values());
            pairs.extend(rows.map(|((from, to), weight)| Pair {
                from: KeyId(*from),
                to: KeyId(*to),
                weight: from_fixed(*weight),
            }));
            Ok(())
        })?;
        Ok(pairs)
    }

    /// One window pass looks `pair_window` rows ahead; the sum runs over integers, whose order cannot matter.
    fn pairs_sql(&self, scope: PairScope, range: TimeRange, limits: PairLimits) -> String {
        let (stream, counted) = match scope {
            PairScope::Client => ("client", "session"),
            PairScope::Region => ("region", "client"),
        };
        let (ahead, key_ahead, mark_ahead, distances) = looks_ahead(self.config.pair_window, counted);
        // Within a session both marks are equal; across clients of a region they must differ.
        let keep = match scope {
            PairScope::Client => "mark = mark_ahead",
            PairScope::Region => "mark <> mark_ahead",
        };
        let source = match scope {
            PairScope::Client => format!(
                "{}, marked AS (SELECT client, at, position, key, SUM(starts) OVER (PARTITION BY client \
                 ORDER BY at, position ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS session FROM flagged)",
                flagged(range, self.config.session_gap_micros())
            ),
            PairScope::Region => format!(
                "marked AS (SELECT region, client, at, position, key FROM requests WHERE {})",
                range.condition()
            ),
        };
        format!(
            "WITH {source}, \
             ahead AS (SELECT key, at, {counted} AS mark, {ahead} FROM marked \
               WINDOW w AS (PARTITION BY {stream} ORDER BY at, position)), \
             spread AS (SELECT key AS source, at, mark, distance, CASE distance {key_ahead} END AS target, \
               CASE distance {mark_ahead} END AS mark_ahead \
               FROM ahead CROSS JOIN (VALUES {distances}) AS distances(distance)), \
             summed AS (SELECT source, target, SUM({weight}) AS weight FROM spread \
               WHERE target IS NOT NULL AND target <> source AND {keep} GROUP BY source, target), \
             ranked AS (SELECT source, target, weight, ROW_NUMBER() OVER (PARTITION BY source \
               ORDER BY weight DESC, target) AS place FROM summed WHERE weight > 0) \
             SELECT source, target, weight FROM ranked WHERE place <= {successors_max} \
             ORDER BY source, weight DESC, target",
            weight = weight_sql(range, limits.half_life),
            successors_max = limits.successors_max,
        )
    }
}

/// A pair's weight in fixed point, decayed to the end of the range.
fn weight_sql(range: TimeRange, half_life: Duration) -> String {
    format!(
        "CAST(ROUND({WEIGHT_ONE} / distance * power(2.0, CAST(at - {} AS DOUBLE) / {}.0)) AS BIGINT)",
        range.end.micros(),
        half_life.as_micros(),
    )
}

fn from_fixed(weight: i64) -> f64 {
    weight as f64 / WEIGHT_ONE as f64
}

/// The pieces of SQL that name the next `window` rows: the columns, the two `CASE` bodies and the list of distances.
fn looks_ahead(window: usize, counted: &str) -> (String, String, String, String) {
    let join =
        |separator: &str, piece: &dyn Fn(usize) -> String| (1..=window).map(piece).collect::<Vec<_>>().join(separator);
    (
        join(", ", &|n| format!("LEAD(key, {n}) OVER w AS key_{n}, LEAD({counted}, {n}) OVER w AS mark_{n}")),
        join(" ", &|n| format!("WHEN {n} THEN key_{n}")),
        join(" ", &|n| format!("WHEN {n} THEN mark_{n}")),
        join(", ", &|n| format!("({n})")),
    )
}

/// The fixed-point value of a weight of one.
const WEIGHT_ONE: i64 = 1 << 20;
