//! A dictionary from strings to small integers and back.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// Numbers strings densely from zero in order of first appearance; a removed number is given out again.
///
/// Takes 16 bytes for a number and 6 to 12 for finding it, besides the name.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    /// The numbers in use, found by the hash of their names.
    numbers: HashTable<u32>,
    names: Vec<Option<Arc<str>>>,
    free: Vec<u32>,
}

impl Interner {
    /// The number of `name`, given out now when it is new.
    ///
    /// # Panics
    /// When more than `u32::MAX` names are held.
    pub fn insert(&mut self, name: &str) -> u32 {
        self.find(name).unwrap_or_else(|| self.add(Arc::from(name)))
    }

    /// As [`Self::insert`], of a name that is shared already.
    ///
    /// # Panics
    /// When more than `u32::MAX` names are held.
    pub fn insert_shared(&mut self, name: Arc<str>) -> u32 {
        self.find(&name).unwrap_or_else(|| self.add(name))
    }

    fn add(&mut self, name: Arc<str>) -> u32 {
        let hash = hash(&name);
        let number = if let Some(number) = self.free.pop() {
            self.names[number as usize] = Some(name);
            number
        } else {
            self.names.push(Some(name));
            u32::try_from(self.names.len() - 1).expect("fewer than u32::MAX names")
        };
        let names = &self.names;
        let rehash = |number: &u32| names[*number as usize].as_deref().map_or(0, self::hash);
        self.numbers.insert_unique(hash, number, rehash);
        number
    }

    /// Forgets a number, so that it may be given to another name; returns the name it had.
    pub fn remove(&mut self, number: u32) -> Option<Arc<str>> {
        let name = self.names.get_mut(number as usize)?.take()?;
        if let Ok(found) = self.numbers.find_entry(hash(&name), |other| *other == number) {
            found.remove();
        }
        self.free.push(number);
        Some(name)
    }

    /// The number of `name`, if it has one.
    pub fn find(&self, name: &str) -> Option<u32> {
        let is_it = |number: &u32| self.names[*number as usize].as_deref() == Some(name);
        self.numbers.find(hash(name), is_it).copied()
    }

    /// Makes room for so many more names.
    pub fn reserve(&mut self, count: usize) {
        let names = &self.names;
        self.numbers.reserve(count, |number| names[*number as usize].as_deref().map_or(0, hash));
        self.names.reserve(count);
    }

    /// The name behind a number, if it is in use.
    pub fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.names.get(number as usize)?.as_ref()
    }

    /// How many names are held.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether no name is held.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// One more than the largest number ever given out: the length of a table indexed by number.
    pub fn bound(&self) -> usize {
        self.names.len()
    }

    /// Every number in use with its name, ascending by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<str>)> {
        self.names.iter().enumerate().filter_map(|(number, name)| Some((u32::try_from(number).ok()?, name.as_ref()?)))
    }
}

fn hash(name: &str) -> u64 {
    FixedState::default().hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_reused_after_removal() {
        let mut interner = Interner::default();
        assert_eq!((interner.insert("a"), interner.insert("b"), interner.insert("a")), (0, 1, 0));
        assert_eq!(interner.remove(0).as_deref(), Some("a"));
        assert_eq!((interner.find("a"), interner.insert("c"), interner.bound()), (None, 0, 2));
        assert_eq!(interner.name(0).map(|name| &**name), Some("c"));
    }
}
