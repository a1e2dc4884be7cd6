//! Paired block bootstrap: how sure one may be of a difference between two models on the same requests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What stays together when predictions are drawn again: neighbours are not independent of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    /// All predictions about one client.
    Client,
    /// All predictions of one stretch of time.
    #[default]
    Time,
}

/// A difference of two means with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean difference, B minus A.
    pub difference: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Interval {
    /// Whether the interval excludes no difference.
    pub fn is_clear(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// The sums of one block: predictions that count, and what A and B reached on them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BlockSum {
    /// Predictions that count.
    pub(crate) count: f64,
    /// B's sum minus A's.
    pub(crate) difference: f64,
}

/// The difference of two models' means over all predictions, with a percentile interval of `level` from drawing whole
/// blocks with replacement, `turns` times.
///
/// Both models' values of one prediction are drawn together (paired), so what makes a request hard for both cancels. The
/// mean is a ratio of sums, because blocks differ in size. Non-overlapping blocks: Carlstein, "The use of subseries
/// values for estimating the variance of a general statistic from a stationary sequence", Annals of Statistics 14
/// (1986); drawing them: Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of
/// Statistics 17 (1989); clients as blocks: Field and Welsh, "Bootstrapping clustered data", JRSS B 69 (2007).
pub(crate) fn paired_interval(blocks: &[BlockSum], level: f64, turns: usize, seed: u64) -> Interval {
    let mean = |sum: BlockSum| if sum.count > 0.0 { sum.difference / sum.count } else { 0.0 };
    let add = |total: BlockSum, block: &BlockSum| BlockSum {
        count: total.count + block.count,
        difference: total.difference + block.difference,
    };
    let difference = mean(blocks.iter().fold(BlockSum::default(), add));
    if blocks.is_empty() {
        return Interval { difference, low: difference, high: difference };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..turns)
        .map(|_| {
            let drawn = (0..blocks.len()).map(|_| &blocks[rng.random_range(0..blocks.len())]);
            mean(drawn.fold(BlockSum::default(), add))
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((share * turns as f64) as usize).min(turns.saturating_sub(1))];
    let tail = (1.0 - level) / 2.0;
    Interval { difference, low: at(tail), high: at(1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks whose members share a block's own deviation: what makes the plain bootstrap overconfident.
    fn blocks(count: usize, size: usize, shift: f64, rng: &mut ChaCha8Rng) -> Vec<BlockSum> {
        // Twelve uniform draws have the variance of a standard normal one, and nearly its shape.
        let mut normal = || -> f64 { (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0 };
        (0..count)
            .map(|_| {
                let own = normal();
                let difference = (0..size).map(|_| shift + own + normal()).sum();
                BlockSum { count: size as f64, difference }
            })
            .collect()
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let worlds = 300;
        let covered = (0..worlds)
            .filter(|seed| {
                let found = paired_interval(&blocks(60, 20, 0.3, &mut rng), 0.95, 400, *seed);
                found.low <= 0.3 && 0.3 <= found.high
            })
            .count();
        // Binomial(300, 0.95): 285 ± 11 is three standard errors; percentile intervals of 60 blocks fall a little short.
        assert!((270..=297).contains(&covered), "{covered} of {worlds}");
    }

    #[test]
    fn no_difference_is_no_clear_difference_and_the_seed_decides_the_draws() {
        let same = vec![BlockSum { count: 5.0, difference: 0.0 }; 40];
        let found = paired_interval(&same, 0.95, 200, 1);
        assert_eq!(found, Interval { difference: 0.0, low: 0.0, high: 0.0 });
        assert!(!found.is_clear());
        let some = blocks(40, 5, 1.0, &mut ChaCha8Rng::seed_from_u64(2));
        assert_eq!(paired_interval(&some, 0.95, 200, 3), paired_interval(&some, 0.95, 200, 3));
        assert_ne!(paired_interval(&some, 0.95, 200, 3), paired_interval(&some, 0.95, 200, 4));
        let nothing = paired_interval(&[], 0.95, 200, 1);
        assert_eq!(nothing, Interval { difference: 0.0, low: 0.0, high: 0.0 });
    }
}
