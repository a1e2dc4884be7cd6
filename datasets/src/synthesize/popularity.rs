//! Which keys are popular where and when: Zipf over slots, of which each holds one key at a time.
//!
//! A slot is a rank of global popularity. A region's own taste ranks the same slots in another order, and so does the
//! taste of each part of the local day, which regions share: what is asked for in the evening follows the evening around. Keys move between
//! slots as time goes by (drift), and new keys take slots from old ones, which retire: only links lead to them then.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    config::{DAYPARTS, WorkloadConfig},
    keys::{Keys, log_uniform},
};
use crate::Timestamp;

/// Where and at what part of its day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) region: usize,
    pub(crate) daypart: usize,
}

/// The state of popularity at one time.
#[derive(Clone, Debug)]
pub(crate) struct Popularity {
    zipf: Zipf,
    regional_share: f64,
    daypart_share: f64,
    tastes: Vec<Taste>,
    /// By part of the local day; none when all are alike.
    daypart_tastes: Vec<Taste>,
    at_slot: Vec<u32>,
    slot_of: Vec<u32>,
    start: Timestamp,
    swaps: Schedule,
    births: Schedule,
    random: ChaCha8Rng,
}

impl Popularity {
    /// Popularity at the beginning; `random` is its own. It also links the keys, which takes their popularity.
    pub(crate) fn new(config: &WorkloadConfig, keys: &mut Keys, mut random: ChaCha8Rng) -> Self {
        let slot_count = config.key_count as usize;
        let mut at_slot: Vec<u32> = (0..config.key_count).collect();
        rand::seq::SliceRandom::shuffle(&mut *at_slot, &mut random);
        let mut slot_of = vec![NO_SLOT; slot_count];
        for (key, slot) in at_slot.iter().zip(0..) {
            slot_of[*key as usize] = slot;
        }
        keys.link_all(&at_slot);
        let tastes = config.regions.iter().map(|_| Taste::draw(config.key_count, &mut random)).collect();
        // Drawn only where they are used, so that a workload without them stays what it was.
        let daypart_count = if config.daypart_share > 0.0 { DAYPARTS } else { 0 };
        let daypart_tastes = (0..daypart_count).map(|_| Taste::draw(config.key_count, &mut random)).collect();
        let per_day = |share: f64| Schedule { per_micro: share * slot_count as f64 / MICROS_PER_DAY, done: 0 };
        Self {
            zipf: Zipf::new(slot_count, config.zipf_exponent),
            regional_share: config.regional_share,
            daypart_share: config.daypart_share,
            tastes,
            daypart_tastes,
            at_slot,
            slot_of,
            start: config.start,
            swaps: per_day(config.drift_per_day),
            births: per_day(config.newborn_per_day),
            random,
        }
    }

    /// Lets drift and births happen up to `now`.
    pub(crate) fn advance(&mut self, now: Timestamp, keys: &mut Keys) {
        let elapsed = now.micros() - self.start.micros();
        for _ in 0..self.swaps.due(elapsed) {
            let (one, two) = (self.any_slot(), self.any_slot());
            let (first, second) = (self.at_slot[one], self.at_slot[two]);
            self.place(first, two);
            self.place(second, one);
        }
        for _ in 0..self.births.due(elapsed) {
            let newborn = keys.bear(&self.at_slot);
            self.slot_of.push(NO_SLOT);
            let hot = self.any_slot();
            let cold = self.random.random_range(0..self.at_slot.len());
            let (displaced, retired) = (self.at_slot[hot], self.at_slot[cold]);
            self.slot_of[retired as usize] = NO_SLOT;
            if displaced != retired {
                self.place(displaced, cold);
            }
            self.place(newborn, hot);
        }
    }

    /// Draws a key by the popularity in a region at a part of its day.
    pub(crate) fn draw(&self, scene: Scene, random: &mut impl Rng) -> u32 {
        let rank = self.zipf.draw(random);
        if let Some(taste) = self.daypart_tastes.get(scene.daypart)
            && random.random::<f64>() < self.daypart_share
        {
            return self.at_slot[taste.slot(rank)];
        }
        let regional = random.random::<f64>() < self.regional_share;
        self.at_slot[if regional { self.tastes[scene.region].slot(rank) } else { rank }]
    }

