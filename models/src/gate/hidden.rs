//! The gate's hidden layer: what depends on several features at once, which no weighted sum of them can say.

use serde::{Deserialize, Serialize};

use crate::{
    Error, GateFeatures, Result,
    gate::features::{BIAS, GATE_FEATURE_COUNT},
    kernel::inverse_root,
};

/// Hidden units.
const UNITS: usize = 16;
/// One row of weights per feature, then the units' biases, then what each unit adds to the log-odds.
const ROWS: usize = GATE_FEATURE_COUNT + 2;
const BIASES: usize = GATE_FEATURE_COUNT;
const OUTPUTS: usize = GATE_FEATURE_COUNT + 1;

/// A correction of the gate's log-odds, learned outcome by outcome.
///
/// One layer of rectified units over standardised features, trained by gradient steps that shrink weight by weight
/// (`AdaGrad`: Duchi et al., JMLR 2011). It says nothing until it has been taught: all outputs start at zero. What the
/// features' means and spreads are is learned on the way. Nothing in it is random.
#[derive(Clone, Debug)]
pub(super) struct HiddenLayer {
    learned: u64,
    means: GateFeatures,
    variances: GateFeatures,
    /// 1 / standard deviation; zero for a feature that has none.
    scales: GateFeatures,
    weights: [[f32; UNITS]; ROWS],
    /// Sums of squared gradients.
    squares: [[f32; UNITS]; ROWS],
}

/// Everything a hidden layer has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HiddenState {
    /// Outcomes learned from.
    pub learned: u64,
    /// Mean of each feature.
    pub means: Vec<f32>,
    /// Variance of each feature.
    pub variances: Vec<f32>,
    /// Weights, (features + 2, units) row by row: into the units, their biases, and out of them.
    pub weights: Vec<f32>,
    /// Sums of squared gradients, shaped as the weights.
    pub squares: Vec<f32>,
}

impl HiddenLayer {
    /// A layer that has learned nothing.
    pub(super) fn new() -> Self {
        let mut weights = [[0.0; UNITS]; ROWS];
        let mut state = 1_u32;
        for weight in weights[..GATE_FEATURE_COUNT].as_flattened_mut() {
            // Units must differ to learn different things; a linear congruential generator sees to it.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *weight = ((state >> 8) as f32 / (1_u32 << 23) as f32 - 1.0) * WEIGHT_INIT;
        }
        Self {
            learned: 0,
            means: [0.0; GATE_FEATURE_COUNT],
            variances: [0.0; GATE_FEATURE_COUNT],
            scales: [0.0; GATE_FEATURE_COUNT],
            weights,
            squares: [[0.0; UNITS]; ROWS],
        }
    }

    /// The layer that `state` was read off.
    ///
    /// # Errors
    /// [`Error::Config`] when its numbers are not finite or too few or many.
    pub(super) fn from_state(state: &HiddenState) -> Result<Self> {
        let lists = [&state.means, &state.variances, &state.weights, &state.squares];
        let lengths = [GATE_FEATURE_COUNT, GATE_FEATURE_COUNT, ROWS * UNITS, ROWS * UNITS];
        let fits = lists.iter().zip(lengths).all(|(list, length)| list.len() == length);
        let is_sound = lists.iter().all(|list| list.iter().all(|number| number.is_finite()))
            && state.variances.iter().chain(&state.squares).all(|number| *number >= 0.0);
        if !fits || !is_sound {
            let value = lists.map(|list| list.len().to_string()).join(", ") + " numbers";
            return Err(Error::Config {
                field: "gate state",
                value,
                expected: "finite numbers, as many as it has weights",
            });
        }
        let mut layer = Self { learned: state.learned, ..Self::new() };
        layer.means.copy_from_slice(&state.means);
        layer.variances.copy_from_slice(&state.variances);
        layer.weights.as_flattened_mut().copy_from_slice(&state.weights);
        layer.squares.as_flattened_mut().copy_from_slice(&state.squares);
        layer.read_scales();
        Ok(layer)
    }

    /// Everything learned so far.
    pub(super) fn state(&self) -> HiddenState {
        HiddenState {
            learned: self.learned,
            means: self.means.to_vec(),
            variances: self.variances.to_vec(),
            weights: self.weights.as_flattened().to_vec(),
            squares: self.squares.as_flattened().to_vec(),
        }
    }

    /// What to add to the log-odds.
    pub(super) fn log_odds(&self, features: &GateFeatures) -> f32 {
        if self.learned < MEASURED_FIRST {
            return 0.0;
        }
        let units = self.units(&self.standardised(features));
        units.iter().zip(&self.weights[OUTPUTS]).map(|(unit, weight)| unit * weight).sum()
    }

    /// Learns that a candidate with these features, which the whole gate held for this probable, was used or not.
    pub(super) fn learn(&mut self, features: &GateFeatures, probability: f32, used: bool) {
        if self.learned >= MEASURED_FIRST {
            self.step(&self.standardised(features), probability - f32::from(u8::from(used)));
        }
        self.measure(features);
    }

