//! The keys of the training range, numbered for the trainers.

use nearcast_datasets::KeyId;
use nearcast_models::{ItemCatalogue, ItemRef, Vocabulary, VocabularyConfig};

use crate::{
    Result,
    features::{Features, KeyCount, Sessions, TimeRange},
};

/// The vocabulary, and every key of the training range as an item.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// The keys with a row of their own.
    pub(crate) vocabulary: Vocabulary,
    /// Every key of the range, ordered by falling count and then by name.
    pub(crate) items: ItemCatalogue,
    /// Position in `items` by key code; `None` for keys outside the range.
    positions: Vec<Option<u32>>,
}

impl Catalogue {
    /// Collects the keys of `range`.
    pub(crate) fn build(features: &Features, range: TimeRange, config: &VocabularyConfig) -> Result<Self> {
        let mut counts = features.key_counts(range)?;
        let name = |count: &KeyCount| features.log.key(count.key);
        counts.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| name(a).cmp(name(b))));
        let named = counts.iter().map(|count| (name(count), count.requests));
        let vocabulary = Vocabulary::build(named, config)?;
        let mut positions = vec![None; features.log.keys.bound()];
        for (position, count) in (0..).zip(&counts) {
            positions[count.key.0 as usize] = Some(position);
        }
        let items = ItemCatalogue {
            items: counts.iter().map(|count| vocabulary.item(name(count))).collect(),
            counts: counts.iter().map(|count| count.requests).collect(),
        };
        Ok(Self { vocabulary, items, positions })
    }

    /// The sessions' keys as positions in the catalogue.
    ///
    /// # Panics
    /// When a session names a key outside the catalogue's range.
    pub(crate) fn code(&self, sessions: &Sessions) -> Vec<u32> {
        let position = |key: &KeyId| self.positions[key.0 as usize].expect("sessions come from the catalogue's range");
        sessions.iter().flatten().map(position).collect()
    }
}

/// Every key of a coded log as a model sees it, and where the model's rows appear in the log.
#[derive(Debug)]
pub(crate) struct ItemMap {
    /// By key code.
    pub(crate) items: Vec<ItemRef>,
    /// By row; `None` for keys that the log never names.
    pub(crate) rows: Vec<Option<KeyId>>,
}

impl ItemMap {
    /// Maps every key of the log to `vocabulary`.
    pub(crate) fn new(features: &Features, vocabulary: &Vocabulary) -> Self {
        let mut rows = vec![None; vocabulary.len()];
        let mut items = vec![ItemRef::default(); features.log.keys.bound()];
        for (code, name) in features.log.keys.iter() {
            let item = vocabulary.item(name);
            if let Some(row) = item.row {
                rows[row as usize] = Some(KeyId(code));
            }
            items[code as usize] = item;
        }
        Self { items, rows }
    }
}
