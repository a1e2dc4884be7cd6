//! A bounded memory of what is no longer held, so that every miss has a cause.

use std::num::NonZeroUsize;

use foldhash::fast::FixedState;
use lru::LruCache;
use nearcast_datasets::SegmentId;

use super::MissCause;

/// Segments that were held or asked for once, with what a miss on them will be put down to.
#[derive(Debug)]
pub(super) struct Departed {
    causes: LruCache<SegmentId, MissCause, FixedState>,
}

impl Departed {
    /// Remembers at most `entries_max` segments, the most recently departed ones.
    pub(super) fn new(entries_max: NonZeroUsize) -> Self {
        let mut causes = LruCache::unbounded_with_hasher(FixedState::default());
        causes.resize(entries_max);
        Self { causes }
    }

    /// Remembers why `segment` is not held; returns whether another one had to be forgotten for it.
    pub(super) fn record(&mut self, segment: SegmentId, cause: MissCause) -> bool {
        self.causes.push(segment, cause).is_some_and(|(forgotten, _)| forgotten != segment)
    }

    /// Why `segment` is not held; forgets it, since it is about to be fetched.
    pub(super) fn take(&mut self, segment: SegmentId) -> Option<MissCause> {
        self.causes.pop(&segment)
    }
}
