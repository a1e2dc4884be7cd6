//! The keys of a synthetic workload: names, sizes, and the chain that sessions walk along.
//!
//! Each key has [`LINK_COUNT`] successors with fixed weights. Half of them lie in the key's own section, which its name
//! shows; the others lean towards what is popular. A key of a numbered family leads to the next number nine times in ten.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};

use super::config::WorkloadConfig;

/// Successors of a key in the chain.
pub(crate) const LINK_COUNT: usize = 8;

/// Every key ever born, by number.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    names: Vec<Box<str>>,
    sizes_bytes: Vec<u64>,
    links: Vec<[u32; LINK_COUNT]>,
    numbered_count: u32,
    alive_count: u32,
    sizes: LogNormal<f64>,
    random: ChaCha8Rng,
}

impl Keys {
    /// The keys that are there from the beginning; `random` is their own.
    pub(crate) fn new(config: &WorkloadConfig, random: ChaCha8Rng) -> Self {
        let families = (f64::from(config.key_count) * config.numbered_share) as u32 / FAMILY_LENGTH;
        let sizes = LogNormal::new(config.size_median_bytes.ln(), config.size_sigma)
            .or_else(|_| LogNormal::new(10.0, 0.0))
            .expect("a deviation of 0 makes a distribution");
        let mut keys = Self {
            names: Vec::new(),
            sizes_bytes: Vec::new(),
            links: Vec::new(),
            numbered_count: families * FAMILY_LENGTH,
            alive_count: config.key_count,
            sizes,
            random,
        };
        for key in 0..config.key_count {
            keys.describe(key);
        }
        keys
    }

    /// Links the keys that are there from the beginning; `at_slot` tells which key has a popularity.
    pub(crate) fn link_all(&mut self, at_slot: &[u32]) {
        for key in 0..self.alive_count {
            let links = self.draw_links(key, at_slot);
            self.links.push(links);
        }
    }

    /// A key is born; returns its number.
    pub(crate) fn bear(&mut self, at_slot: &[u32]) -> u32 {
        let key = u32::try_from(self.names.len()).expect("the configuration bounds births");
        self.describe(key);
        let links = self.draw_links(key, at_slot);
        self.links.push(links);
        key
    }

    /// How many keys were ever born.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn name(&self, key: u32) -> &str {
        &self.names[key as usize]
    }

    pub(crate) fn size_bytes(&self, key: u32) -> u64 {
        self.sizes_bytes[key as usize]
    }

    /// The successors of a key, with the weights of [`Self::weights`].
    pub(crate) fn links(&self, key: u32) -> &[u32; LINK_COUNT] {
        &self.links[key as usize]
    }

    /// How likely each successor is, given that the chain is followed; they sum to 1.
    pub(crate) fn weights(&self, key: u32) -> &'static [f64; LINK_COUNT] {
        if self.has_next_number(key) { &NUMBERED_WEIGHTS } else { &WEIGHTS }
    }

    fn has_next_number(&self, key: u32) -> bool {
        key < self.numbered_count && key % FAMILY_LENGTH != FAMILY_LENGTH - 1
    }

    fn describe(&mut self, key: u32) {
        let name = if key < self.numbered_count {
            format!("/series-{:05}/seg-{:05}.ts", key / FAMILY_LENGTH, key % FAMILY_LENGTH)
        } else {
            format!("/section-{:02}/{:08x}.html", key % SECTION_COUNT, scramble(key))
        };
        self.names.push(name.into());
        let size_bytes = self.sizes.sample(&mut self.random) as u64;
        self.sizes_bytes.push(size_bytes.clamp(SIZE_BYTES_MIN, SIZE_BYTES_MAX));
    }

    fn draw_links(&mut self, key: u32, at_slot: &[u32]) -> [u32; LINK_COUNT] {
        let mut links = [key; LINK_COUNT];
        for index in 0..LINK_COUNT {
            links[index] = if index == 0 && self.has_next_number(key) {
                key + 1
            } else {
                self.draw_link(key, index, &links[..index], at_slot)
            };
        }
        links
    }

    /// A key that is neither `key` nor among `taken`.
    fn draw_link(&mut self, key: u32, index: usize, taken: &[u32], at_slot: &[u32]) -> u32 {
        let born = u32::try_from(self.names.len()).expect("the configuration bounds births");
        let oldest = born.saturating_sub(self.alive_count);
        let mut link = key;
        for _ in 0..LINK_TRIES {
            link = if index.is_multiple_of(2) {
                let any = self.random.random_range(oldest..born);
                // The nearest number of the same section at or below.
                let back = (any % SECTION_COUNT + SECTION_COUNT - key % SECTION_COUNT) % SECTION_COUNT;
                any.checked_sub(back).unwrap_or(any)
            } else {
                at_slot[log_uniform(&mut self.random, at_slot.len())]
            };
            if link != key && !taken.contains(&link) {
                return link;
            }
        }
        // At least one of the next few numbers is free: fewer than LINK_COUNT + 1 are taken.
        (1..=born).map(|step| (link + step) % born).find(|link| *link != key && !taken.contains(link)).unwrap_or(link)
    }
}

