//! What is asked for most, in bounded memory: the Space-Saving summary of Metwally, Agrawal and El Abbadi (2005).
//!
//! A summary of `m` names holds every name whose weight is above one `m`-th of the whole. A name's weight is at most too
//! large by its error, and never too small.

use std::{collections::BTreeSet, sync::Arc};

use nearcast_datasets::{Map, ServedFrom};
use serde::Serialize;

use super::Seen;

/// What requests are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The object.
    Key,
    /// The first so many folders of the object's key.
    Prefix(usize),
    /// Who asked, as logs name it.
    Client,
    /// Why it was missed, or how it was hit.
    Cause,
}

/// What makes a name hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Being asked for.
    Requests,
    /// Bytes sent.
    Bytes,
    /// Not being answered from what is held.
    Misses,
}

/// What is known of a name. All but `weight` counts since the name was last taken up, so it may be too small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Hot {
    /// The name.
    pub(crate) name: String,
    /// Its weight, at most `error` too large.
    pub(crate) weight: u64,
    /// How much of the weight may belong to others.
    pub(crate) error: u64,
    pub(crate) requests: u64,
    pub(crate) misses: u64,
    pub(crate) bytes: u64,
    pub(crate) latency_us: u64,
    /// Of its misses, by cause.
    pub(crate) causes: std::collections::BTreeMap<&'static str, u64>,
}

/// The summary.
#[derive(Debug)]
pub(crate) struct Hottest {
    by: By,
    weight: Weight,
    names_max: usize,
    entries: Vec<Hot>,
    places: Map<Arc<str>, usize>,
    /// By weight, lightest first.
    order: BTreeSet<(u64, usize)>,
    /// The weight of everything seen.
    total: u64,
    requests: u64,
}

impl Hottest {
    /// An empty summary of at most `names_max` names.
    pub(crate) fn new(by: By, weight: Weight, names_max: usize) -> Self {
        Self {
            by,
            weight,
            names_max: names_max.max(1),
            entries: Vec::new(),
            places: Map::default(),
            order: BTreeSet::new(),
            total: 0,
            requests: 0,
        }
    }

    /// Counts a request.
    pub(crate) fn add(&mut self, seen: &Seen) {
        self.requests += 1;
        let is_miss = !seen.served.is_hit();
        let weight = match self.weight {
            Weight::Requests => 1,
            Weight::Bytes => seen.sent_bytes,
            Weight::Misses => u64::from(is_miss),
        };
        let Some(name) = self.name(seen).filter(|_| weight > 0) else { return };
        self.total += weight;
        let place = self.place(&name);
        let entry = &mut self.entries[place];
        self.order.remove(&(entry.weight, place));
        entry.weight += weight;
        entry.requests += 1;
        entry.misses += u64::from(is_miss);
        entry.bytes += seen.sent_bytes;
        entry.latency_us += seen.latency_us;
        if let Some(cause) = seen.cause {
            *entry.causes.entry(cause.as_str()).or_default() += 1;
        }
        self.order.insert((entry.weight, place));
    }

    /// The heaviest names, heaviest first.
    pub(crate) fn top(&self, count: usize) -> Vec<Hot> {
        let mut heaviest: Vec<&Hot> = self.entries.iter().collect();
        heaviest.sort_by(|one, other| other.weight.cmp(&one.weight).then_with(|| one.name.cmp(&other.name)));
        heaviest.into_iter().take(count).cloned().collect()
    }

