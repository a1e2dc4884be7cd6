//! The network that weighs a candidate's features: a weighted sum and one layer of rectified units.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    blend::features::{BLEND_FEATURE_COUNT, CONTEXT_COUNT, Features},
    kernel,
};

/// Hidden units.
pub(crate) const UNITS: usize = 16;
/// Rows of hidden weights: one per feature, the units' biases, what each unit adds to the score.
const ROWS: usize = BLEND_FEATURE_COUNT + 2;
const BIASES: usize = BLEND_FEATURE_COUNT;
const OUTPUTS: usize = BLEND_FEATURE_COUNT + 1;

/// Scores candidates; a softmax over their scores and that of "none of them" gives probabilities.
#[derive(Clone, Debug)]
pub(super) struct Ranker {
    weights: Weights,
    /// Sums of squared gradients.
    squares: Weights,
    learned: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Weights {
    linear: Features,
    hidden: [[f32; UNITS]; ROWS],
    none: [f32; CONTEXT_COUNT],
}

/// Everything that the network has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankerState {
    /// Requests learned from.
    pub learned: u64,
    /// Weights: (features) of the sum; (features + 2, 16) of the hidden layer, its biases and its outputs, row by row;
    /// (4) of the score of "none of them".
    pub weights: Vec<f32>,
    /// Sums of squared gradients, shaped as the weights.
    pub squares: Vec<f32>,
}

impl Default for RankerState {
    /// A network that has learned nothing.
    fn default() -> Self {
        Ranker::new(0).state()
    }
}

impl Weights {
    const COUNT: usize = BLEND_FEATURE_COUNT + ROWS * UNITS + CONTEXT_COUNT;

    fn zeros() -> Self {
        Self { linear: [0.0; BLEND_FEATURE_COUNT], hidden: [[0.0; UNITS]; ROWS], none: [0.0; CONTEXT_COUNT] }
    }

    fn parts_mut(&mut self) -> [&mut [f32]; 3] {
        [&mut self.linear, self.hidden.as_flattened_mut(), &mut self.none]
    }

    fn to_vec(&self) -> Vec<f32> {
        [&self.linear[..], self.hidden.as_flattened(), &self.none].concat()
    }

    fn from_slice(numbers: &[f32]) -> Self {
        let (mut weights, mut rest) = (Self::zeros(), numbers);
        for part in weights.parts_mut() {
            let (head, tail) = rest.split_at(part.len());
            part.copy_from_slice(head);
            rest = tail;
        }
        weights
    }
}

