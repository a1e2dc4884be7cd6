//! Settles how large each object is when a log only tells how many bytes each response had.
//!
//! The rule: a key's size is the largest whole body (status 200) seen for it in the whole import, because transfers
//! that were cut short only ever show fewer bytes. Without a whole body it is the largest partial one (206), a lower
//! bound. Answers without a body (304, `HEAD`) take the key's size. A key of which nothing is known takes the default:
//! what the user says, else the median of the known sizes.

use super::{error::ImportError, record::SizeClue};

/// What is known about the sizes of keys, by key number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes {
    keys: Vec<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    body: Option<u64>,
    part: Option<u64>,
}

/// The sizes of all keys, settled.
#[derive(Clone, Debug)]
pub(crate) struct SettledSizes {
    keys: Vec<u64>,
    /// Keys whose size is only a lower bound.
    pub(crate) partial_count: u64,
    /// Keys that took the default.
    pub(crate) unknown_count: u64,
    /// The default, where it was needed.
    pub(crate) default_bytes: Option<u64>,
}

impl Sizes {
    /// Learns from one line; returns the size when the line gives it exactly.
    pub(crate) fn observe(&mut self, key: u32, clue: SizeClue) -> Option<u64> {
        let index = key as usize;
        if self.keys.len() <= index {
            self.keys.resize(index + 1, Known::default());
        }
        let known = &mut self.keys[index];
        match clue {
            SizeClue::Object(bytes) => {
                known.body = Some(bytes);
                return Some(bytes);
            }
            SizeClue::Body(bytes) => known.body = known.body.max(Some(bytes)),
            SizeClue::Part(bytes) => known.part = known.part.max(Some(bytes)),
            SizeClue::None => {}
        }
        None
    }

    /// The size of every key.
    pub(crate) fn settle(self, default_bytes: Option<u64>) -> Result<SettledSizes, ImportError> {
        let known = |known: &Known| known.body.or(known.part);
        let unknown_count = self.keys.iter().filter(|key| known(key).is_none()).count() as u64;
        let partial_count = self.keys.iter().filter(|key| key.body.is_none() && key.part.is_some()).count() as u64;
        let default = match default_bytes {
            _ if unknown_count == 0 => None,
            Some(bytes) => Some(bytes),
            None => Some(median(self.keys.iter().filter_map(known).collect()).ok_or(ImportError::SizeUnknown)?),
        };
        let keys = self.keys.iter().map(|key| known(key).or(default).unwrap_or(0)).collect();
        Ok(SettledSizes { keys, partial_count, unknown_count, default_bytes: default })
    }
}

impl SettledSizes {
    /// The size of a key, in bytes.
    pub(crate) fn of(&self, key: u32) -> u64 {
        self.keys.get(key as usize).copied().unwrap_or(0)
    }
}

fn median(mut sizes: Vec<u64>) -> Option<u64> {
    let middle = sizes.len().checked_sub(1)? / 2;
    Some(*sizes.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_whole_body_wins_over_parts_and_silence() {
        let mut sizes = Sizes::default();
        for (key, clue) in [
            (0, SizeClue::None),
            (0, SizeClue::Body(10)),
            (0, SizeClue::Part(90)),
            (0, SizeClue::Body(70)),
            (1, SizeClue::Part(5)),
            (1, SizeClue::Part(3)),
            (2, SizeClue::None),
        ] {
            assert_eq!(sizes.observe(key, clue), None);
        }
        assert_eq!(sizes.observe(3, SizeClue::Object(7)), Some(7));
        let settled = sizes.clone().settle(None).unwrap();
        assert_eq!([0, 1, 2, 3].map(|key| settled.of(key)), [70, 5, 7, 7]);
        assert_eq!((settled.partial_count, settled.unknown_count, settled.default_bytes), (1, 1, Some(7)));
        assert_eq!(sizes.settle(Some(1)).unwrap().of(2), 1);
    }

    #[test]
    fn sizes_that_nothing_tells_are_refused() {
        let mut sizes = Sizes::default();
        sizes.observe(0, SizeClue::None);
        assert!(matches!(sizes.settle(None), Err(ImportError::SizeUnknown)));
    }
}