    /// The weight of everything, and the requests that were looked at.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.total, self.requests)
    }

    /// Where a name is counted: its own place, a new one, or that of the lightest name, whose weight becomes its error.
    fn place(&mut self, name: &Arc<str>) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let fresh = Hot { name: name.to_string(), ..Hot::default() };
        if self.entries.len() < self.names_max {
            self.entries.push(fresh);
            self.places.insert(Arc::clone(name), self.entries.len() - 1);
            self.order.insert((0, self.entries.len() - 1));
            return self.entries.len() - 1;
        }
        let (weight, place) = self.order.first().copied().unwrap_or_default();
        let former = std::mem::replace(&mut self.entries[place], Hot { weight, error: weight, ..fresh });
        self.places.remove(&*former.name);
        self.places.insert(Arc::clone(name), place);
        place
    }

    fn name(&self, seen: &Seen) -> Option<Arc<str>> {
        match self.by {
            By::Client => Some(Arc::clone(&seen.client)),
            By::Key => seen.key.as_ref().map(|key| key.shared()),
            By::Prefix(depth) => seen.key.as_ref().map(|key| Arc::from(prefix(key.as_str(), depth))),
            By::Cause => Some(Arc::from(match (seen.served, seen.cause) {
                (served, _) if served.is_hit() => "hit",
                (ServedFrom::Error, _) => "error",
                (_, Some(cause)) => cause.as_str(),
                (_, None) => "unknown",
            })),
        }
    }
}

/// The first `depth` folders of a key, or all that it has.
fn prefix(key: &str, depth: usize) -> &str {
    let path = key.split('?').next().unwrap_or_default();
    let mut slashes = path.match_indices('/').map(|(at, _)| at + 1);
    let first = slashes.next().unwrap_or(0);
    &path[..slashes.take(depth).last().unwrap_or(first)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{super::tests::seen, *};

    #[test]
    fn prefixes_are_folders() {
        for (key, depth, expected) in [
            ("/a/b/c.js", 1, "/a/"),
            ("/a/b/c.js", 2, "/a/b/"),
            ("/a/b/c.js", 9, "/a/b/"),
            ("/c.js", 1, "/"),
            ("/a/b?q=/x/y", 3, "/a/"),
            ("/", 1, "/"),
        ] {
            assert_eq!(prefix(key, depth), expected, "{key} {depth}");
        }
    }

    #[test]
    fn requests_are_put_together_as_asked() {
        let top = |by, weight| {
            let mut hottest = Hottest::new(by, weight, 8);
            ["/a/x", "/a/y", "/b/z", "/a/x"].iter().for_each(|key| hottest.add(&seen(key, 7)));
            assert_eq!(hottest.totals().1, 4);
            hottest.top(2).into_iter().map(|hot| (hot.name, hot.weight, hot.misses)).collect::<Vec<_>>()
        };
        assert_eq!(top(By::Key, Weight::Requests), [("/a/x".to_owned(), 2, 2), ("/a/y".to_owned(), 1, 1)]);
        assert_eq!(top(By::Prefix(1), Weight::Bytes), [("/a/".to_owned(), 30, 3), ("/b/".to_owned(), 10, 1)]);
        assert_eq!(top(By::Client, Weight::Misses), [("alice".to_owned(), 4, 4)]);
        assert_eq!(top(By::Cause, Weight::Requests), [("first".to_owned(), 4, 4)]);
    }

    proptest! {
        /// What the summary promises, against exact counts.
        #[test]
        fn heavy_names_are_held_and_weights_are_bounded(names in proptest::collection::vec(0_u32..40, 1..400), room in 1_usize..12) {
            let mut hottest = Hottest::new(By::Key, Weight::Requests, room);
            let mut exact = BTreeMap::<String, u64>::new();
            for name in names.iter().map(|name| format!("/{}", name * name / 40)) {
                hottest.add(&seen(&name, 1));
                *exact.entry(name).or_default() += 1;
            }
            let top = hottest.top(room);
            prop_assert!(top.len() <= room && hottest.entries.len() <= room && hottest.places.len() <= room);
            prop_assert_eq!(hottest.totals(), (names.len() as u64, names.len() as u64));
            for hot in &top {
                let truth = exact[&hot.name];
                prop_assert!(hot.weight - hot.error <= truth && truth <= hot.weight, "{hot:?} for {truth}");
                prop_assert!(hot.requests <= truth);
            }
            for (name, count) in exact {
                let is_heavy = count * room as u64 > names.len() as u64;
                prop_assert!(!is_heavy || top.iter().any(|hot| hot.name == name), "{name} {count}");
            }
        }
    }
}