/// A position below `bound` whose logarithm is uniform: small ones are likelier.
pub(crate) fn log_uniform(random: &mut impl Rng, bound: usize) -> usize {
    let position = (bound as f64 + 1.0).powf(random.random::<f64>()) - 1.0;
    (position as usize).min(bound - 1)
}

/// A generator of its own for each purpose, so that more draws for one do not change another.
pub(crate) fn random(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(purpose);
    random
}

/// A number from which the order of births cannot be read; distinct for distinct keys.
pub(crate) fn scramble(number: u32) -> u32 {
    let mixed = (number ^ (number >> 16)).wrapping_mul(0x7feb_352d);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846c_a68b);
    mixed ^ (mixed >> 16)
}

const FAMILY_LENGTH: u32 = 64;
const SECTION_COUNT: u32 = 40;
const LINK_TRIES: usize = 32;
const SIZE_BYTES_MIN: u64 = 64;
const SIZE_BYTES_MAX: u64 = 1 << 40;

/// Each successor is 0.6 times as likely as the one before.
const WEIGHTS: [f64; LINK_COUNT] = geometric(0.6);

/// Nine in ten go to the next number.
const NUMBERED_WEIGHTS: [f64; LINK_COUNT] = geometric(0.1);

const fn geometric(ratio: f64) -> [f64; LINK_COUNT] {
    let mut weights = [1.0; LINK_COUNT];
    let mut sum = 1.0;
    let mut index = 1;
    while index < LINK_COUNT {
        weights[index] = weights[index - 1] * ratio;
        sum += weights[index];
        index += 1;
    }
    index = 0;
    while index < LINK_COUNT {
        weights[index] /= sum;
        index += 1;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_are_distinct_and_lead_elsewhere() {
        for key_count in [64, 65, 500] {
            let config = WorkloadConfig { key_count, numbered_share: 0.3, ..WorkloadConfig::default() };
            let mut keys = Keys::new(&config, random(1, 0));
            let at_slot: Vec<u32> = (0..key_count).collect();
            keys.link_all(&at_slot);
            for _ in 0..100 {
                keys.bear(&at_slot);
            }
            for key in 0..key_count + 100 {
                let mut links = keys.links(key).to_vec();
                links.push(key);
                links.sort_unstable();
                links.dedup();
                assert_eq!(links.len(), LINK_COUNT + 1, "key {key} of {key_count}: {:?}", keys.links(key));
                assert!((keys.weights(key).iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn families_lead_from_number_to_number() {
        let config = WorkloadConfig { key_count: 640, numbered_share: 0.2, ..WorkloadConfig::default() };
        let mut keys = Keys::new(&config, random(1, 0));
        keys.link_all(&(0..640).collect::<Vec<_>>());
        assert_eq!(
            (keys.name(0), keys.name(keys.links(0)[0])),
            ("/series-00000/seg-00000.ts", "/series-00000/seg-00001.ts")
        );
        assert!(keys.weights(0)[0] > 0.89 && keys.weights(63)[0] < 0.5 && keys.name(128).starts_with("/section-"));
    }
}
