//! The keys that a model knows by name: each has a row in its embedding table.

use std::sync::Arc;

use nearcast_datasets::Map;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, tokens::TokenIds};

/// Which keys get a row.
///
/// | field | default | meaning | range |
/// | --- | --- | --- | --- |
/// | `keys_max` | 1,000,000 | most rows; the most frequent keys win | ≥ 1 |
/// | `count_min` | 2 | fewest requests a key needs for a row | ≥ 1 |
/// | `token_buckets` | 16,384 | buckets that path tokens are hashed into | ≥ 1 |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VocabularyConfig {
    /// Most rows; the most frequent keys win.
    pub keys_max: usize,
    /// Fewest requests a key needs for a row of its own; rarer keys are known by their tokens alone.
    pub count_min: u64,
    /// Buckets that path tokens are hashed into.
    pub token_buckets: u32,
}

impl Default for VocabularyConfig {
    fn default() -> Self {
        Self { keys_max: 1_000_000, count_min: 2, token_buckets: 16_384 }
    }
}

/// A key as the models see it: its embedding row, when it has one, and its path tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemRef {
    /// The key's row in the vocabulary; `None` for keys that training saw too rarely or never.
    pub row: Option<u32>,
    /// The key's path tokens.
    pub tokens: TokenIds,
}

/// Keys by embedding row, most frequent first, with how often each was requested in training.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    keys: Vec<Arc<str>>,
    counts: Vec<u64>,
    rows: Map<Arc<str>, u32>,
    token_buckets: u32,
    left_out: u64,
}

impl Vocabulary {
    /// Gives rows to the keys of `counts` (key, requests) that `config` admits, most frequent first, ties by key.
    ///
    /// # Errors
    /// [`Error::Config`] when a value of `config` is out of its range.
    pub fn build<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>, config: &VocabularyConfig) -> Result<Self> {
        for (field, value) in [
            ("vocabulary.keys_max", config.keys_max as u64),
            ("vocabulary.count_min", config.count_min),
            ("vocabulary.token_buckets", u64::from(config.token_buckets)),
        ] {
            if value == 0 {
                return Err(Error::Config { field, value: "0".to_owned(), expected: "at least 1" });
            }
        }
        let all: Vec<(&str, u64)> = counts.into_iter().collect();
        let all_count = all.len();
        let mut kept: Vec<_> = all.into_iter().filter(|(_, count)| *count >= config.count_min).collect();
        kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        kept.truncate(config.keys_max.min(u32::MAX as usize));
        let left_out = (all_count - kept.len()) as u64;
        let rows = kept.into_iter().map(|(key, count)| (Arc::from(key), count));
        Ok(Self { left_out, ..Self::from_rows(rows, config.token_buckets) })
    }

    /// The vocabulary with exactly these rows, in this order.
    pub(crate) fn from_rows(rows: impl IntoIterator<Item = (Arc<str>, u64)>, token_buckets: u32) -> Self {
        let (keys, counts): (Vec<Arc<str>>, Vec<u64>) = rows.into_iter().unzip();
        let rows = keys.iter().zip(0..).map(|(key, row)| (Arc::clone(key), row)).collect();
        Self { keys, counts, rows, token_buckets, left_out: 0 }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Number of different keys, which is the number of rows unless an artifact is broken.
    pub(crate) fn distinct_count(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The row of `key`, if it has one.
    pub fn row(&self, key: &str) -> Option<u32> {
        self.rows.get(key).copied()
    }

    /// The key of `row`.
    pub fn key(&self, row: u32) -> Option<&Arc<str>> {
        self.keys.get(row as usize)
    }

    /// How often the key of `row` was requested in training; zero for rows that do not exist.
    pub fn count(&self, row: u32) -> u64 {
        self.counts.get(row as usize).copied().unwrap_or(0)
    }

    /// How many keys of the training log got no row because they were too rare or the bound was reached.
    pub fn left_out_count(&self) -> u64 {
        self.left_out
    }

    /// Buckets that path tokens are hashed into.
    pub fn token_buckets(&self) -> u32 {
        self.token_buckets
    }

    /// The path tokens of any key, known or not.
    pub fn tokens(&self, key: &str) -> TokenIds {
        TokenIds::of_key(key, self.token_buckets)
    }

    /// Any key as the models see it.
    pub fn item(&self, key: &str) -> ItemRef {
        ItemRef { row: self.row(key), tokens: self.tokens(key) }
    }

    /// Every key with its training count, by row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, u64)> {
        self.keys.iter().zip(self.counts.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_rows_to_the_most_frequent_keys_within_the_bounds() -> Result<()> {
        let counts = [("/b", 5), ("/a", 5), ("/once", 1), ("/top", 9), ("/c", 2)];
        let config = VocabularyConfig { keys_max: 3, ..VocabularyConfig::default() };
        let vocabulary = Vocabulary::build(counts, &config)?;
        let keys: Vec<_> = vocabulary.iter().map(|(key, count)| (&**key, count)).collect();
        assert_eq!(keys, [("/top", 9), ("/a", 5), ("/b", 5)]);
        assert_eq!((vocabulary.row("/a"), vocabulary.row("/c")), (Some(1), None));
        assert_eq!(vocabulary.left_out_count(), 2);
        assert_eq!(vocabulary.item("/c").tokens, vocabulary.tokens("/c"));
        Ok(())
    }

    #[test]
    fn refuses_bounds_of_zero() {
        let config = VocabularyConfig { keys_max: 0, ..VocabularyConfig::default() };
        assert!(matches!(Vocabulary::build([], &config), Err(Error::Config { field: "vocabulary.keys_max", .. })));
    }
}