    /// The chance that [`Self::draw`] draws this key.
    pub(crate) fn chance(&self, scene: Scene, key: u32) -> f64 {
        match self.slot_of[key as usize] {
            NO_SLOT => 0.0,
            slot => self.slot_chance(scene, slot as usize),
        }
    }

    /// The key at a slot.
    pub(crate) fn key_at(&self, slot: usize) -> u32 {
        self.at_slot[slot]
    }

    /// The `count` likeliest slots with their chances, likeliest first. Only the part of the day changes them.
    pub(crate) fn top_slots(&self, scene: Scene, count: usize) -> Vec<(usize, f64)> {
        let taste = &self.tastes[scene.region];
        let daypart = self.daypart_tastes.get(scene.daypart);
        let mut best: Vec<(usize, f64)> = Vec::new();
        for rank in 0..self.at_slot.len() {
            for slot in [rank, taste.slot(rank)].into_iter().chain(daypart.map(|taste| taste.slot(rank))) {
                if !best.iter().any(|(known, _)| *known == slot) {
                    best.push((slot, self.slot_chance(scene, slot)));
                }
            }
            best.sort_by(|one, two| two.1.total_cmp(&one.1).then(one.0.cmp(&two.0)));
            best.truncate(count);
            // What was not seen yet ranks lower in every order.
            let unseen = self.zipf.chances.get(rank + 1).copied().unwrap_or(0.0);
            if best.len() == count && best[count - 1].1 >= unseen {
                break;
            }
        }
        best
    }

    fn slot_chance(&self, scene: Scene, slot: usize) -> f64 {
        let regional = self.zipf.chances[self.tastes[scene.region].rank(slot)];
        let always = (1.0 - self.regional_share) * self.zipf.chances[slot] + self.regional_share * regional;
        match self.daypart_tastes.get(scene.daypart) {
            Some(taste) => {
                (1.0 - self.daypart_share) * always + self.daypart_share * self.zipf.chances[taste.rank(slot)]
            }
            None => always,
        }
    }

    fn any_slot(&mut self) -> usize {
        log_uniform(&mut self.random, self.at_slot.len())
    }

    fn place(&mut self, key: u32, slot: usize) {
        self.at_slot[slot] = key;
        self.slot_of[key as usize] = slot as u32;
    }
}

/// No slot: the key has retired.
const NO_SLOT: u32 = u32::MAX;

const MICROS_PER_DAY: f64 = 86_400e6;

/// Things that happen at an even pace.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    per_micro: f64,
    done: u64,
}

impl Schedule {
    /// How many are due now that were not before.
    fn due(&mut self, elapsed_micros: i64) -> u64 {
        let total = (elapsed_micros as f64 * self.per_micro) as u64;
        let due = total.saturating_sub(self.done);
        self.done += due;
        due
    }
}

/// A region's order of the slots: an affine permutation, which needs no table in either direction.
#[derive(Clone, Copy, Debug)]
struct Taste {
    factor: u64,
    inverse: u64,
    shift: u64,
    count: u64,
}

impl Taste {
    fn draw(count: u32, random: &mut impl Rng) -> Self {
        let count = u64::from(count);
        loop {
            let factor = random.random_range(1..count);
            if let Some(inverse) = inverse(factor, count) {
                return Self { factor, inverse, shift: random.random_range(0..count), count };
            }
        }
    }

    fn slot(&self, rank: usize) -> usize {
        ((rank as u64 * self.factor + self.shift) % self.count) as usize
    }

    fn rank(&self, slot: usize) -> usize {
        ((slot as u64 + self.count - self.shift) % self.count * self.inverse % self.count) as usize
    }
}

/// The number that undoes multiplication by `factor` modulo `modulus`, if there is one.
fn inverse(factor: u64, modulus: u64) -> Option<u64> {
    let (mut old, mut new) = ((i128::from(factor), 1_i128), (i128::from(modulus), 0_i128));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    (old.0 == 1).then(|| u64::try_from(old.1.rem_euclid(i128::from(modulus))).ok())?
}

