//! Which keys a target has to beat, and how likely each of them was to be among the rivals.

use nearcast_datasets::Map;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws negatives by request count to a power, and knows the odds of every candidate.
#[derive(Clone, Debug)]
pub(crate) struct NegativeSampler {
    /// Running sum of the proposal over the catalogue, unnormalised.
    cumulative: Vec<f64>,
    /// Per item: its share of requests, which is its chance to be another cell's target.
    shares: Vec<f32>,
}

/// The keys that all targets of a batch compete with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    /// Catalogue positions, each once: the batch's targets first, then the negatives.
    pub(crate) items: Vec<u32>,
    /// ln of the chance that the item is among the candidates.
    pub(crate) log_chances: Vec<f32>,
    places: Map<u32, u32>,
}

impl Candidates {
    /// The position of an item among the candidates.
    pub(crate) fn place(&self, item: u32) -> Option<u32> {
        self.places.get(&item).copied()
    }

    fn insert(&mut self, item: u32) {
        // There are never more candidates than items, and those are numbered by u32.
        let next = u32::try_from(self.items.len()).expect("items are numbered by u32");
        if *self.places.entry(item).or_insert(next) == next {
            self.items.push(item);
        }
    }
}

impl NegativeSampler {
    pub(crate) fn new(counts: &[u64], power: f64) -> Self {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let shares = counts.iter().map(|count| (*count as f64 / total) as f32).collect();
        let mut sum = 0.0;
        let cumulative = counts
            .iter()
            .map(|count| {
                sum += (*count as f64).powf(power);
                sum
            })
            .collect();
        Self { cumulative, shares }
    }

    /// The candidates for a batch with these targets and `negatives` further draws.
    pub(crate) fn draw(&self, targets: &[u32], negatives: usize, rng: &mut ChaCha8Rng) -> Candidates {
        let mut candidates = Candidates::default();
        targets.iter().for_each(|target| candidates.insert(*target));
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        for _ in 0..negatives {
            let point = rng.random::<f64>() * total;
            let item = self.cumulative.partition_point(|sum| *sum <= point).min(self.cumulative.len() - 1);
            candidates.insert(u32::try_from(item).expect("items are numbered by u32"));
        }
        let chance = |item: &u32| self.log_chance(*item, targets.len(), negatives);
        candidates.log_chances = candidates.items.iter().map(chance).collect();
        candidates
    }

    /// ln P(the item is drawn at least once) by `targets` draws from the requests and `negatives` from the proposal.
    fn log_chance(&self, item: u32, targets: usize, negatives: usize) -> f32 {
        let position = item as usize;
        let before = if position == 0 { 0.0 } else { self.cumulative[position - 1] };
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let proposal = (self.cumulative[position] - before) / total;
        let expected = targets as f64 * f64::from(self.shares[position]) + negatives as f64 * proposal;
        (-(-expected).exp_m1()).max(f64::from(f32::MIN_POSITIVE)).ln() as f32
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn candidates_are_distinct_with_targets_first() {
        let sampler = NegativeSampler::new(&[1, 100, 1, 50], 0.5);
        let candidates = sampler.draw(&[2, 2, 0], 64, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(candidates.items[..2], [2, 0]);
        assert_eq!((candidates.place(2), candidates.place(0)), (Some(0), Some(1)));
        let mut sorted = candidates.items;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
    }

    #[test]
    fn chances_are_how_often_an_item_is_really_drawn() {
        let counts = [1, 9, 30, 60];
        let sampler = NegativeSampler::new(&counts, 0.5);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut seen = [0_u32; 4];
        let turns = 4_000;
        for _ in 0..turns {
            let targets: Vec<u32> = (0..2)
                .map(|_| {
                    let point = rng.random_range(0..100);
                    if point < 1 {
                        0
                    } else if point < 10 {
                        1
                    } else if point < 40 {
                        2
                    } else {
                        3
                    }
                })
                .collect();
            sampler.draw(&targets, 3, &mut rng).items.iter().for_each(|item| seen[*item as usize] += 1);
        }
        for (item, seen) in (0_u32..).zip(seen) {
            let (found, said) = (f64::from(seen) / f64::from(turns), f64::from(sampler.log_chance(item, 2, 3)).exp());
            // The Poisson form is an approximation of drawing with replacement.
            assert!((found - said).abs() < 0.06, "item {item}: drawn {found}, said {said}");
        }
    }
}
