//! Co-access counts as an artifact carries them: by key name, independent of any run's numbering.

use nearcast_datasets::{Interner, KeyId, Timestamp};

/// What is known of one key's successors at some instant.
#[derive(Clone, Debug, PartialEq)]
pub struct CoAccessRow {
    /// The key that comes first.
    pub key: KeyId,
    /// Its decayed occurrences.
    pub occurrences: f32,
    /// Keys that came after it with their decayed counts, highest first.
    pub successors: Vec<(KeyId, f32)>,
}

/// Co-access learned from a training log, in both scopes.
#[derive(Clone, Debug, Default)]
pub struct TrainedCoAccess {
    /// Names of the keys that the rows number.
    pub keys: Interner,
    /// When the counts were read off: they decay from here on.
    pub at: Timestamp,
    /// Same client next.
    pub client: Vec<CoAccessRow>,
    /// Other clients of the region next.
    pub region: Vec<CoAccessRow>,
}
