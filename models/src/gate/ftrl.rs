//! The gate itself: linfa's follow-the-regularised-leader and a hidden layer, fed outcome by outcome.

use linfa::{Dataset, dataset::Pr};
use linfa_ftrl::Ftrl;
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use crate::{
    Error, GateConfig, GateFeatures, Result,
    gate::{
        features::{BEST_LOG_ODDS, BIAS, GATE_FEATURE_COUNT, SCALES},
        hidden::{HiddenLayer, HiddenState},
    },
    kernel,
};

/// Log-odds beyond this say nothing more.
const LOG_ODDS_MAX: f32 = 30.0;

/// P(a candidate is used at its node before it would be evicted), learned online: a logistic regression, whose log-odds
/// a hidden layer corrects for what depends on several features at once. Both learn from the error of their sum.
///
/// Before it has learned anything it follows the best source's log-odds, as `GateConfig::prior_slope` and
/// `prior_bias` say. Nothing in it is random: the same outcomes in the same order give the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    config: GateConfig,
    learner: Ftrl<f64>,
    /// The learner's weights, read off once per update so that a probability is one dot product.
    weights: GateFeatures,
    hidden: HiddenLayer,
    pending: Vec<(GateFeatures, bool)>,
    learned: u64,
}

/// Everything a gate has learned, with nothing of the library that learned it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateState {
    /// The configuration it learned with.
    pub config: GateConfig,
    /// Outcomes learned from.
    pub learned: u64,
    /// The learner's accumulated gradients, one per feature.
    pub z: Vec<f64>,
    /// The learner's accumulated squared gradients, one per feature.
    pub n: Vec<f64>,
    /// The hidden layer.
    pub hidden: HiddenState,
}

/// linfa keeps an [`Ftrl`]'s numbers to itself; they go in and out through its serialised form.
#[derive(Serialize)]
struct Restored<'a> {
    alpha: f64,
    beta: f64,
    l1_ratio: f64,
    l2_ratio: f64,
    z: &'a Array1<f64>,
    n: &'a Array1<f64>,
}

impl Gate {
    /// A gate that has learned nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] when a value of `config` is out of its range.
    pub fn new(config: &GateConfig) -> Result<Self> {
        config.check()?;
        let mut z = vec![0.0; GATE_FEATURE_COUNT];
        // The inverse of FTRL's closed form for the weights, at n = 0.
        let scale = config.beta / config.alpha + config.l2;
        for (feature, weight) in [(BEST_LOG_ODDS, config.prior_slope), (BIAS, config.prior_bias)] {
            z[feature] = -(weight * scale + config.l1 * weight.signum());
        }
        let (n, hidden) = (vec![0.0; GATE_FEATURE_COUNT], HiddenLayer::new().state());
        Self::from_state(&GateState { config: config.clone(), learned: 0, z, n, hidden })
    }

    /// The gate that `state` was read off.
    ///
    /// # Errors
    /// [`Error::Config`] when its configuration is out of range or its numbers are not finite;
    /// [`Error::Learn`] when it does not fit the learner.
    pub fn from_state(state: &GateState) -> Result<Self> {
        let config = state.config.clone();
        config.check()?;
        let fits = |numbers: &[f64]| numbers.len() == GATE_FEATURE_COUNT && numbers.iter().all(|x| x.is_finite());
        if !fits(&state.z) || !fits(&state.n) || state.n.iter().any(|n| *n < 0.0) {
            let value = format!("{} and {} numbers", state.z.len(), state.n.len());
            return Err(Error::Config { field: "gate state", value, expected: "one finite number per feature" });
        }
        let (z, n) = (Array1::from(state.z.clone()), Array1::from(state.n.clone()));
        let GateConfig { alpha, beta, l1: l1_ratio, l2: l2_ratio, .. } = config;
        let restored = serde_json::to_value(Restored { alpha, beta, l1_ratio, l2_ratio, z: &z, n: &n });
        let learner = restored.and_then(serde_json::from_value).map_err(Error::learn("the gate from its state"))?;
        let pending = Vec::with_capacity(config.batch);
        let hidden = HiddenLayer::from_state(&state.hidden)?;
        let weights = [0.0; GATE_FEATURE_COUNT];
        let mut gate = Self { config, learner, weights, hidden, pending, learned: state.learned };
        gate.read_weights();
        Ok(gate)
    }

    /// Everything learned so far; outcomes still waiting for their batch are left out.
    pub fn state(&self) -> GateState {
        GateState {
            config: self.config.clone(),
            learned: self.learned,
            z: self.learner.z().to_vec(),
            n: self.learner.n().to_vec(),
            hidden: self.hidden.state(),
        }
    }

    /// P(used), strictly between 0 and 1.
    pub fn probability(&self, features: &GateFeatures) -> f32 {
        let log_odds = kernel::dot(&self.weights, features) + self.hidden.log_odds(features);
        kernel::sigmoid(log_odds.clamp(-LOG_ODDS_MAX, LOG_ODDS_MAX))
    }

    /// Learns what became of a candidate that had these features when it was decided on.
    ///
    /// The regression learns once `GateConfig::batch` outcomes are there, the hidden layer at once.
    pub fn learn(&mut self, features: &GateFeatures, used: bool) {
        self.hidden.learn(features, self.probability(features), used);
        self.pending.push((*features, used));
        if self.pending.len() >= self.config.batch {
            self.learn_pending();
        }
    }

