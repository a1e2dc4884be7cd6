//! Training of the placement head in candle.

use std::fmt;

use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    DemandQuery, Error, PlacementConfig, PlacementHead, Result, SequenceModel,
    placement::{
        HORIZONS_MAX,
        features::{EXTRA_COUNT, extras},
        head::EXTRA_LIMIT,
        network::{PlacementInputs, PlacementVars},
    },
};

/// Share of the examples whose region is hidden, so that the row for unknown regions learns what regions have in common.
const HIDDEN_REGIONS: f64 = 0.05;
/// What is left of the learning rate at the end of the fit.
const LAST_RATE_SHARE: f64 = 0.01;
const WHAT: &str = "a step of the placement head";

/// What was asked, and what then happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlacementExample {
    /// The question as it could be asked before the horizons began.
    pub query: DemandQuery,
    /// Requests that each horizon brought; entries beyond the configured horizons are not read.
    pub requests: [f32; HORIZONS_MAX],
    /// How many such examples this one stands for, when others were left out.
    pub weight: f32,
}

/// Learns a [`PlacementHead`] on top of a trained sequence model's embeddings, which stay as they are.
pub struct PlacementTrainer {
    config: PlacementConfig,
    region_count: usize,
    scaling: Scaling,
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
    /// A trainer for `region_count` regions with random weights drawn from `seed`, which takes the spread of the
    /// features and the size of the answers from `examples`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value of `config` is out of its range.
    pub fn new(
        config: &PlacementConfig,
        sequence: &SequenceModel,
        region_count: usize,
        examples: &[PlacementExample],
        seed: u64,
    ) -> Result<Self> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let item_width = sequence.config().embedding_width + 1;
        let scaling = Scaling::new(examples, config.horizons_seconds.len());
        let vars = PlacementVars::random(config, item_width, region_count, &scaling.increments, &mut rng)
            .map_err(Error::learn("the first placement weights"))?;
        let optimizer =
            vars.optimizer(config.learning_rate).map_err(Error::learn("the optimiser of the placement head"))?;
        Ok(Self { config: config.clone(), region_count, scaling, vars, optimizer, rng, step: 0 })
    }

    /// Learns from one batch and returns its mean Poisson loss (rate − requests · ln rate) per example, weighted so that
    /// the mean answer is one. `done` is the share of the fit that lies behind, 0..=1: steps get shorter with it.
    ///
    /// # Errors
    /// [`Error::LossNotFinite`] naming the step, [`Error::Learn`] when candle refuses; weights are as before then.
    pub fn train_batch(&mut self, sequence: &SequenceModel, examples: &[PlacementExample], done: f64) -> Result<f32> {
        if examples.is_empty() {
            return Ok(0.0);
        }
        let rate = self.config.learning_rate * (1.0 - (1.0 - LAST_RATE_SHARE) * done.clamp(0.0, 1.0));
        self.optimizer.set_learning_rate(rate);
        let regions: Vec<u32> = examples.iter().map(|example| self.region_row(example.query.region)).collect();
        let loss = self.loss(sequence, examples, &regions).map_err(Error::learn(WHAT))?;
        let value = loss.to_scalar::<f32>().map_err(Error::learn(WHAT))?;
        if !value.is_finite() {
            return Err(Error::LossNotFinite { model: "placement", step: self.step, loss: value });
        }
        self.vars.step(&mut self.optimizer, &loss).map_err(Error::learn(WHAT))?;
        self.step += 1;
        Ok(value)
    }

    /// The head as trained so far.
    ///
    /// # Panics
    /// Never: the variables are plain numbers in this process's memory.
    pub fn finish(self) -> PlacementHead {
        let weights = self.vars.weights().expect("variables of type f32 on the CPU can be read");
        let Scaling { means, scales, .. } = self.scaling;
        let weights = super::weights::PlacementWeights { extra_means: means, extra_scales: scales, ..weights };
        PlacementHead::from_parts(self.config, weights)
    }

    fn loss(
        &self,
        sequence: &SequenceModel,
        examples: &[PlacementExample],
        regions: &[u32],
    ) -> candle_core::Result<Tensor> {
        let queries: Vec<DemandQuery> = examples.iter().map(|example| example.query).collect();
        let inputs = inputs(sequence, &self.scaling, &queries, regions)?;
        let horizons = &self.scaling.horizon_weights;
        let shape = (examples.len(), horizons.len());
        let requests: Vec<f32> = examples.iter().flat_map(|e| e.requests[..horizons.len()].iter().copied()).collect();
        let weights: Vec<f32> =
            examples.iter().flat_map(|e| horizons.iter().map(|horizon| horizon * e.weight)).collect();
        let tensor = |numbers| Tensor::from_vec(numbers, shape, &Device::Cpu);
        self.vars.loss(&inputs, &tensor(requests)?, &tensor(weights)?)
    }

    fn region_row(&mut self, region: usize) -> u32 {
        let hidden = self.rng.random_bool(HIDDEN_REGIONS);
        let row = if hidden { self.region_count } else { region.min(self.region_count) };
        u32::try_from(row).unwrap_or(u32::MAX)
    }
}

