//! Fitting the placement head on demand samples.

use std::time::Duration;

use nearcast_datasets::{Interner, RegionId};
use nearcast_models::{DemandQuery, PlacementConfig, PlacementExample, PlacementHead, PlacementTrainer, SequenceModel};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::catalogue::ItemMap;
use crate::{
    Result,
    demand::{DemandPlan, DemandSample, DemandSampler},
    features::{Features, TimeRange},
};

/// Demand samples of one range.
#[derive(Debug)]
pub(crate) struct DemandSet {
    /// The samples, by time.
    pub(crate) samples: Vec<DemandSample>,
    /// How many there were to draw from.
    pub(crate) seen: u64,
}

/// What demand to sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DemandAsk {
    /// Rows before `asked` that may fill the counts.
    pub(crate) history: Option<TimeRange>,
    /// The range whose buckets are asked about; buckets are aligned with its start.
    pub(crate) asked: TimeRange,
    /// Width of a bucket and length of a forecast.
    pub(crate) horizon: Duration,
    /// Most samples.
    pub(crate) samples_max: usize,
    /// Seed of the draw.
    pub(crate) seed: u64,
}

impl DemandSet {
    /// Samples the whole buckets of the range asked about. Region codes of the samples are positions in `regions`.
    pub(crate) fn sample(features: &Features, regions: &RegionMap, ask: &DemandAsk) -> Result<Self> {
        let bucket = ask.horizon;
        let history = ask.history.map_or(Duration::ZERO, |history| ask.asked.start.since(history.start));
        let asked_from = buckets(history, bucket).saturating_add(u32::from(!history.is_zero()));
        let start = ask.asked.start.before(bucket * asked_from);
        // A bucket cut short by the range's end would look like a fall in demand.
        let end = ask.asked.start.after(bucket * buckets(ask.asked.end.since(ask.asked.start), bucket));
        let plan = DemandPlan {
            start,
            bucket,
            asked_from,
            regions: regions.count,
            samples_max: ask.samples_max,
            seed: ask.seed,
        };
        let mut sampler = DemandSampler::new(plan);
        features.for_each_demand(TimeRange { start, end }, bucket, |mut cell| {
            if let Some(region) = regions.position(cell.region) {
                cell.region = region;
                sampler.push(cell);
            }
            Ok(())
        })?;
        let (samples, seen) = sampler.finish();
        Ok(Self { samples, seen })
    }
}

/// Whole buckets in a span.
fn buckets(span: Duration, bucket: Duration) -> u32 {
    u32::try_from(span.as_micros() / bucket.as_micros().max(1)).unwrap_or(u32::MAX)
}

/// From a log's region codes to positions in a model's list of regions.
#[derive(Debug)]
pub(crate) struct RegionMap {
    positions: Vec<Option<RegionId>>,
    count: u16,
}

impl RegionMap {
    /// Maps the regions of a log to those of `model`, by name.
    pub(crate) fn new(log: &Interner, model: &[String]) -> Self {
        let position =
            |name: &str| model.iter().position(|region| region == name).and_then(|at| u16::try_from(at).ok());
        let mut positions = vec![None; log.bound()];
        for (code, name) in log.iter() {
            positions[code as usize] = position(name).map(RegionId);
        }
        Self { positions, count: u16::try_from(model.len()).unwrap_or(u16::MAX) }
    }

    fn position(&self, region: RegionId) -> Option<RegionId> {
        self.positions.get(usize::from(region.0)).copied().flatten()
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
    /// Number of regions.
    pub(crate) regions: usize,
    /// Passes over the samples.
    pub(crate) epochs: usize,
    /// Decides weights and order.
    pub(crate) seed: u64,
}

/// Fits the head; returns it with the mean loss of the last pass.
pub(crate) fn fit_placement(plan: &PlacementPlan<'_>, set: &DemandSet) -> Result<(PlacementHead, f64)> {
    let mut trainer = PlacementTrainer::new(plan.config, plan.sequence, plan.regions, plan.seed)?;
    let mut examples: Vec<PlacementExample> = set.samples.iter().map(|sample| example(sample, plan.items)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut loss = 0.0;
    for _ in 0..plan.epochs {
        examples.shuffle(&mut rng);
        let mut loss_sum = 0.0;
        for batch in examples.chunks(BATCH) {
            loss_sum += f64::from(trainer.train_batch(plan.sequence, batch)?) * batch.len() as f64;
        }
        loss = loss_sum / examples.len().max(1) as f64;
    }
    Ok((trainer.finish(), loss))
}

/// The question that a sample asks.
pub(crate) fn query(sample: &DemandSample, items: &ItemMap) -> DemandQuery {
    DemandQuery {
        item: items.items[sample.key.0 as usize],
        region: usize::from(sample.region.0),
        at: sample.at,
        counts: sample.counts,
    }
}

fn example(sample: &DemandSample, items: &ItemMap) -> PlacementExample {
    PlacementExample { query: query(sample, items), requests: sample.requests, weight: sample.weight }
}

/// Examples per gradient step.
const BATCH: usize = 512;
