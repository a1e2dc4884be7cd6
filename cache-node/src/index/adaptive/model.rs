//! The model of a segment's next request, and the value of a place in the cache that follows from it.

use super::math::sigmoid;

/// The horizons of the model, in multiples of the cache's size in requests.
pub(super) const HORIZONS: [f32; LANES] = [1.0 / 12.0, 1.0 / 3.0, 4.0 / 3.0, 16.0 / 3.0];

const LANES: usize = 4;

/// One number per horizon.
pub(super) type Lanes = [f32; LANES];

/// Which bucket of each feature a segment is in.
pub(super) type Features = [u8; BUCKETS.len()];

/// Buckets of each feature: time since the last request; the last three gaps; lateness against the last gap; three
/// decayed counts; age since the first request; requests; time since the last request × the share of hits around it ×
/// whether it was the only one; bytes.
pub(super) const BUCKETS: [usize; 12] = [64, 33, 33, 33, 33, 24, 24, 24, 24, 16, 256, 32];

/// The features that carry what is believed before anything is learned.
const IDLE: usize = 0;
const LONG_COUNT: usize = 7;

/// A bucket's rate of learning is `RATE / sqrt(RATE_DELAY + times seen)`, but at least `RATE_MIN`.
const RATE: f32 = 0.2;
const RATE_DELAY: f32 = 100.0;
const RATE_MIN: f32 = 0.006;
const BIAS_RATE: f32 = 0.01;

/// For each horizon a logistic regression on one-hot buckets, all of them in one pass.
///
/// ```text
/// P(asked for again within h) = sigmoid(bias[h] + sum over features f of weight[f][bucket of f][h])
/// ```
///
/// Buckets let each feature act in any shape, which is what tells loops from recency from frequency; sums of them are
/// as fast as a linear model. Stochastic gradient steps on log loss, each bucket with a rate that falls with how often
/// it was seen, down to a floor that follows drift. About 11 KB whatever the cache's size.
#[derive(Debug)]
pub(super) struct Model {
    bias: Lanes,
    weights: Vec<Lanes>,
    seen: Vec<f32>,
}

impl Default for Model {
    /// Believes in recency and a little in frequency, as LRU and LFU do, until it knows better.
    fn default() -> Self {
        let buckets = BUCKETS.iter().sum();
        let mut weights = vec![[0.0; LANES]; buckets];
        for (feature, middle, slope) in [(IDLE, 32.0, -0.12), (LONG_COUNT, 8.0, 0.08)] {
            let buckets = &mut weights[OFFSETS[feature]..][..BUCKETS[feature]];
            for (bucket, weight) in buckets.iter_mut().enumerate() {
                *weight = [(bucket as f32 - middle) * slope; LANES];
            }
        }
        let bias = std::array::from_fn(|lane| 0.6 * lane as f32 - 1.5);
        Self { bias, weights, seen: vec![0.0; buckets] }
    }
}

impl Model {
    /// Expected hits per request of holding the segment, for as long as is best for it.
    ///
    /// Holding it until horizon `h` wins a hit with probability `P(h)` and occupies a place for
    /// `E(h) = integral from 0 to h of (1 - P)` requests; the value is the largest `P(h) / E(h)` (Gittins' index of the
    /// segment as an arm of a bandit). No horizon has to be chosen: a segment asked for soon is judged by the near
    /// ones, one in a long loop by the far ones.
    pub(super) fn density(&self, features: &Features) -> f32 {
        let probabilities = self.logits(features).map(sigmoid);
        let (mut occupied, mut best, mut before) = (0.0, 0.0_f32, 0.0_f32);
        let mut horizon_before = 0.0;
        for (probability, horizon) in probabilities.into_iter().zip(HORIZONS) {
            // The regressions are independent: nothing else makes them rise with the horizon.
            let probability = probability.max(before);
            occupied += (horizon - horizon_before) * (1.0 - 0.5 * (before + probability));
            best = best.max(probability / occupied);
            (before, horizon_before) = (probability, horizon);
        }
        best
    }

    /// Learns that the segment so described was (1) or was not (0) asked for within the horizons in `lanes`.
    pub(super) fn learn(&mut self, features: &Features, lanes: u8, label: f32) {
        let logits = self.logits(features);
        let errors: Lanes = std::array::from_fn(|lane| {
            let is_labelled = f32::from((lanes >> lane) & 1);
            is_labelled * (sigmoid(logits[lane]) - label)
        });
        for (bias, error) in self.bias.iter_mut().zip(errors) {
            *bias -= BIAS_RATE * error;
        }
        let share = lanes.count_ones() as f32 / LANES as f32;
        for (offset, bucket) in OFFSETS.into_iter().zip(features) {
            let place = offset + usize::from(*bucket);
            self.seen[place] += share;
            let rate = (RATE / (self.seen[place] + RATE_DELAY).sqrt()).max(RATE_MIN);
            for (weight, error) in self.weights[place].iter_mut().zip(errors) {
                *weight -= rate * error;
            }
        }
    }

    fn logits(&self, features: &Features) -> Lanes {
        let mut sums = self.bias;
        for (offset, bucket) in OFFSETS.into_iter().zip(features) {
            let weights = &self.weights[offset + usize::from(*bucket)];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        sums
    }
}

/// Where each feature's buckets begin.
const OFFSETS: [usize; BUCKETS.len()] = {
    let mut offsets = [0; BUCKETS.len()];
    let mut feature = 1;
    while feature < BUCKETS.len() {
        offsets[feature] = offsets[feature - 1] + BUCKETS[feature - 1];
        feature += 1;
    }
    offsets
};