/// How features and answers are brought to a common size.
#[derive(Clone, Debug)]
struct Scaling {
    /// (E).
    means: Vec<f32>,
    /// (E).
    scales: Vec<f32>,
    /// (T): requests that each horizon adds to the one before, on weighted average.
    increments: Vec<f32>,
    /// (T): factor of each horizon's loss for an example of weight one.
    horizon_weights: Vec<f32>,
}

impl Scaling {
    fn new(examples: &[PlacementExample], horizons: usize) -> Self {
        let count = examples.len().max(1) as f64;
        let (mut sums, mut squares) = ([0.0_f64; EXTRA_COUNT], [0.0_f64; EXTRA_COUNT]);
        let (mut requests, mut weights) = (vec![0.0_f64; horizons], 0.0_f64);
        for example in examples {
            for (place, extra) in extras(&example.query).into_iter().enumerate() {
                sums[place] += f64::from(extra);
                squares[place] += f64::from(extra) * f64::from(extra);
            }
            let weight = f64::from(example.weight);
            weights += weight;
            requests.iter_mut().zip(example.requests).for_each(|(sum, found)| *sum += weight * f64::from(found));
        }
        let deviation = |place: usize| (squares[place] / count - (sums[place] / count).powi(2)).max(0.0).sqrt();
        // A feature that never varies says nothing, and must not be blown up when it varies later.
        let scale =
            |place| Some(deviation(place)).filter(|deviation| *deviation > DEVIATION_MIN).map_or(1.0, f64::recip);
        let before = std::iter::once(0.0).chain(requests.iter().copied());
        let increment = |(sum, before): (&f64, f64)| ((sum - before) / weights.max(1.0)).max(RATE_MIN) as f32;
        let longest = requests.last().copied().unwrap_or_default();
        let horizon_weight = |sum: &f64| match *sum > 0.0 {
            true => (count / longest * (longest / sum).powf(SHORT_HORIZONS)) as f32,
            false => 1.0,
        };
        Self {
            means: sums.iter().map(|sum| (sum / count) as f32).collect(),
            scales: (0..EXTRA_COUNT).map(|place| scale(place) as f32).collect(),
            increments: requests.iter().zip(before).map(increment).collect(),
            horizon_weights: requests.iter().map(horizon_weight).collect(),
        }
    }
}

/// Questions as tensors.
fn inputs(
    sequence: &SequenceModel,
    scaling: &Scaling,
    queries: &[DemandQuery],
    regions: &[u32],
) -> candle_core::Result<PlacementInputs> {
    let width = sequence.config().embedding_width + 1;
    let items: Vec<f32> = queries.iter().flat_map(|query| sequence.embedding(&query.shared_item())).collect();
    let standard =
        |((extra, mean), scale): ((f32, &f32), &f32)| ((extra - mean) * scale).clamp(-EXTRA_LIMIT, EXTRA_LIMIT);
    let features =
        |query: &DemandQuery| extras(query).into_iter().zip(&scaling.means).zip(&scaling.scales).map(standard);
    let extras: Vec<f32> = queries.iter().flat_map(features).collect();
    Ok(PlacementInputs {
        items: Tensor::from_vec(items, (queries.len(), width), &Device::Cpu)?,
        regions: Tensor::from_slice(regions, regions.len(), &Device::Cpu)?,
        extras: Tensor::from_vec(extras, (queries.len(), EXTRA_COUNT), &Device::Cpu)?,
    })
}

