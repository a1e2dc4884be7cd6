//! Segments as they looked at some moment, waiting to be labelled by what came next.

use super::{
    history::Scale,
    model::{Features, HORIZONS, Model},
};

/// Examples under way at once. They are drawn as often as this allows, at most once per request.
const EXAMPLES_MAX: u32 = 1 << 14;

const ALL_LANES: u8 = u8::MAX;

/// The number of an example, by which a segment's history finds it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExampleLink(u32);

impl ExampleLink {
    /// No example; numbers skip it.
    pub(super) const NONE: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Example {
    at: u32,
    /// The example drawn before from the same segment.
    older: ExampleLink,
    /// The horizons whose outcome is known.
    labelled: u8,
    features: Features,
}

/// A ring of examples. Each horizon of an example is labelled once: *yes* when the segment is asked for in time, *no* as
/// soon as that horizon has passed without it, so that short horizons learn early. 24 bytes each, 384 KiB at most.
#[derive(Debug, Default)]
pub(super) struct Examples {
    ring: Vec<Example>,
    head: u32,
    tail: u32,
    /// How far each horizon has been labelled.
    reached: [u32; HORIZONS.len()],
}

impl Examples {
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
        let waiting = self.reached.iter().map(|reached| self.head.wrapping_sub(*reached)).max();
        self.tail = self.head.wrapping_sub(waiting.unwrap_or(0));
    }

    /// Whether an example may be drawn now, given 16 random bits.
    pub(super) fn is_due(&self, random: u16, scale: &Scale) -> bool {
        let longest = scale.horizons[HORIZONS.len() - 1];
        let share = f64::from(EXAMPLES_MAX) / f64::from(longest);
        self.head.wrapping_sub(self.tail) < EXAMPLES_MAX && f64::from(random) < share * 65_536.0
    }

    /// Takes an example of a segment whose newest one so far is `older`.
    pub(super) fn draw(&mut self, now: u32, features: Features, older: ExampleLink) -> ExampleLink {
        let example = Example { at: now, older, labelled: 0, features };
        let number = self.head;
        if place(number) == self.ring.len() {
            self.ring.push(example);
        } else {
            self.ring[place(number)] = example;
        }
        self.head = self.head.wrapping_add(1);
        ExampleLink(number)
    }

    /// Labels with *yes* what a segment's request decides.
    pub(super) fn fulfil(&mut self, newest: ExampleLink, model: &mut Model) {
        self.settle(newest, |example| model.learn(&example.features, !example.labelled, 1.0));
    }

    /// Forgets examples of a segment that is gone for another reason than not being asked for.
    pub(super) fn cancel(&mut self, newest: ExampleLink) {
        self.settle(newest, |_| ());
    }

    fn settle(&mut self, newest: ExampleLink, mut outcome: impl FnMut(&Example)) {
        let mut link = newest;
        while self.is_waiting(link) {
            let example = &mut self.ring[place(link.0)];
            if example.labelled != ALL_LANES {
                outcome(example);
                example.labelled = ALL_LANES;
            }
            link = example.older;
        }
    }

    fn is_waiting(&self, link: ExampleLink) -> bool {
        link != ExampleLink::NONE && link.0.wrapping_sub(self.tail) < self.head.wrapping_sub(self.tail)
    }
}

fn place(number: u32) -> usize {
    (number % EXAMPLES_MAX) as usize
}
