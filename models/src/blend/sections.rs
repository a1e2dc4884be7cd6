//! Sections of the key space: keys of one directory, which sessions tend to stay in.
//!
//! What a section is asked for says something of its keys' neighbours before any of them was ever seen together: of a
//! rare key, and of one that training never saw, little else is known.

use nearcast_datasets::KeyId;

use crate::{
    blend::popular::{self, HotList, NOTHING},
    tokens,
};

/// The favourites of every section. Directories share sections when there are more of them than there are sections, so
/// that all of it is bounded: below 5 MiB, and four bytes per key.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections {
    /// By key number; [`UNKNOWN`] for keys whose names were never told.
    numbers: Vec<u32>,
    /// By section number.
    sections: Vec<Section>,
}

/// One section. Counts are log2 of forward-decayed ones; see [`popular`].
#[derive(Clone, Debug)]
pub(super) struct Section {
    requests: f64,
    hot: HotList,
}

impl Default for Section {
    fn default() -> Self {
        Self { requests: NOTHING, hot: HotList::default() }
    }
}

impl Sections {
    /// A key has this name.
    pub(super) fn introduce(&mut self, key: KeyId, name: &str) {
        let place = key.0 as usize;
        if self.numbers.len() <= place {
            self.numbers.resize(place + 1, UNKNOWN);
        }
        self.numbers[place] = tokens::directory_bucket(name, SECTIONS_MAX);
    }

    /// A key whose section is known was asked for: `worth` is the time in half-lives, `count` all that the key was asked
    /// for by now.
    pub(super) fn observe(&mut self, key: KeyId, worth: f64, count: f64) {
        let Some(number) = self.number(key) else { return };
        if self.sections.len() <= number {
            self.sections.resize_with(number + 1, Section::default);
        }
        let section = &mut self.sections[number];
        section.requests = popular::add(section.requests, worth);
        section.hot.insert(key, count, SECTION_KEYS);
    }

    /// The key's section, when it was asked for.
    pub(super) fn of(&self, key: KeyId) -> Option<&Section> {
        self.sections.get(self.number(key)?).filter(|section| section.requests > NOTHING)
    }

    /// The key's number is about to be given to another.
    pub(super) fn forget(&mut self, key: KeyId) {
        let Some(number) = self.number(key) else { return };
        if let Some(section) = self.sections.get_mut(number) {
            section.hot.forget(key);
        }
        self.numbers[key.0 as usize] = UNKNOWN;
    }

    fn number(&self, key: KeyId) -> Option<usize> {
        self.numbers.get(key.0 as usize).copied().filter(|number| *number != UNKNOWN).map(|number| number as usize)
    }
}

impl Section {
    /// log2 of the forward-decayed number of its requests.
    pub(super) fn requests(&self) -> f64 {
        self.requests
    }

    /// Its favourites with their shares of its requests.
    pub(super) fn shares(&self) -> impl Iterator<Item = (KeyId, f32)> {
        self.hot.keys().iter().map(|(key, count)| (*key, popular::share(*count, self.requests)))
    }
}

const UNKNOWN: u32 = u32::MAX;
/// More than the directories of most sites; a shared section is only a worse one.
const SECTIONS_MAX: u32 = 16_384;
/// Favourites of a section.
pub(super) const SECTION_KEYS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> Sections {
        let mut sections = Sections::default();
        for key in 0..40 {
            let name = format!("/{}/{key}", if key < 30 { "a" } else { "b" });
            sections.introduce(KeyId(key), &name);
        }
        sections
    }

    #[test]
    fn a_section_has_the_keys_of_its_directory_that_are_asked_for_most() {
        let mut sections = sections();
        assert!(sections.of(KeyId(1)).is_none(), "nothing was asked for");
        for key in 0..40 {
            for request in 0..=key {
                sections.observe(KeyId(key), 0.0, f64::from(request + 1).log2());
            }
        }
        // Its number of requests is 1 + 2 + … + 30.
        let section = sections.of(KeyId(1)).expect("its keys were asked for");
        let mut shares: Vec<(KeyId, f32)> = section.shares().collect();
        shares.sort_by_key(|(key, _)| *key);
        assert_eq!(shares.len(), SECTION_KEYS);
        assert!(shares.iter().all(|(key, _)| (14..30).contains(&key.0)), "{shares:?}");
        assert!((shares[15].1 - 30.0 / 465.0).abs() < 1e-4, "{shares:?}");
        assert_eq!(sections.of(KeyId(35)).map(|section| section.shares().count()), Some(10));
    }

    #[test]
    fn a_forgotten_key_and_one_without_a_name_are_in_no_section() {
        let mut sections = sections();
        sections.observe(KeyId(3), 0.0, 0.0);
        sections.forget(KeyId(3));
        assert!(sections.of(KeyId(3)).is_none());
        assert!(sections.of(KeyId(4)).is_some_and(|section| section.shares().count() == 0));
        sections.observe(KeyId(1_000), 0.0, 0.0);
        assert!(sections.of(KeyId(1_000)).is_none());
    }
}
