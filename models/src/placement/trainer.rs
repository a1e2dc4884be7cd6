//! Training of the placement head in candle.

use std::fmt;

use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    DemandQuery, Error, PlacementConfig, PlacementHead, Result, SequenceModel,
    placement::{
        features::{EXTRA_COUNT, extras},
        network::{PlacementInputs, PlacementVars},
    },
};

/// Share of the examples whose region is hidden, so that the row for unknown regions learns what regions have in common.
const HIDDEN_REGIONS: f64 = 0.05;
const WHAT: &str = "a step of the placement head";

/// What was asked, and what then happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacementExample {
    /// The question as it could be asked before the horizon began.
    pub query: DemandQuery,
    /// Requests that the horizon brought.
    pub requests: f32,
    /// How many such examples this one stands for, when most of the zeros were left out.
    pub weight: f32,
}

/// Learns a [`PlacementHead`] on top of a trained sequence model's embeddings, which stay as they are.
pub struct PlacementTrainer {
    config: PlacementConfig,
    region_count: usize,
    vars: PlacementVars,
    optimizer: AdamW,
    rng: ChaCha8Rng,
    step: u64,
}

impl fmt::Debug for PlacementTrainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementTrainer")
            .field("config", &self.config)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl PlacementTrainer {
    /// A trainer for `region_count` regions with random weights drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value of `config` is out of its range.
    pub fn new(config: &PlacementConfig, sequence: &SequenceModel, region_count: usize, seed: u64) -> Result<Self> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let item_width = sequence.config().embedding_width + 1;
        let vars = PlacementVars::random(config, item_width, region_count, &mut rng)
            .map_err(Error::learn("the first placement weights"))?;
        let optimizer =
            vars.optimizer(config.learning_rate).map_err(Error::learn("the optimiser of the placement head"))?;
        Ok(Self { config: config.clone(), region_count, vars, optimizer, rng, step: 0 })
    }

    /// Learns from one batch and returns its mean Poisson loss (rate − requests · ln rate) per example.
    ///
    /// # Errors
    /// [`Error::LossNotFinite`] naming the step, [`Error::Learn`] when candle refuses; weights are as before then.
    pub fn train_batch(&mut self, sequence: &SequenceModel, examples: &[PlacementExample]) -> Result<f32> {
        if examples.is_empty() {
            return Ok(0.0);
        }
        let regions: Vec<u32> = examples.iter().map(|example| self.region_row(example.query.region)).collect();
        let queries: Vec<DemandQuery> = examples.iter().map(|example| example.query).collect();
        let loss = || {
            let inputs = inputs(sequence, &queries, &regions)?;
            let column = |of: fn(&PlacementExample) -> f32| {
                Tensor::from_vec(examples.iter().map(of).collect::<Vec<_>>(), examples.len(), &Device::Cpu)
            };
            self.vars.loss(&inputs, &column(|e| e.requests)?, &column(|e| e.weight)?)
        };
        let loss = loss().map_err(Error::learn(WHAT))?;
        let value = loss.to_scalar::<f32>().map_err(Error::learn(WHAT))?;
        if !value.is_finite() {
            return Err(Error::LossNotFinite { model: "placement", step: self.step, loss: value });
        }
        self.optimizer.backward_step(&loss).map_err(Error::learn(WHAT))?;
        self.step += 1;
        Ok(value)
    }

    /// The head as trained so far.
    ///
    /// # Panics
    /// Never: the variables are plain numbers in this process's memory.
    pub fn finish(self) -> PlacementHead {
        let weights = self.vars.weights().expect("variables of type f32 on the CPU can be read");
        PlacementHead::from_parts(self.config, weights)
    }

    fn region_row(&mut self, region: usize) -> u32 {
        let hidden = self.rng.random_bool(HIDDEN_REGIONS);
        let row = if hidden { self.region_count } else { region.min(self.region_count) };
        u32::try_from(row).unwrap_or(u32::MAX)
    }
}

