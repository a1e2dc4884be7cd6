//! Fitting the placement head on demand samples.

use std::time::Duration;

use nearcast_datasets::{Interner, RegionId, Timestamp};
use nearcast_models::{DemandQuery, PlacementConfig, PlacementExample, PlacementHead, PlacementTrainer, SequenceModel};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::catalogue::ItemMap;
use crate::{
    Result,
    demand::{DemandGrid, DemandPlan, DemandSample, DemandSampler},
    features::{Features, TimeRange},
};

/// Demand samples of one range.
#[derive(Debug)]
pub(crate) struct DemandSet {
    /// The samples, by time.
    pub(crate) samples: Vec<DemandSample>,
    /// The instants and horizons asked about.
    pub(crate) grid: DemandGrid,
}

/// What demand to sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemandAsk<'a> {
    /// Rows before `asked` that may fill the counts.
    pub(crate) history: Option<TimeRange>,
    /// The range whose instants are asked about.
    pub(crate) asked: TimeRange,
    /// Horizons and bounds.
    pub(crate) config: &'a PlacementConfig,
    /// Keys asked for first from here on are newborn.
    pub(crate) newborn_from: Timestamp,
    /// Most samples.
    pub(crate) samples_max: usize,
    /// Seed of the draw.
    pub(crate) seed: u64,
}

impl DemandSet {
    /// Samples every instant of the range asked about whose horizons lie within it.
    pub(crate) fn sample(features: &Features, ask: &DemandAsk<'_>) -> Result<Self> {
        let start = ask.history.map_or(ask.asked.start, |history| history.start);
        let range = TimeRange { start, end: ask.asked.end };
        let grid = DemandGrid::new(&ask.config.horizons(), features.resolution(range)?);
        let mut sampler = DemandSampler::new(DemandPlan {
            asked_from: ask.asked.start,
            end: ask.asked.end,
            grid: grid.clone(),
            regions: features.log.regions.bound(),
            samples_max: ask.samples_max,
            requests: features.count(ask.asked)?,
            newborn_from: ask.newborn_from,
            keys_max: ask.config.keys_max,
            seed: ask.seed,
        });
        features.for_each_request(range, |request| {
            sampler.push(request);
            Ok(())
        })?;
        Ok(Self { samples: sampler.finish(), grid })
    }

    /// Cells that the samples stand for.
    pub(crate) fn cells(&self) -> f64 {
        self.samples.iter().map(|sample| f64::from(sample.weight)).sum()
    }

    /// The log's precision, where it is coarser than the shortest horizon.
    pub(crate) fn coarse_step(&self) -> Option<Duration> {
        self.grid.horizons.iter().any(|horizon| !horizon.measurable()).then_some(self.grid.step)
    }
}

/// From a log's region codes to positions in a model's list of regions.
#[derive(Debug)]
pub(crate) struct RegionMap {
    positions: Vec<Option<usize>>,
}

impl RegionMap {
    /// Maps the regions of a log to those of `model`, by name.
    pub(crate) fn new(log: &Interner, model: &[String]) -> Self {
        let mut positions = vec![None; log.bound()];
        for (code, name) in log.iter() {
            positions[code as usize] = model.iter().position(|region| **region == **name);
        }
        Self { positions }
    }

    /// The region's position, or one that no model knows.
    fn position(&self, region: RegionId) -> usize {
        self.positions.get(usize::from(region.0)).copied().flatten().unwrap_or(usize::MAX)
    }
}

/// What a placement head is fitted with.
#[derive(Debug)]
pub(crate) struct PlacementPlan<'a> {
    /// Shape and learning rate.
    pub(crate) config: &'a PlacementConfig,
    /// The model whose embeddings the head reads.
    pub(crate) sequence: &'a SequenceModel,
    /// The log's keys as items.
    pub(crate) items: &'a ItemMap,
    /// The log's regions.
    pub(crate) map: &'a RegionMap,
    /// Number of regions.
    pub(crate) regions: usize,
    /// Passes over the samples.
    pub(crate) epochs: usize,
    /// Decides weights and order.
    pub(crate) seed: u64,
}

/// Fits the head; returns it with the mean loss of the last pass.
pub(crate) fn fit_placement(plan: &PlacementPlan<'_>, set: &DemandSet) -> Result<(PlacementHead, f64)> {
    let example = |sample: &DemandSample| PlacementExample {
        query: query(sample, plan.items, plan.map),
        requests: sample.requests,
        weight: sample.weight,
    };
    let mut examples: Vec<PlacementExample> = set.samples.iter().map(example).collect();
    let mut trainer = PlacementTrainer::new(plan.config, plan.sequence, plan.regions, &examples, plan.seed)?;
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let (mut loss, mut learned, all) = (0.0, 0, (plan.epochs * examples.len()).max(1));
    for _ in 0..plan.epochs {
        examples.shuffle(&mut rng);
        let mut loss_sum = 0.0;
        for batch in examples.chunks(BATCH) {
            let done = learned as f64 / all as f64;
            loss_sum += f64::from(trainer.train_batch(plan.sequence, batch, done)?) * batch.len() as f64;
            learned += batch.len();
        }
        loss = loss_sum / examples.len().max(1) as f64;
    }
    Ok((trainer.finish(), loss))
}

/// The question that a sample asks.
pub(crate) fn query(sample: &DemandSample, items: &ItemMap, regions: &RegionMap) -> DemandQuery {
    DemandQuery {
        item: items.items[sample.key.0 as usize],
        region: regions.position(sample.region),
        at: sample.at,
        counts: sample.counts,
    }
}

/// Examples per gradient step.
const BATCH: usize = 1_024;
