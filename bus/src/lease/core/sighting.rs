//! How long an entry has been as it is.

use std::time::Duration;

use crate::Revision;

/// An entry, and since when it has been seen unchanged by the observer's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    revision: Revision,
    since: Duration,
}

impl Sighting {
    /// An entry seen for the first time.
    pub fn new(now: Duration, revision: Revision) -> Self {
        Self { revision, since: now }
    }

    /// The same entry looked at again. An older state than has been seen says nothing.
    #[must_use]
    pub fn again(self, now: Duration, revision: Revision) -> Self {
        if revision > self.revision { Self::new(now, revision) } else { self }
    }

    /// The newest revision seen.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Since when it has been seen.
    pub fn since(&self) -> Duration {
        self.since
    }
}