/// Questions as tensors.
fn inputs(sequence: &SequenceModel, queries: &[DemandQuery], regions: &[u32]) -> candle_core::Result<PlacementInputs> {
    let width = sequence.config().embedding_width + 1;
    let items: Vec<f32> = queries.iter().flat_map(|query| sequence.embedding(&query.item)).collect();
    let extras: Vec<f32> = queries.iter().flat_map(extras).collect();
    Ok(PlacementInputs {
        items: Tensor::from_vec(items, (queries.len(), width), &Device::Cpu)?,
        regions: Tensor::from_slice(regions, regions.len(), &Device::Cpu)?,
        extras: Tensor::from_vec(extras, (queries.len(), EXTRA_COUNT), &Device::Cpu)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::{ItemCatalogue, RecentCounts, SequenceConfig, SequenceTrainer, Vocabulary, VocabularyConfig};

    fn sequence() -> Result<(Vocabulary, SequenceModel)> {
        let keys: Vec<String> = (0..20_u8).map(|key| format!("/{}", char::from(b'a' + key))).collect();
        let vocabulary = Vocabulary::build(keys.iter().map(|key| (key.as_str(), 5)), &VocabularyConfig::default())?;
        let items = keys.iter().map(|key| vocabulary.item(key)).collect();
        let config = SequenceConfig { embedding_width: 8, hidden_width: 8, ..SequenceConfig::default() };
        let catalogue = ItemCatalogue { items, counts: vec![5; 20] };
        Ok((vocabulary.clone(), SequenceTrainer::new(&config, &vocabulary, catalogue, 3)?.finish()?))
    }

    /// Demand that follows the sun: each region has its own peak hour, each key its own share.
    fn rate(key: usize, region: usize, hour: u64) -> f64 {
        let peak = [2.0, 10.0, 18.0][region];
        let distance = (hour as f64 - peak) / 24.0 * std::f64::consts::TAU;
        (0.2 + key as f64 / 10.0) * (1.0 + 0.9 * distance.cos())
    }

    /// A Poisson draw by Knuth's method.
    fn poisson(rate: f64, rng: &mut ChaCha8Rng) -> f32 {
        let (mut product, mut count) = (rng.random::<f64>(), 0.0);
        while product > (-rate).exp() {
            product *= rng.random::<f64>();
            count += 1.0;
        }
        count
    }

    fn example(vocabulary: &Vocabulary, key: usize, region: usize, hour: u64, requests: f32) -> PlacementExample {
        let item = vocabulary.item(vocabulary.key(u32::try_from(key).unwrap()).unwrap());
        let at = Timestamp::default().after(Duration::from_secs(3_600 * hour));
        let query = DemandQuery { item, region, at, counts: RecentCounts::default() };
        PlacementExample { query, requests, weight: 1.0 }
    }

    fn train(vocabulary: &Vocabulary, sequence: &SequenceModel, steps: usize) -> Result<PlacementHead> {
        let config = PlacementConfig { learning_rate: 0.01, ..PlacementConfig::default() };
        let mut trainer = PlacementTrainer::new(&config, sequence, 3, 1)?;
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for _ in 0..steps {
            let batch: Vec<_> = (0..256)
                .map(|_| {
                    let (key, region) = (rng.random_range(0..20), rng.random_range(0..3));
                    let hour = rng.random_range(0..24 * 14);
                    example(vocabulary, key, region, hour, poisson(rate(key, region, hour % 24), &mut rng))
                })
                .collect();
            trainer.train_batch(sequence, &batch)?;
        }
        Ok(trainer.finish())
    }

    #[test]
    fn learns_each_regions_hours_and_each_keys_share() -> Result<()> {
        let (vocabulary, sequence) = sequence()?;
        let head = train(&vocabulary, &sequence, 1_200)?;
        let (mut error, mut total) = (0.0, 0.0);
        for (key, region, hour) in (0..20).flat_map(|k| (0..3).flat_map(move |r| (0..24).map(move |h| (k, r, h)))) {
            let expected = rate(key, region, hour);
            let query = example(&vocabulary, key, region, hour + 24 * 21, 0.0).query;
            error += (f64::from(head.expected_requests(&sequence, &query)) - expected).abs();
            total += expected;
        }
        assert!(error / total < 0.12, "mean absolute error is {} of the mean rate", error / total);
        Ok(())
    }

    #[test]
    fn serving_equals_the_graph_also_for_unknown_regions_and_keys() -> Result<()> {
        let (vocabulary, sequence) = sequence()?;
        let head = train(&vocabulary, &sequence, 30)?;
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let vars = PlacementTrainer::new(head.config(), &sequence, 3, 1)?.vars;
        vars.set(head.weights()).map_err(Error::learn(WHAT))?;
        let mut queries: Vec<_> = (0..10).map(|key| example(&vocabulary, key, key % 5, 7, 0.0).query).collect();
        for query in &mut queries {
            query.counts =
                RecentCounts { key_region_last: rng.random_range(0.0..9.0), region_last: 70.0, ..query.counts };
        }
        queries[3].item.row = None;
        let regions: Vec<u32> = queries.iter().map(|query| u32::try_from(query.region.min(3)).unwrap()).collect();
        let rates = inputs(&sequence, &queries, &regions).and_then(|inputs| vars.log_rates(&inputs)?.exp()?.to_vec1());
        for (query, expected) in queries.iter().zip(rates.map_err(Error::learn(WHAT))?) {
            let found = head.expected_requests(&sequence, query);
            let expected: f32 = expected;
            assert!((found - expected).abs() < 1e-5 * expected.max(1.0), "{found} instead of {expected}");
        }
        Ok(())
    }

    #[test]
    fn a_loss_that_is_no_number_is_an_error() -> Result<()> {
        let (vocabulary, sequence) = sequence()?;
        let mut trainer = PlacementTrainer::new(&PlacementConfig::default(), &sequence, 3, 1)?;
        let broken = example(&vocabulary, 0, 0, 0, f32::NAN);
        let refused = trainer.train_batch(&sequence, &[broken]);
        assert!(matches!(refused, Err(Error::LossNotFinite { model: "placement", step: 0, .. })));
        Ok(())
    }
}
