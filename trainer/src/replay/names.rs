//! Keys by number, also those that the log never asks for.

use nearcast_datasets::{Interner, KeyId};

use super::LogColumns;

/// The log's keys and, numbered after all of them, names that a prefetcher made up: nobody at a node could know that
/// nobody will ask for them, so they are fetched and paid for like any other.
#[derive(Debug)]
pub(super) struct Names<'a> {
    log: &'a LogColumns,
    foreign: Interner,
}

impl<'a> Names<'a> {
    pub(super) fn new(log: &'a LogColumns) -> Self {
        Self { log, foreign: Interner::default() }
    }

    /// The key called `name`, which becomes known if it was not.
    pub(super) fn key(&mut self, name: &str) -> KeyId {
        let of_log = self.log.find_key(name);
        of_log.unwrap_or_else(|| KeyId(self.log.key_count() as u32 + self.foreign.insert(name)))
    }

    pub(super) fn name(&self, key: KeyId) -> &str {
        match (key.0 as usize).checked_sub(self.log.key_count()) {
            None => self.log.key_name(key),
            Some(number) => self.foreign.name(number as u32).map_or("", |name| name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{replay::ReadOptions, testing::event};

    #[test]
    fn foreign_names_come_after_those_of_the_log() {
        let events = ["/a", "/b"].map(|key| event(0, "c", "r", key));
        let log = LogColumns::from_events(&events, ReadOptions::default());
        let mut names = Names::new(&log);
        let keys = ["/b", "/x", "/a", "/y", "/x"].map(|name| names.key(name));
        assert_eq!(keys, [1, 2, 0, 3, 2].map(KeyId));
        assert_eq!(keys.map(|key| names.name(key).to_owned()), ["/b", "/x", "/a", "/y", "/x"]);
    }
}
