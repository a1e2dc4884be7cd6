//! Which keys a target has to beat, and how likely each of them was to be among the rivals.

use nearcast_datasets::Map;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws negatives by request count to a power, and knows the odds of every candidate.
#[derive(Clone, Debug)]
pub(crate) struct NegativeSampler {
    /// Running sum of the proposal over the catalogue, unnormalised.
    cumulative: Vec<f64>,
    /// The range of the running sum, cut into as many equal parts as there are items: where the search for a point of
    /// each part begins, and after the last part where it ends (Chen and Asau's guide table, 1974).
    guide: Vec<u32>,
    odds: Vec<Odds>,
}

/// How likely an item is to be drawn, in one place because both are asked together.
#[derive(Clone, Copy, Debug)]
struct Odds {
    /// Its share of requests, which is its chance to be another cell's target.
    request: f32,
    /// Its share of the proposal, which is its chance to be a negative.
    negative: f32,
}

/// The items that a batch is about: those that its targets compete with, and its inputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    /// Catalogue positions, each once: the targets, the negatives, and inputs that are neither.
    pub(crate) items: Vec<u32>,
    /// ln of the chance that the item is among the candidates, for all items but the last-named inputs.
    pub(crate) log_chances: Vec<f32>,
    /// Per target, in the order given: its position among the items.
    pub(crate) labels: Vec<u32>,
    places: Map<u32, u32>,
}

impl Candidates {
    /// Makes sure that an input is among the items, and returns its position.
    pub(crate) fn insert(&mut self, item: u32) -> u32 {
        // There are never more candidates than items, and those are numbered by u32.
        let next = u32::try_from(self.items.len()).expect("items are numbered by u32");
        let place = *self.places.entry(item).or_insert(next);
        if place == next {
            self.items.push(item);
        }
        place
    }
}

impl NegativeSampler {
    pub(crate) fn new(counts: &[u64], power: f64) -> Self {
        let mut sum = 0.0;
        let cumulative: Vec<f64> = counts
            .iter()
            .map(|count| {
                sum += (*count as f64).powf(power);
                sum
            })
            .collect();
        let mut guide = Vec::with_capacity(counts.len() + 1);
        let mut item = 0;
        for part in 0..=counts.len() {
            let point = sum * part as f64 / counts.len() as f64;
            item += cumulative[item..].iter().take_while(|sum| **sum <= point).count();
            guide.push(u32::try_from(item).expect("items are numbered by u32"));
        }
        let requests = counts.iter().sum::<u64>().max(1) as f64;
        let odds = counts.iter().map(|count| Odds {
            request: (*count as f64 / requests) as f32,
            negative: ((*count as f64).powf(power) / sum) as f32,
        });
        Self { odds: odds.collect(), cumulative, guide }
    }

    /// The candidates for a batch with these targets and `negatives` further draws.
    pub(crate) fn draw(&self, targets: &[u32], negatives: usize, rng: &mut ChaCha8Rng) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.places.reserve(targets.len() + negatives);
        candidates.labels = targets.iter().map(|target| candidates.insert(*target)).collect();
        for _ in 0..negatives {
            let item = self.find(rng.random::<f64>());
            candidates.insert(u32::try_from(item).expect("items are numbered by u32"));
        }
        // Gathered first, since they lie far apart and the arithmetic would keep each from being fetched early.
        let odds: Vec<Odds> = candidates.items.iter().map(|item| self.odds[*item as usize]).collect();
        candidates.log_chances = odds.iter().map(|odds| odds.log_chance(targets.len(), negatives)).collect();
        candidates
    }

    /// The first item whose running sum is above this share (from 0 to 1) of the whole.
    fn find(&self, share: f64) -> usize {
        let last = self.cumulative.len() - 1;
        let point = share * self.cumulative[last];
        let part = ((share * self.cumulative.len() as f64) as usize).min(last);
        // The parts' bounds are rounded: the item may lie one beyond them.
        let start = (self.guide[part] as usize).saturating_sub(1);
        let end = (self.guide[part + 1] as usize + 1).min(self.cumulative.len());
        (start + self.cumulative[start..end].partition_point(|sum| *sum <= point)).min(last)
    }
}

impl Odds {
    /// ln P(the item is drawn at least once) by `targets` draws from the requests and `negatives` from the proposal.
    fn log_chance(self, targets: usize, negatives: usize) -> f32 {
        let Self { request, negative } = self;
        let expected = targets as f64 * f64::from(request) + negatives as f64 * f64::from(negative);
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
        assert_eq!(candidates.labels, [0, 0, 1]);
        let mut sorted = candidates.items;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3]);
    }

    #[test]
    fn the_guide_finds_what_a_search_of_everything_finds() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for counts in
            [vec![1], vec![0, 0, 5, 0], (0..1_000_u64).map(|item| 1_000_000 / (item + 1) * (item % 3)).collect()]
        {
            let sampler = NegativeSampler::new(&counts, 0.75);
            let total = sampler.cumulative[counts.len() - 1];
            for _ in 0..2_000 {
                let share = rng.random::<f64>();
                let expected = sampler.cumulative.partition_point(|sum| *sum <= share * total);
                assert_eq!(sampler.find(share), expected);
            }
        }
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
            let (found, said) =
                (f64::from(seen) / f64::from(turns), f64::from(sampler.odds[item as usize].log_chance(2, 3)).exp());
            // The Poisson form is an approximation of drawing with replacement.
            assert!((found - said).abs() < 0.06, "item {item}: drawn {found}, said {said}");
        }
    }
}
