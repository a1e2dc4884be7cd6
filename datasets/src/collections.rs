//! Maps and sets whose iteration order depends only on what was inserted, so that it cannot leak randomness.

use foldhash::fast::FixedState;

/// A hash map with a fixed seed: the same insertions always iterate in the same order.
pub type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// A hash set with a fixed seed: the same insertions always iterate in the same order.
pub type Set<K> = hashbrown::HashSet<K, FixedState>;