/// A Zipf distribution over ranks from 0, drawn in constant time by the alias method.
#[derive(Clone, Debug)]
struct Zipf {
    chances: Vec<f64>,
    /// For each rank: how often it stands for itself, and for whom otherwise.
    table: Vec<(f64, u32)>,
}

impl Zipf {
    fn new(count: usize, exponent: f64) -> Self {
        let mut chances: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        let sum: f64 = chances.iter().rev().sum();
        chances.iter_mut().for_each(|chance| *chance /= sum);
        let mut table: Vec<(f64, u32)> = chances.iter().map(|chance| (chance * count as f64, 0)).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..count as u32).partition(|rank| table[*rank as usize].0 < 1.0);
        while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
            table[low as usize].1 = high;
            table[high as usize].0 -= 1.0 - table[low as usize].0;
            if table[high as usize].0 < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // What is left over differs from 1 by rounding only.
        small.into_iter().chain(large).for_each(|rank| table[rank as usize].0 = 1.0);
        Self { chances, table }
    }

    fn draw(&self, random: &mut impl Rng) -> usize {
        let point = random.random::<f64>() * self.table.len() as f64;
        let column = (point as usize).min(self.table.len() - 1);
        let (own, other) = self.table[column];
        if point - (column as f64) < own { column } else { other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::keys::random;

    fn workload(daypart_share: f64) -> (Popularity, Keys) {
        let config = WorkloadConfig {
            key_count: 100,
            newborn_per_day: 0.5,
            drift_per_day: 2.0,
            daypart_share,
            ..WorkloadConfig::default()
        };
        let mut keys = Keys::new(&config, random(7, 0));
        let popularity = Popularity::new(&config, &mut keys, random(7, 1));
        (popularity, keys)
    }

    #[test]
    fn draws_follow_the_stated_chances_also_after_drift_and_births() {
        let (mut popularity, mut keys) = workload(0.4);
        let scene = Scene { region: 1, daypart: 4 };
        let later = Timestamp::from_micros(popularity.start.micros() + 3 * 86_400_000_000);
        popularity.advance(later, &mut keys);
        assert_eq!(keys.len(), 100 + 150);
        let mut counts = vec![0_u32; keys.len()];
        let mut random = random(7, 2);
        let draws = 200_000;
        (0..draws).for_each(|_| counts[popularity.draw(scene, &mut random) as usize] += 1);
        let mut total = 0.0;
        for (key, count) in counts.iter().enumerate() {
            let chance = popularity.chance(scene, key as u32);
            let deviation = (chance * (1.0 - chance) / f64::from(draws)).sqrt();
            let found = f64::from(*count) / f64::from(draws);
            assert!((found - chance).abs() <= 5.0 * deviation, "key {key}: {found} is not about {chance}");
            total += chance;
        }
        assert!((total - 1.0).abs() < 1e-9);
    }

    #[test]
    fn top_slots_are_those_of_a_full_sort() {
        for (region, daypart_share) in [(0, 0.0), (1, 0.0), (2, 0.5), (1, 1.0)] {
            let (popularity, _) = workload(daypart_share);
            let scene = Scene { region, daypart: region + 2 };
            let mut all: Vec<f64> = (0..100).map(|slot| popularity.slot_chance(scene, slot)).collect();
            all.sort_by(|one, two| two.total_cmp(one));
            let top: Vec<f64> = popularity.top_slots(scene, 30).into_iter().map(|(_, chance)| chance).collect();
            assert_eq!(top, all[..30]);
        }
    }

    #[test]
    fn a_taste_orders_every_slot_once() {
        let taste = Taste::draw(97, &mut random(3, 0));
        let mut slots: Vec<usize> = (0..97).map(|rank| taste.slot(rank)).collect();
        assert!(slots.iter().enumerate().all(|(rank, slot)| taste.rank(*slot) == rank));
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..97));
    }
}