    /// The regression's weights by feature: what an operator is shown.
    pub fn weights(&self) -> &GateFeatures {
        &self.weights
    }

    /// Outcomes learned from.
    pub fn learned_count(&self) -> u64 {
        self.learned
    }

    fn learn_pending(&mut self) {
        let rows = self.pending.len();
        let probabilities: Array1<Pr> = self.pending.iter().map(|(x, _)| Pr::new(self.probability(x))).collect();
        let targets: Array1<bool> = self.pending.iter().map(|(_, used)| *used).collect();
        let records = Array2::from_shape_fn((rows, GATE_FEATURE_COUNT), |(row, feature)| {
            f64::from(self.pending[row].0[feature] * SCALES[feature])
        });
        self.learner.update(&Dataset::new(records, targets), probabilities.view());
        self.learned += rows as u64;
        self.pending.clear();
        self.read_weights();
    }

    fn read_weights(&mut self) {
        for ((weight, learned), scale) in self.weights.iter_mut().zip(self.learner.get_weights()).zip(SCALES) {
            *weight = learned as f32 * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::gate::features::{self, log_odds};

    fn candidate(rng: &mut ChaCha8Rng) -> GateFeatures {
        let mut x = [0.0; GATE_FEATURE_COUNT];
        x[BIAS] = 1.0;
        x[BEST_LOG_ODDS] = rng.random_range(-5.0..2.0);
        x[features::SIZE] = rng.random_range(0.0..8.0);
        x[features::FAILURES] = f32::from(rng.random_range(0_u8..3));
        x[features::RECENCY_REGION] = rng.random_range(0.0..13.0);
        x
    }

    fn truth(x: &GateFeatures) -> f32 {
        let log_odds = 1.5 + 0.8 * x[BEST_LOG_ODDS] - 0.7 * x[features::FAILURES] - 0.1 * x[features::RECENCY_REGION];
        kernel::sigmoid(log_odds)
    }

    /// Expected calibration error over ten equal bins of predicted probability.
    fn calibration_error(predictions: &[(f32, bool)]) -> f32 {
        let mut bins = [(0.0_f32, 0.0_f32); 10];
        for (probability, used) in predictions {
            let bin = &mut bins[((probability * 10.0) as usize).min(9)];
            bin.0 += probability;
            bin.1 += f32::from(*used);
        }
        bins.iter().map(|(predicted, used)| (predicted - used).abs()).sum::<f32>() / predictions.len() as f32
    }

    #[test]
    fn becomes_calibrated_on_a_logistic_truth() -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut gate = Gate::new(&GateConfig::default())?;
        for _ in 0..20_000 {
            let x = candidate(&mut rng);
            let used = rng.random::<f32>() < truth(&x);
            gate.learn(&x, used);
        }
        let held_out: Vec<_> = (0..20_000).map(|_| candidate(&mut rng)).collect();
        let outcomes: Vec<_> = held_out.iter().map(|x| (gate.probability(x), rng.random::<f32>() < truth(x))).collect();
        let calibration = calibration_error(&outcomes);
        let distance = held_out.iter().map(|x| (gate.probability(x) - truth(x)).abs()).sum::<f32>() / 20_000.0;
        assert!(calibration < 0.03, "expected calibration error {calibration}");
        assert!(distance < 0.04, "mean distance from the true probability {distance}");
        Ok(())
    }

    #[test]
    fn an_untaught_gate_follows_the_best_source() -> Result<()> {
        let gate = Gate::new(&GateConfig { prior_slope: 1.0, prior_bias: -0.5, l1: 0.1, ..GateConfig::default() })?;
        let mut x = [0.0; GATE_FEATURE_COUNT];
        x[BIAS] = 1.0;
        x[BEST_LOG_ODDS] = log_odds(0.6);
        assert!((gate.probability(&x) - kernel::sigmoid(log_odds(0.6) - 0.5)).abs() < 1e-5);
        Ok(())
    }

    #[test]
    fn goes_on_from_its_state_as_if_never_interrupted() -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut gate = Gate::new(&GateConfig { batch: 4, ..GateConfig::default() })?;
        for _ in 0..400 {
            gate.learn(&candidate(&mut rng), rng.random());
        }
        let mut restored = Gate::from_state(&gate.state())?;
        for _ in 0..400 {
            let (x, used) = (candidate(&mut rng), rng.random());
            gate.learn(&x, used);
            restored.learn(&x, used);
        }
        assert_eq!(gate.state(), restored.state());
        assert_eq!(gate.learned_count(), 800);
        Ok(())
    }

    #[test]
    fn refuses_a_state_of_another_size_or_with_broken_numbers() -> Result<()> {
        let good = Gate::new(&GateConfig::default())?.state();
        let short = GateState { z: vec![0.0; 3], ..good.clone() };
        let broken = GateState { n: vec![f64::NAN; GATE_FEATURE_COUNT], ..good };
        assert!(Gate::from_state(&short).is_err() && Gate::from_state(&broken).is_err());
        Ok(())
    }
}