    /// One step against the gradient of the log-loss, which by the log-odds is `error`.
    fn step(&mut self, inputs: &GateFeatures, error: f32) {
        let units = self.units(inputs);
        let mut errors = [0.0; UNITS];
        for unit in 0..UNITS {
            errors[unit] = if units[unit] > 0.0 { error * self.weights[OUTPUTS][unit] } else { 0.0 };
        }
        for (row, input) in inputs.iter().enumerate().filter(|(_, input)| **input != 0.0) {
            self.descend(row, &errors.map(|error| error * input));
        }
        self.descend(BIASES, &errors);
        self.descend(OUTPUTS, &units.map(|unit| error * unit));
    }

    fn descend(&mut self, row: usize, gradients: &[f32; UNITS]) {
        let (weights, squares) = (&mut self.weights[row], &mut self.squares[row]);
        for unit in 0..UNITS {
            squares[unit] += gradients[unit] * gradients[unit];
            weights[unit] -= STEP * gradients[unit] * inverse_root(squares[unit] + SQUARES_MIN);
        }
    }

    fn units(&self, inputs: &GateFeatures) -> [f32; UNITS] {
        let mut units = self.weights[BIASES];
        for (input, weights) in inputs.iter().zip(&self.weights).filter(|(input, _)| **input != 0.0) {
            for unit in 0..UNITS {
                units[unit] += input * weights[unit];
            }
        }
        units.map(|unit| unit.max(0.0))
    }

    fn standardised(&self, features: &GateFeatures) -> GateFeatures {
        let mut inputs = [0.0; GATE_FEATURE_COUNT];
        for feature in 0..GATE_FEATURE_COUNT {
            let deviation = (features[feature] - self.means[feature]) * self.scales[feature];
            inputs[feature] = deviation.clamp(-DEVIATION_MAX, DEVIATION_MAX);
        }
        inputs
    }

    /// Moves means and variances towards these features.
    fn measure(&mut self, features: &GateFeatures) {
        self.learned += 1;
        let share = (1.0 / self.learned as f32).max(MEASURE_SHARE);
        for (feature, value) in features.iter().enumerate() {
            let deviation = value - self.means[feature];
            self.means[feature] += share * deviation;
            self.variances[feature] += share * (deviation * deviation - self.variances[feature]);
        }
        self.read_scales();
    }

    fn read_scales(&mut self) {
        for feature in 0..GATE_FEATURE_COUNT {
            let variance = self.variances[feature];
            self.scales[feature] = if variance > VARIANCE_MIN { inverse_root(variance) } else { 0.0 };
        }
        // The units have biases of their own.
        self.scales[BIAS] = 0.0;
    }
}

/// Weights start within ± 1.5 / √features, so that units start out of order one.
const WEIGHT_INIT: f32 = 0.25;
const STEP: f32 = 0.2;
const SQUARES_MIN: f32 = 0.01;
/// Outcomes from which only means and variances are learned.
const MEASURED_FIRST: u64 = 200;
/// What a new outcome weighs in means and variances, in the long run.
const MEASURE_SHARE: f32 = 1.0 / 2_000.0;
const VARIANCE_MIN: f32 = 1e-6;
const DEVIATION_MAX: f32 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Used when exactly one of two features is high: no weighted sum of them tells.
    fn either_or(step: usize) -> (GateFeatures, bool) {
        let mut x = [0.0; GATE_FEATURE_COUNT];
        let (first, second) = (step.is_multiple_of(2), (step / 2).is_multiple_of(2));
        (x[BIAS], x[3], x[7]) = (1.0, f32::from(u8::from(first)), f32::from(u8::from(second)));
        (x, first != second)
    }

    #[test]
    fn learns_what_depends_on_two_features_at_once() {
        let mut layer = HiddenLayer::new();
        assert!(layer.log_odds(&either_or(0).0) == 0.0);
        for step in 0..8_000 {
            let (x, used) = either_or(step);
            let probability = crate::kernel::sigmoid(layer.log_odds(&x));
            layer.learn(&x, probability, used);
        }
        for step in 0..4 {
            let (x, used) = either_or(step);
            assert_eq!(layer.log_odds(&x) > 2.0, used, "{step}: {}", layer.log_odds(&x));
        }
    }

    #[test]
    fn refuses_a_state_of_another_size_or_with_broken_numbers() -> Result<()> {
        let good = HiddenLayer::new().state();
        HiddenLayer::from_state(&good)?;
        let short = HiddenState { weights: vec![0.0; 3], ..good.clone() };
        let negative = HiddenState { squares: vec![-1.0; ROWS * UNITS], ..good };
        assert!(HiddenLayer::from_state(&short).is_err() && HiddenLayer::from_state(&negative).is_err());
        Ok(())
    }
}
