//! How often segments were asked for lately, roughly, in a few bits each.
//!
//! A count-min sketch (Cormode, Muthukrishnan, Journal of Algorithms 55(1), 2005) of four rows with four-bit counters,
//! of which only the smallest are raised; all are halved whenever ten requests per held segment were recorded, as
//! TinyLFU asks.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use nearcast_datasets::SegmentId;

/// Approximate request counts up to 15, ageing with use.
#[derive(Clone, Debug)]
pub(super) struct FrequencySketch {
    /// Sixteen counters a word, four of each row. The length is a power of two.
    words: Vec<u64>,
    recorded: usize,
}

impl Default for FrequencySketch {
    fn default() -> Self {
        Self { words: vec![0; WORDS_MIN], recorded: 0 }
    }
}

impl FrequencySketch {
    /// Counts one request; the sketch grows with the number of segments held and never shrinks.
    pub(super) fn record(&mut self, segment: SegmentId, held_count: usize) {
        // A counter's place is its hash modulo the length, so in a table doubled by copying both halves read as before.
        while self.words.len() < held_count {
            self.words.extend_from_within(..);
        }
        let hash = hash(segment);
        let smallest = self.smallest(hash);
        if smallest < COUNT_MAX {
            for row in 0..ROWS {
                let (word, shift) = self.place(hash, row);
                if (self.words[word] >> shift) & COUNT_MAX == smallest {
                    self.words[word] += 1 << shift;
                }
            }
        }
        self.recorded += 1;
        if self.recorded >= self.words.len() * REQUESTS_PER_SEGMENT {
            self.recorded /= 2;
            self.words.iter_mut().for_each(|word| *word = (*word >> 1) & HALVED);
        }
    }

    /// At least the number of requests counted since it was last halved to nothing, unless that is over 15.
    pub(super) fn estimate(&self, segment: SegmentId) -> u64 {
        self.smallest(hash(segment))
    }

    fn smallest(&self, hash: u64) -> u64 {
        (0..ROWS)
            .map(|row| self.place(hash, row))
            .map(|(word, shift)| (self.words[word] >> shift) & COUNT_MAX)
            .min()
            .unwrap_or(0)
    }

    /// The word and the bit offset of a row's counter for a hash.
    fn place(&self, hash: u64, row: u32) -> (usize, u32) {
        let step = (hash >> 32) | 1;
        let mixed = hash.wrapping_add(u64::from(row).wrapping_mul(step)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (mixed >> 32) as usize & (self.words.len() - 1);
        let shift = (row * ROWS + (mixed >> 20) as u32 % ROWS) * COUNTER_BITS;
        (word, shift)
    }
}

fn hash(segment: SegmentId) -> u64 {
    FixedState::default().hash_one(segment)
}

const WORDS_MIN: usize = 64;
const ROWS: u32 = 4;
const COUNTER_BITS: u32 = 4;
const COUNT_MAX: u64 = 15;
const HALVED: u64 = 0x7777_7777_7777_7777;

/// Requests per held segment after which all counts are halved.
const REQUESTS_PER_SEGMENT: usize = 10;

#[cfg(test)]
mod tests {
    use nearcast_datasets::KeyId;

    use super::*;

    fn segment(number: u32) -> SegmentId {
        SegmentId { key: KeyId(number), index: 0 }
    }

    #[test]
    fn counts_are_never_too_low_and_rarely_too_high() {
        let mut sketch = FrequencySketch::default();
        for number in 0..100 {
            for _ in 0..number % 8 {
                sketch.record(segment(number), 1_000);
            }
        }
        let estimates: Vec<_> = (0..100).map(|number| sketch.estimate(segment(number))).collect();
        assert!(estimates.iter().zip(0..).all(|(estimate, number)| *estimate >= number % 8), "{estimates:?}");
        let wrong = estimates.iter().zip(0..).filter(|(estimate, number)| **estimate != number % 8).count();
        assert!(wrong <= 2, "{wrong} of 100 are too high");
    }

    #[test]
    fn counts_are_halved_after_ten_requests_a_segment_and_survive_growth() {
        let mut sketch = FrequencySketch::default();
        for _ in 0..639 {
            sketch.record(segment(1), 64);
        }
        assert_eq!(sketch.estimate(segment(1)), 15);
        sketch.record(segment(2), 64);
        assert_eq!(sketch.estimate(segment(1)), 7);
        sketch.record(segment(2), 5_000);
        assert_eq!((sketch.estimate(segment(1)), sketch.words.len()), (7, 8_192));
    }
}