impl Ranker {
    /// A network that has learned nothing; units start out different, by `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = Weights::zeros();
        let limit = 1.0 / (BLEND_FEATURE_COUNT as f32).sqrt();
        for weight in weights.hidden[..BLEND_FEATURE_COUNT].as_flattened_mut() {
            *weight = rng.random_range(-limit..limit);
        }
        for weight in &mut weights.hidden[OUTPUTS] {
            *weight = rng.random_range(-0.25..0.25);
        }
        let mut squares = Weights::zeros();
        for part in squares.parts_mut() {
            part.fill(SQUARES_INIT);
        }
        Self { weights, squares, learned: 0 }
    }

    /// The network that `state` was read off.
    ///
    /// # Errors
    /// [`Error::Config`] when its numbers are not finite or too few or many.
    pub(super) fn from_state(state: &RankerState) -> Result<Self> {
        let lists = [&state.weights, &state.squares];
        let sound = lists.iter().all(|list| list.len() == Weights::COUNT && list.iter().all(|it| it.is_finite()));
        if !sound || state.squares.iter().any(|square| *square < 0.0) {
            let value = lists.map(|list| list.len().to_string()).join(", ") + " numbers";
            return Err(Error::Config {
                field: "blend ranker",
                value,
                expected: "finite numbers, as many as it has weights",
            });
        }
        let [weights, squares] = lists.map(|list| Weights::from_slice(list));
        Ok(Self { weights, squares, learned: state.learned })
    }

    /// Everything learned so far.
    pub(super) fn state(&self) -> RankerState {
        RankerState { learned: self.learned, weights: self.weights.to_vec(), squares: self.squares.to_vec() }
    }

    /// Puts the probability of every candidate into `out`; the rest up to one is that of none of them.
    pub(super) fn probabilities(&self, candidates: &[Features], context: &[f32; CONTEXT_COUNT], out: &mut Vec<f32>) {
        out.clear();
        // The widest vectors that this processor has; lanes and their order are fixed, so results are the same with any.
        out.resize(candidates.len(), 0.0);
        pulp::Arch::new().dispatch(Scoring { ranker: self, candidates, scores: out });
        let none: f32 = self.weights.none.iter().zip(context).map(|(weight, input)| weight * input).sum();
        let highest = kernel::highest(out).max(none);
        let sum = kernel::exp(none - highest) + kernel::exp_all(out, highest);
        out.iter_mut().for_each(|score| *score /= sum);
    }

    #[inline(always)]
    fn score(&self, features: &Features) -> f32 {
        let mut units = self.units(features);
        for (unit, weight) in units.iter_mut().zip(&self.weights.hidden[OUTPUTS]) {
            *unit = rectify(*unit) * weight;
        }
        let mut linear = [0.0; PARTS];
        for (weights, inputs) in self.weights.linear.as_chunks::<PARTS>().0.iter().zip(features.as_chunks::<PARTS>().0)
        {
            for part in 0..PARTS {
                linear[part] += weights[part] * inputs[part];
            }
        }
        linear.iter().sum::<f32>() + units.iter().sum::<f32>()
    }

    /// The units' inputs.
    #[inline(always)]
    fn units(&self, features: &Features) -> [f32; UNITS] {
        let mut units = self.weights.hidden[BIASES];
        for (row, input) in self.weights.hidden.iter().zip(features) {
            for unit in 0..UNITS {
                units[unit] += row[unit] * input;
            }
        }
        units
    }

    /// One step of Adagrad against the gradient of −ln P(`target`), where `target` is a candidate's place, or `None`
    /// when none of them came. `probabilities` are this network's for the same candidates. Returns the loss.
    pub(super) fn learn(
        &mut self,
        candidates: &[Features],
        context: &[f32; CONTEXT_COUNT],
        probabilities: &[f32],
        target: Option<usize>,
        learning_rate: f32,
    ) -> f32 {
        let mut gradient = Weights::zeros();
        for (place, (features, probability)) in candidates.iter().zip(probabilities).enumerate() {
            let error = probability - if target == Some(place) { 1.0 } else { 0.0 };
            if error.abs() < ERROR_MIN {
                continue;
            }
            let units = self.units(features);
            let mut errors = [0.0; UNITS];
            for unit in 0..UNITS {
                let slope = if units[unit] > 0.0 { 1.0 } else { LEAK };
                errors[unit] = error * slope * self.weights.hidden[OUTPUTS][unit];
                gradient.hidden[BIASES][unit] += errors[unit];
                gradient.hidden[OUTPUTS][unit] += error * rectify(units[unit]);
            }
            for (feature, input) in features.iter().enumerate() {
                gradient.linear[feature] += error * input;
                for (gradient, error) in gradient.hidden[feature].iter_mut().zip(&errors) {
                    *gradient += error * input;
                }
            }
        }
        let none = (1.0 - probabilities.iter().sum::<f32>()).max(0.0);
        let error = none - if target.is_none() { 1.0 } else { 0.0 };
        for (gradient, input) in gradient.none.iter_mut().zip(context) {
            *gradient = error * input;
        }
        self.descend(&mut gradient, learning_rate);
        self.learned += 1;
        -target.map_or(none, |place| probabilities[place]).max(f32::MIN_POSITIVE).ln()
    }

    fn descend(&mut self, gradient: &mut Weights, learning_rate: f32) {
        let parts = self.weights.parts_mut().into_iter().zip(self.squares.parts_mut()).zip(gradient.parts_mut());
        for ((weights, squares), gradients) in parts {
            for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradients) {
                *square += *gradient * *gradient;
                *weight -= learning_rate * *gradient * kernel::inverse_root(*square);
            }
        }
    }
}

/// Independent sums of the weighted sum.
const PARTS: usize = 4;
// Nothing may be left over.
const _: () = assert!(BLEND_FEATURE_COUNT.is_multiple_of(PARTS));

/// The scoring of many candidates.
struct Scoring<'a> {
    ranker: &'a Ranker,
    candidates: &'a [Features],
    scores: &'a mut [f32],
}

impl pulp::WithSimd for Scoring<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _simd: S) {
        for (score, features) in self.scores.iter_mut().zip(self.candidates) {
            *score = self.ranker.score(features);
        }
    }
}

/// Rectified, with a slight slope below zero so that no unit dies.
#[inline(always)]
fn rectify(input: f32) -> f32 {
    input.max(LEAK * input)
}

const LEAK: f32 = 0.01;
/// Errors below this teach nothing worth its time.
const ERROR_MIN: f32 = 5e-4;
/// Keeps first steps small.
const SQUARES_INIT: f32 = 1e-4;
