//! A dictionary from strings to small integers and back.

use std::sync::Arc;

use crate::Map;

/// Numbers strings densely from zero in order of first appearance; a removed number is given out again.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    numbers: Map<Arc<str>, u32>,
    names: Vec<Option<Arc<str>>>,
    free: Vec<u32>,
}

impl Interner {
    /// The number of `name`, given out now when it is new.
    ///
    /// # Panics
    /// When more than `u32::MAX` names are held.
    pub fn insert(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name: Arc<str> = Arc::from(name);
        let number = if let Some(number) = self.free.pop() {
            self.names[number as usize] = Some(Arc::clone(&name));
            number
        } else {
            self.names.push(Some(Arc::clone(&name)));
            u32::try_from(self.names.len() - 1).expect("fewer than u32::MAX names")
        };
        self.numbers.insert(name, number);
        number
    }

    /// Forgets a number, so that it may be given to another name; returns the name it had.
    pub fn remove(&mut self, number: u32) -> Option<Arc<str>> {
        let name = self.names.get_mut(number as usize)?.take()?;
        self.numbers.remove(&name);
        self.free.push(number);
        Some(name)
    }

    /// The number of `name`, if it has one.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
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
