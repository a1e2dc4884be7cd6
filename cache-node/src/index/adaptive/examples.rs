//! Segments as they looked at some moment, waiting to be labelled by what came next.

use hashbrown::HashTable;
use nearcast_datasets::SegmentId;

use super::{
    entries::hash,
    history::Scale,
    model::{Features, HORIZONS, Model},
};

/// Examples under way at once. They are drawn as often as this allows, at most once per request.
const EXAMPLES_MAX: u32 = 1 << 13;

const ALL_LANES: u8 = (1 << HORIZONS.len()) - 1;

#[derive(Clone, Copy, Debug)]
struct Example {
    segment: SegmentId,
    at: u32,
    /// How many examples ago the one before was drawn from the same segment; zero when there is none.
    since_older: u32,
    /// The horizons whose outcome is known.
    labelled: u8,
    features: Features,
}

/// A ring of examples. Each horizon of an example is labelled once: *yes* when the segment is asked for in time, held
/// or not, and *no* as soon as that horizon has passed without it, so that short horizons learn early. 32 bytes each
/// and 6 to 12 of the table, 360 KiB at most.
#[derive(Debug, Default)]
pub(super) struct Examples {
    ring: Vec<Example>,
    head: u32,
    tail: u32,
    /// How far each horizon has been labelled.
    reached: [u32; HORIZONS.len()],
    /// The newest waiting example of each segment that has any.
    newest: HashTable<u32>,
}

impl Examples {
    #[cfg(test)]
    pub(super) const COUNT_MAX: usize = EXAMPLES_MAX as usize;

    /// Labels with *no* what is due at `now`.
    pub(super) fn expire(&mut self, now: u32, scale: &Scale, model: &mut Model) {
        for (lane, horizon) in scale.horizons.into_iter().enumerate() {
            let bit = 1 << lane;
            while self.reached[lane] != self.head {
                let place = place(self.reached[lane]);
                let example = &mut self.ring[place];
                if example.labelled & bit == 0 {
                    if now.wrapping_sub(example.at) <= horizon {
                        break;
                    }
                    example.labelled |= bit;
                    model.learn(&example.features, bit, 0.0);
                }
                self.reached[lane] = self.reached[lane].wrapping_add(1);
            }
        }
        let waiting = self.reached.iter().map(|reached| self.head.wrapping_sub(*reached)).max().unwrap_or(0);
        self.retire(self.head.wrapping_sub(waiting));
    }

    /// Lets go of examples before `tail`, all labelled.
    fn retire(&mut self, tail: u32) {
        while self.tail != tail {
            let number = self.tail;
            let segment = self.ring[place(number)].segment;
            if let Ok(found) = self.newest.find_entry(hash(segment), |other| *other == number) {
                found.remove();
            }
            self.tail = self.tail.wrapping_add(1);
        }
    }

    /// Whether an example may be drawn now, given 16 random bits.
    pub(super) fn is_due(&self, random: u16, scale: &Scale) -> bool {
        let longest = scale.horizons[HORIZONS.len() - 1];
        let share = f64::from(EXAMPLES_MAX) / f64::from(longest);
        self.head.wrapping_sub(self.tail) < EXAMPLES_MAX && f64::from(random) < share * 65_536.0
    }

    /// Takes an example of a segment.
    pub(super) fn draw(&mut self, now: u32, segment: SegmentId, features: Features) {
        let number = self.head;
        let Self { ring, newest, .. } = self;
        let own_hash = hash(segment);
        let older = newest.find_mut(own_hash, |other| ring[place(*other)].segment == segment);
        let since_older = if let Some(older) = older {
            number.wrapping_sub(std::mem::replace(older, number))
        } else {
            newest.insert_unique(own_hash, number, |other| hash(ring[place(*other)].segment));
            0
        };
        let example = Example { segment, at: now, since_older, labelled: 0, features };
        if place(number) == ring.len() {
            ring.push(example);
        } else {
            ring[place(number)] = example;
        }
        self.head = self.head.wrapping_add(1);
    }

    /// Labels with *yes* what a segment's request decides.
    pub(super) fn fulfil(&mut self, segment: SegmentId, model: &mut Model) {
        self.settle(segment, |example| model.learn(&example.features, ALL_LANES & !example.labelled, 1.0));
    }

    /// Forgets examples of a segment that is gone for another reason than not being asked for.
    pub(super) fn cancel(&mut self, segment: SegmentId) {
        self.settle(segment, |_| ());
    }

    #[cfg(test)]
    pub(super) fn is_waiting(&self, segment: SegmentId) -> bool {
        self.newest.find(hash(segment), |number| self.ring[place(*number)].segment == segment).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    fn settle(&mut self, segment: SegmentId, mut outcome: impl FnMut(&Example)) {
        let Self { ring, newest, .. } = self;
        let found = newest.find_entry(hash(segment), |number| ring[place(*number)].segment == segment);
        let Ok(found) = found else { return };
        let (mut number, _) = found.remove();
        // A chain ends at its oldest example, or where it has been labelled altogether and left the ring.
        while number.wrapping_sub(self.tail) < self.head.wrapping_sub(self.tail) {
            let example = &mut ring[place(number)];
            if example.labelled != ALL_LANES {
                outcome(example);
                example.labelled = ALL_LANES;
            }
            if example.since_older == 0 {
                break;
            }
            number = number.wrapping_sub(example.since_older);
        }
    }
}

fn place(number: u32) -> usize {
    (number % EXAMPLES_MAX) as usize
}
