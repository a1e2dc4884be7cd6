//! How high the true next key stood in a list of proposals.

use nearcast_datasets::KeyId;
use serde::{Deserialize, Serialize};

/// Proposals beyond this place count as misses.
pub(crate) const PLACES: usize = 20;

/// Proposals, best first. `None` stands for a key that the evaluated log never names; it still takes its place.
pub(crate) type Proposals = Vec<Option<KeyId>>;

/// Hit rates and mean reciprocal rank over a number of predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankMetrics {
    /// Predictions measured.
    pub predictions: u64,
    /// Share whose next key was the first proposal.
    pub hit_rate_1: f64,
    /// Share whose next key was among the first 5 proposals.
    pub hit_rate_5: f64,
    /// Share whose next key was among the first 10 proposals.
    pub hit_rate_10: f64,
    /// Share whose next key was among the first 20 proposals.
    pub hit_rate_20: f64,
    /// Mean of one over the next key's place, zero beyond place 20.
    pub mrr_20: f64,
}

/// The metrics of one method, with and without repeats of the current key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MethodMetrics {
    /// Over every prediction.
    pub all: RankMetrics,
    /// Over the predictions whose next key differs from the current one, which then is no proposal either: a prefetch
    /// of what the client just received is worth nothing.
    pub without_repeats: RankMetrics,
}

/// Counts of one method's hits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MethodTally {
    all: Tally,
    without_repeats: Tally,
}

impl MethodTally {
    /// Counts one prediction; `proposals` should hold one more than [`PLACES`], because `current` may be left out.
    pub(crate) fn record(&mut self, proposals: &[Option<KeyId>], current: KeyId, next: KeyId) {
        self.all.record(place(proposals.iter(), next));
        if next != current {
            let others = proposals.iter().filter(|proposal| **proposal != Some(current));
            self.without_repeats.record(place(others, next));
        }
    }

    /// The rates.
    pub(crate) fn metrics(&self) -> MethodMetrics {
        MethodMetrics { all: self.all.metrics(), without_repeats: self.without_repeats.metrics() }
    }
}

/// The 1-based place of `next`, if it is within [`PLACES`].
pub(crate) fn place<'a>(proposals: impl Iterator<Item = &'a Option<KeyId>>, next: KeyId) -> Option<usize> {
    proposals.take(PLACES).position(|proposal| *proposal == Some(next)).map(|index| index + 1)
}

/// Places of true next keys, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    predictions: u64,
    hits: [u64; CUTOFFS.len()],
    reciprocal_sum: f64,
}

impl Tally {
    /// Counts one prediction whose true key stood at this 1-based place; `None` when it was beyond [`PLACES`].
    pub(crate) fn record(&mut self, place: Option<usize>) {
        self.predictions += 1;
        let Some(place) = place else { return };
        for (hits, cutoff) in self.hits.iter_mut().zip(CUTOFFS) {
            *hits += u64::from(place <= cutoff);
        }
        self.reciprocal_sum += 1.0 / place as f64;
    }

    /// Predictions counted.
    pub(crate) fn predictions(&self) -> u64 {
        self.predictions
    }

    /// The rates.
    pub(crate) fn metrics(&self) -> RankMetrics {
        let share = |sum: f64| if self.predictions == 0 { 0.0 } else { sum / self.predictions as f64 };
        let [hit_rate_1, hit_rate_5, hit_rate_10, hit_rate_20] = self.hits.map(|hits| share(hits as f64));
        let mrr_20 = share(self.reciprocal_sum);
        RankMetrics { predictions: self.predictions, hit_rate_1, hit_rate_5, hit_rate_10, hit_rate_20, mrr_20 }
    }
}

/// The places that hit rates are reported for.
const CUTOFFS: [usize; 4] = [1, 5, 10, PLACES];

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(codes: &[u32]) -> Proposals {
        codes.iter().map(|code| Some(KeyId(*code))).collect()
    }

    #[test]
    fn counts_hits_by_place_and_leaves_out_the_current_key_for_non_repeats() {
        let mut tally = MethodTally::default();
        tally.record(&keys(&[7, 3, 4]), KeyId(7), KeyId(3)); // second, but first once the current key is left out
        tally.record(&keys(&[7, 3, 4]), KeyId(7), KeyId(7)); // a repeat
        tally.record(&keys(&[7, 3, 4]), KeyId(9), KeyId(5)); // a miss
        let metrics = tally.metrics();
        assert_eq!((metrics.all.predictions, metrics.without_repeats.predictions), (3, 2));
        assert!((metrics.all.mrr_20 - 1.5 / 3.0).abs() < 1e-12);
        assert!((metrics.all.hit_rate_1 - 1.0 / 3.0).abs() < 1e-12);
        assert!((metrics.without_repeats.mrr_20 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_proposal_at_the_twentieth_place_counts_and_the_one_after_it_does_not() {
        let list = keys(&(0..21).collect::<Vec<_>>());
        let mut tally = MethodTally::default();
        tally.record(&list, KeyId(99), KeyId(19));
        assert!((tally.metrics().all.hit_rate_20 - 1.0).abs() < 1e-12);
        tally.record(&list, KeyId(99), KeyId(20));
        assert!((tally.metrics().all.hit_rate_20 - 0.5).abs() < 1e-12);
        tally.record(&list, KeyId(0), KeyId(20));
        assert!((tally.metrics().without_repeats.hit_rate_20 - 2.0 / 3.0).abs() < 1e-12, "one place moved up");
    }

    #[test]
    fn no_prediction_gives_zeros_and_no_nan() {
        assert_eq!(MethodTally::default().metrics(), MethodMetrics::default());
    }
}