const DEVIATION_MIN: f64 = 1e-4;
/// What a horizon without any request is taken to expect.
const RATE_MIN: f64 = 1e-6;
/// How far short horizons, which bring fewer requests, are lifted to weigh as much as long ones: 0 not at all, 1 fully.
const SHORT_HORIZONS: f64 = 0.7;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::{DECAYS, ItemCatalogue, RecentCounts, SequenceConfig, SequenceTrainer, Vocabulary, VocabularyConfig};

    fn sequence() -> Result<(Vocabulary, SequenceModel)> {
        let keys: Vec<String> = (0..20_u8).map(|key| format!("/{}", char::from(b'a' + key))).collect();
        let vocabulary = Vocabulary::build(keys.iter().map(|key| (key.as_str(), 5)), &VocabularyConfig::default())?;
        let items = keys.iter().map(|key| vocabulary.item(key)).collect();
        let config = SequenceConfig { embedding_width: 8, hidden_width: 8, ..SequenceConfig::default() };
        let catalogue = ItemCatalogue { items, counts: vec![5; 20] };
        Ok((vocabulary.clone(), SequenceTrainer::new(&config, &vocabulary, catalogue, 3)?.finish()?))
    }

    /// Hours of day, by region.
    const PEAKS: [f64; 3] = [2.0, 10.0, 18.0];

    /// Demand that follows the sun: each region has its own peak hour, each key its own share.
    fn rate(key: usize, region: usize, hour: u64) -> f64 {
        let distance = (hour as f64 - PEAKS[region]) / 24.0 * std::f64::consts::TAU;
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
        let mut counts = RecentCounts { key: [0.1 + key as f32; DECAYS], ..RecentCounts::default() };
        // A thousand requests of the region, most of them around its peak.
        let peak = (PEAKS[region.min(2)] / 24.0 * std::f64::consts::TAU).sin_cos();
        counts.region_hours[..3].copy_from_slice(&[1_000.0, 450.0 * peak.0 as f32, 450.0 * peak.1 as f32]);
        let query = DemandQuery { item, region, at, counts };
        PlacementExample { query, requests: [requests / 4.0, requests, 0.0, 0.0], weight: 1.0 }
    }

    fn train(vocabulary: &Vocabulary, sequence: &SequenceModel, steps: usize) -> Result<PlacementHead> {
        let config = PlacementConfig { learning_rate: 0.01, ..PlacementConfig::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let examples: Vec<_> = (0..256 * steps)
            .map(|_| {
                let (key, region) = (rng.random_range(0..20), rng.random_range(0..3));
                let hour = rng.random_range(0..24 * 14);
                example(vocabulary, key, region, hour, poisson(rate(key, region, hour % 24), &mut rng))
            })
            .collect();
        let mut trainer = PlacementTrainer::new(&config, sequence, 3, &examples, 1)?;
        for (step, batch) in examples.chunks(256).enumerate() {
            trainer.train_batch(sequence, batch, step as f64 / steps as f64)?;
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
            let found = head.expected_requests(&sequence, &query);
            assert!(found.len() == 2 && found[0] <= found[1], "{found:?}");
            error += (f64::from(found[1]) - expected).abs();
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
        let mut trainer = PlacementTrainer::new(head.config(), &sequence, 3, &[], 1)?;
        let weights = head.weights();
        trainer.scaling.means.clone_from(&weights.extra_means);
        trainer.scaling.scales.clone_from(&weights.extra_scales);
        trainer.vars.set(weights).map_err(Error::learn(WHAT))?;
        let mut queries: Vec<_> = (0..10).map(|key| example(&vocabulary, key, key % 5, 7, 0.0).query).collect();
        for query in &mut queries {
            query.counts.key_region = std::array::from_fn(|_| rng.random_range(0.0..9.0));
            query.counts.region = [70.0; DECAYS];
        }
        queries[3].item.row = None;
        let regions: Vec<u32> = queries.iter().map(|query| u32::try_from(query.region.min(3)).unwrap()).collect();
        let rates = inputs(&sequence, &trainer.scaling, &queries, &regions)
            .and_then(|inputs| trainer.vars.rates(&inputs)?.to_vec2::<f32>());
        for (query, expected) in queries.iter().zip(rates.map_err(Error::learn(WHAT))?) {
            for (found, expected) in head.expected_requests(&sequence, query).into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5 * expected.max(1.0), "{found} instead of {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_loss_that_is_no_number_is_an_error() -> Result<()> {
        let (vocabulary, sequence) = sequence()?;
        let mut trainer = PlacementTrainer::new(&PlacementConfig::default(), &sequence, 3, &[], 1)?;
        let broken = example(&vocabulary, 0, 0, 0, f32::NAN);
        let refused = trainer.train_batch(&sequence, &[broken], 0.0);
        assert!(matches!(refused, Err(Error::LossNotFinite { model: "placement", step: 0, .. })));
        Ok(())
    }
}
