//! Keys that the same clients ask for one after the other: where one is asked for, the other will be.
//!
//! Each key has a short list of those that followed it, with counts that fade together, so that a share of them is how
//! likely the other follows; and each has a list of those that it follows, to be asked from the other side.

use std::time::Duration;

use nearcast_datasets::{KeyId, Timestamp};

use super::saved::SavedNeighbours;

/// What clients ask for together. A request costs constant time, a key constant memory.
#[derive(Clone, Debug)]
pub(super) struct Together {
    /// By the client's hash; who comes later takes the place.
    clients: Vec<Recent>,
    keys: Vec<Links>,
}

/// What a client asked for last.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    client: u64,
    at: Timestamp,
    /// Each with how often its number had gone to another key by then: of a former one nothing follows.
    keys: [Option<(KeyId, u32)>; RECENT],
}

/// One key's neighbours.
#[derive(Clone, Debug, Default)]
struct Links {
    /// Requests, fading.
    asked: f32,
    /// What followed, and how often.
    after: Vec<(KeyId, f32)>,
    /// What it follows.
    before: Vec<KeyId>,
    /// How often its number went to another key.
    reuses: u32,
}

impl Together {
    pub(super) fn new() -> Self {
        Self { clients: vec![Recent::default(); CLIENTS], keys: Vec::new() }
    }

    /// A client, by a hash of who it is, asks for a key.
    pub(super) fn note(&mut self, now: Timestamp, client: u64, key: KeyId) {
        let recent = &mut self.clients[(client % CLIENTS as u64) as usize];
        if recent.client != client || now.since(recent.at) > SITTING {
            *recent = Recent { client, at: now, keys: [None; RECENT] };
        }
        recent.at = now;
        let reuses = self.keys.get(key.0 as usize).map_or(0, |links| links.reuses);
        if recent.keys.contains(&Some((key, reuses))) {
            return;
        }
        let before = recent.keys;
        recent.keys.rotate_right(1);
        recent.keys[0] = Some((key, reuses));
        self.links(key).ask();
        for (former, reuses) in before.into_iter().flatten() {
            let links = self.links(former);
            if links.reuses == reuses && links.follow(key) {
                self.remember(former, key);
            }
        }
    }

    /// Forgets a key whose number is about to be given to another.
    pub(super) fn forget(&mut self, key: KeyId) {
        if let Some(links) = self.keys.get_mut(key.0 as usize) {
            let gone = std::mem::take(links);
            links.reuses = gone.reuses.wrapping_add(1);
            for (other, _) in gone.after {
                self.links(other).before.retain(|former| *former != key);
            }
            for other in gone.before {
                self.links(other).after.retain(|(follower, _)| *follower != key);
            }
        }
    }

    pub(super) fn save(&self) -> Vec<SavedNeighbours> {
        let of = |(slot, links): (u32, &Links)| {
            let Links { asked, after, before, .. } = links.clone();
            SavedNeighbours { key: KeyId(slot), asked, after, before }
        };
        (0..).zip(&self.keys).filter(|(_, links)| links.asked > 0.0).map(of).collect()
    }

    pub(super) fn restore(&mut self, saved: Vec<SavedNeighbours>) {
        *self = Self::new();
        for SavedNeighbours { key, asked, after, before } in saved {
            *self.links(key) = Links { asked, after, before, reuses: 0 };
        }
    }

    /// The keys that one follows, with how likely it does.
    pub(super) fn followed(&self, key: KeyId) -> impl Iterator<Item = (KeyId, f32)> {
        let before = self.keys.get(key.0 as usize).map_or(&[][..], |links| &links.before);
        before.iter().map(move |former| (*former, self.share(*former, key))).filter(|(_, share)| *share >= SHARE_MIN)
    }

    fn share(&self, former: KeyId, key: KeyId) -> f32 {
        let Some(links) = self.keys.get(former.0 as usize) else { return 0.0 };
        let times = links.after.iter().find(|(other, _)| *other == key).map_or(0.0, |(_, times)| *times);
        if times < TIMES_MIN { 0.0 } else { times / links.asked.max(times) }
    }

    /// One more key that another follows, in the place of the least likely where there are too many.
    fn remember(&mut self, former: KeyId, key: KeyId) {
        if self.links(key).before.contains(&former) || self.share(former, key) < SHARE_MIN {
            return;
        }
        if self.links(key).before.len() >= NEIGHBOURS {
            let shares: Vec<f32> = self.links(key).before.clone().into_iter().map(|it| self.share(it, key)).collect();
            let least = (0..shares.len()).min_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap_or(0);
            if shares[least] >= self.share(former, key) {
                return;
            }
            self.links(key).before.swap_remove(least);
        }
        self.links(key).before.push(former);
    }

    fn links(&mut self, key: KeyId) -> &mut Links {
        let slot = key.0 as usize;
        if self.keys.len() <= slot {
            self.keys.resize(slot + 1, Links::default());
        }
        &mut self.keys[slot]
    }
}

impl Links {
    fn ask(&mut self) {
        self.asked += 1.0;
        if self.asked > ASKED_MAX {
            self.asked /= 2.0;
            self.after.iter_mut().for_each(|(_, times)| *times /= 2.0);
        }
    }

    /// Counts a follower; says whether it came often enough to be worth a thought.
    fn follow(&mut self, key: KeyId) -> bool {
        if let Some((_, times)) = self.after.iter_mut().find(|(other, _)| *other == key) {
            *times += 1.0;
            return *times >= TIMES_MIN;
        }
        if self.after.len() < NEIGHBOURS {
            self.after.push((key, 1.0));
        } else {
            // Who comes rarely makes room: what is frequent is found whatever comes between.
            self.after.iter_mut().for_each(|(_, times)| *times -= 1.0 / NEIGHBOURS as f32);
            self.after.retain(|(_, times)| *times > 0.0);
        }
        false
    }
}

/// Clients that are known at a time.
const CLIENTS: usize = 1 << 16;
/// Keys of one client.
const RECENT: usize = 3;
/// A client that was silent for so long begins anew.
const SITTING: Duration = Duration::from_secs(600);
const NEIGHBOURS: usize = 8;
/// Counts are halved when a key's own gets there.
const ASKED_MAX: f32 = 512.0;
/// What followed less often is chance.
const TIMES_MIN: f32 = 2.0;
const SHARE_MIN: f32 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn what_follows_is_known_from_the_other_side_and_forgotten_with_either() {
        let mut together = Together::new();
        for visit in 0..40_u32 {
            // A page, then what it embeds; every fourth time something else, and never within one sitting.
            let (client, now) = (u64::from(visit % 5), at(1_000 * i64::from(visit)));
            together.note(now, client, KeyId(1));
            let next = if visit % 4 == 3 { KeyId(10 + visit) } else { KeyId(2) };
            together.note(now.after(Duration::from_secs(1)), client, next);
        }
        let followed = |together: &Together, key| together.followed(KeyId(key)).collect::<Vec<_>>();
        let [(KeyId(1), share)] = followed(&together, 2)[..] else { panic!("{:?}", followed(&together, 2)) };
        assert!((0.7..0.8).contains(&share), "{share}");
        assert_eq!((followed(&together, 1), followed(&together, 13)), (vec![], vec![]));
        together.forget(KeyId(1));
        assert_eq!(followed(&together, 2), []);
        // Nor does anything follow what a client asked for while the number was another key's.
        for client in 100..110 {
            let now = at(100_000 + client as i64);
            together.note(now, client, KeyId(4));
            together.forget(KeyId(4));
            together.note(now, client, KeyId(5));
        }
        assert_eq!(followed(&together, 5), []);
    }
}
