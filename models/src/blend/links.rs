//! Which keys sessions join, how often and in which order, bounded per key.

use nearcast_datasets::KeyId;

use crate::blend::popular::NOTHING;

/// How a key is joined to another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Link {
    pub(super) to: KeyId,
    /// The generation of `to` that was meant: numbers of forgotten keys are given to others.
    pub(super) generation: u32,
    /// Decayed number of times that `to` came directly after.
    pub(super) direct: f32,
    /// Decayed number of times that `to` came after, within the window.
    pub(super) after: f32,
    /// Decayed number of times that `to` came before, within the window.
    pub(super) before: f32,
    /// When `to` last came directly after, in seconds since the Unix epoch; 0 for never.
    pub(super) direct_at: u32,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Moves on when the number is given to another key.
    pub(super) generation: u32,
    /// Decayed number of requests, as of `decayed_at`.
    pub(super) occurrences: f32,
    /// First request, in seconds since the Unix epoch; 0 before it.
    pub(super) first_at: u32,
    decayed_at: u32,
    /// log2 of the number of requests, each worth 2^(its time in recent half-lives); see [`crate::blend::popular`].
    pub(super) recent: f64,
    pub(super) links: Vec<Link>,
}

impl Link {
    /// Times that the keys met within the window, in either order.
    pub(super) fn both(&self) -> f32 {
        self.after + self.before
    }

    /// What it would cost to lose it. What followed directly will follow again; most of what merely met will not meet
    /// again, and there is much more of it.
    fn worth(&self) -> f32 {
        self.both() + DIRECT_WORTH * self.direct
    }
}

impl Entry {
    /// Of a key that nothing is known of.
    pub(super) fn unknown(generation: u32) -> Self {
        Self { generation, recent: NOTHING, ..Self::default() }
    }

    /// Lets the counts age, once that makes a difference. Ratios of counts do not change by it.
    pub(super) fn age(&mut self, now_seconds: u32, half_life_seconds: f64) {
        let elapsed = f64::from(now_seconds.saturating_sub(self.decayed_at));
        if self.decayed_at == 0 {
            self.decayed_at = now_seconds;
        } else if elapsed * AGEING_STEPS > half_life_seconds {
            let factor = (-elapsed / half_life_seconds).exp2() as f32;
            self.occurrences *= factor;
            for link in &mut self.links {
                link.direct *= factor;
                link.after *= factor;
                link.before *= factor;
            }
            self.decayed_at = now_seconds;
        }
    }

    /// The link to a key, made when there is none; the one that is worth least makes room for it.
    pub(super) fn link(&mut self, to: KeyId, generation: u32, links_max: usize) -> &mut Link {
        let fresh = Link { to, generation, ..Link::default() };
        let place = match self.links.iter().position(|link| link.to == to) {
            Some(place) => {
                if self.links[place].generation != generation {
                    self.links[place] = fresh;
                }
                place
            }
            None if self.links.len() < links_max => {
                self.links.push(fresh);
                self.links.len() - 1
            }
            None => {
                let worth = |place: &usize| self.links[*place].worth();
                let weakest = (0..self.links.len()).min_by(|a, b| worth(a).total_cmp(&worth(b)));
                let place = weakest.unwrap_or(0);
                self.links[place] = fresh;
                place
            }
        };
        &mut self.links[place]
    }
}

/// Counts are decayed in steps of this part of their half-life.
const AGEING_STEPS: f64 = 32.0;
/// What a direct succession is worth on top of the meeting that it is.
const DIRECT_WORTH: f32 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_link_makes_room_and_an_older_generation_counts_for_nothing() {
        let mut entry = Entry::default();
        entry.link(KeyId(1), 0, 2).after = 3.0;
        entry.link(KeyId(2), 0, 2).before = 1.0;
        entry.link(KeyId(3), 0, 2).after += 1.0;
        let held: Vec<u32> = entry.links.iter().map(|link| link.to.0).collect();
        assert_eq!(held, [1, 3]);
        assert!(entry.link(KeyId(1), 1, 2).both() < 0.5, "another key by the same number");
    }

    #[test]
    fn a_direct_follower_outlives_chance_meetings() {
        let mut entry = Entry::default();
        let link = entry.link(KeyId(1), 0, 2);
        (link.after, link.direct) = (1.0, 1.0);
        for other in 2..50 {
            entry.link(KeyId(other), 0, 2).before += 2.0;
        }
        assert!(entry.links.iter().any(|link| link.to == KeyId(1)), "{:?}", entry.links);
    }

    #[test]
    fn ageing_keeps_ratios_and_halves_counts_in_a_half_life() {
        let mut entry = Entry { occurrences: 8.0, ..Entry::default() };
        entry.link(KeyId(1), 0, 4).after = 4.0;
        entry.age(1_000, 100.0);
        entry.age(1_001, 100.0);
        assert!((entry.occurrences - 8.0).abs() < 1e-6, "too little time to matter");
        entry.age(1_100, 100.0);
        assert!((entry.occurrences - 4.0).abs() < 1e-6 && (entry.links[0].after - 2.0).abs() < 1e-6);
    }
}
