//! A bounded memory of what is no longer held, so that every miss has a cause.

use std::num::NonZeroUsize;

use nearcast_datasets::SegmentId;

use super::MissCause;
use crate::index::Lists;

/// Segments that were held or asked for once, with what a miss on them will be put down to.
#[derive(Debug)]
pub(super) struct Departed {
    causes: Lists<MissCause, 1>,
    entries_max: usize,
}

impl Departed {
    /// Remembers at most `entries_max` segments, the most recently departed ones.
    pub(super) fn new(entries_max: NonZeroUsize) -> Self {
        Self { causes: Lists::default(), entries_max: entries_max.get() }
    }

    /// Remembers why `segment` is not held; returns whether another one had to be forgotten for it.
    pub(super) fn record(&mut self, segment: SegmentId, cause: MissCause) -> bool {
        if let Some(slot) = self.causes.find(segment) {
            self.causes.entry_mut(slot).mark = cause;
            self.causes.move_to(QUEUE, slot);
            return false;
        }
        let oldest = self.causes.oldest(QUEUE).filter(|_| self.causes.len(QUEUE) == self.entries_max);
        if let Some(oldest) = oldest {
            self.causes.remove(oldest);
        }
        self.causes.push(QUEUE, segment, 0, cause);
        oldest.is_some()
    }

    /// Why `segment` is not held; forgets it, since it is about to be fetched.
    pub(super) fn take(&mut self, segment: SegmentId) -> Option<MissCause> {
        let slot = self.causes.find(segment)?;
        let cause = self.causes.entry(slot).mark;
        self.causes.remove(slot);
        Some(cause)
    }
}

const QUEUE: usize = 0;

#[cfg(test)]
mod tests {
    use nearcast_datasets::KeyId;

    use super::*;

    #[test]
    fn the_longest_departed_is_forgotten_first() {
        let segment = |number| SegmentId { key: KeyId(number), index: 0 };
        let mut departed = Departed::new(NonZeroUsize::new(2).unwrap());
        assert!(!departed.record(segment(1), MissCause::Capacity));
        assert!(!departed.record(segment(2), MissCause::Rejected));
        assert!(!departed.record(segment(1), MissCause::Expired), "known already, and now the latest");
        assert!(departed.record(segment(3), MissCause::Capacity));
        let causes = [1, 2, 3, 3].map(|number| departed.take(segment(number)));
        assert_eq!(causes, [Some(MissCause::Expired), None, Some(MissCause::Capacity), None]);
    }
}
