//! The training configuration with every value in its range.

use std::{path::PathBuf, time::Duration};

use nearcast_datasets::{Dictionaries, Interner, store::Location};
use nearcast_models::ModelConfig;

use super::{EMBEDDED, RawBlendFit, RawDemand, RawEvaluate, RawFeatures, RawFit, RawGateFit, RawSplit, RawTrainConfig};
use crate::{Error, Result};

/// A checked training configuration; see [`RawTrainConfig`] for the meaning of the fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainConfig {
    /// Decides everything random.
    pub seed: u64,
    /// Where training ends and testing begins.
    pub split: SplitConfig,
    /// How features are computed.
    pub features: FeatureConfig,
    /// How the sequence model is fitted.
    pub fit: FitConfig,
    /// How the blend's network is fitted.
    pub blend: BlendFitConfig,
    /// How demand is sampled for the placement head.
    pub demand: DemandConfig,
    /// How the gate is fitted.
    pub gate: GateFitConfig,
    /// How the model is measured.
    pub evaluate: EvaluateConfig,
    /// Sizes and learning rates of the models.
    pub model: ModelConfig,
    /// The configuration as it was written, every default spelt out.
    pub raw: RawTrainConfig,
}

/// Checked `[split]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SplitConfig {
    /// Share of the time span that may be trained on.
    pub train_share: f64,
    /// Share of the training span, at its end, that decides when to stop.
    pub validation_share: f64,
}

/// Checked `[features]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeatureConfig {
    /// The longest silence within a session.
    pub session_gap: Duration,
    /// How many requests ahead a co-access pair may reach.
    pub pair_window: usize,
    /// Bounds of the SQL engine.
    pub engine: EngineLimits,
    /// Bounds of coding the log.
    pub coding: CodingLimits,
    /// The cluster to compute on; this process, when there is none.
    pub cluster: Option<ClusterConfig>,
}

/// Where a cluster is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// `host:port` of the scheduler.
    pub scheduler: String,
    /// Where executors read the coded log, when they do not see the scratch folder.
    pub shared: Option<Location>,
}

impl ClusterConfig {
    /// Reads `features.engine` and `features.shared`.
    fn parse(engine: &str, shared: Option<&str>) -> Result<Option<Self>> {
        const EXPECTED: &str = "`embedded` or `ballista://HOST:PORT`";
        let bad = |expected| Error::Config { field: "features.engine", value: format!("`{engine}`"), expected };
        let shared = shared.map(|text| Location::parse(text).map_err(nearcast_datasets::Error::from)).transpose()?;
        if engine == EMBEDDED {
            return Ok(None);
        }
        let scheduler = engine.strip_prefix("ballista://").ok_or_else(|| bad(EXPECTED))?.trim_end_matches('/');
        let (host, port) = scheduler.rsplit_once(':').ok_or_else(|| bad(EXPECTED))?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(bad(EXPECTED));
        }
        if !cfg!(feature = "cluster") {
            return Err(bad("`embedded`: this build has no cluster engine; build it with `--features cluster`"));
        }
        Ok(Some(Self { scheduler: scheduler.to_owned(), shared }))
    }
}

impl FeatureConfig {
    /// The session gap in microseconds.
    pub(crate) fn session_gap_micros(&self) -> i64 {
        i64::try_from(self.session_gap.as_micros()).unwrap_or(i64::MAX)
    }
}

/// What the SQL engine may use.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EngineLimits {
    /// Memory before queries spill.
    pub memory_bytes: usize,
    /// Disk that queries may spill to.
    pub spill_bytes: u64,
    /// Parallel partitions of a query.
    pub partitions: usize,
}

/// What coding the log may use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CodingLimits {
    /// Folder for scratch data.
    pub scratch: PathBuf,
    /// Most distinct keys.
    pub keys_max: usize,
    /// Most distinct clients.
    pub clients_max: usize,
}

impl CodingLimits {
    /// Refuses dictionaries that have outgrown their bounds.
    pub(crate) fn check(&self, dictionaries: &Dictionaries) -> Result<()> {
        let within = |names: &Interner, max: usize, what, field| {
            if names.len() > max { Err(Error::TooManyNames { what, max, field }) } else { Ok(()) }
        };
        within(&dictionaries.keys, self.keys_max, "keys", "keys_max")?;
        within(&dictionaries.clients, self.clients_max, "clients", "clients_max")
    }
}

/// Checked `[fit]`; see [`RawFit`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FitConfig {
    /// Most passes over the training sessions.
    pub epochs_max: usize,
    /// Passes without improvement before stopping.
    pub patience: usize,
    /// Fewest pairs of consecutive requests that are worth fitting on.
    pub transitions_min: usize,
    /// Most requests trained on per epoch.
    pub epoch_requests_max: usize,
    /// Most validation predictions ranked after each epoch.
    pub validation_predictions_max: usize,
}

/// Checked `[blend]`; see [`RawBlendFit`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BlendFitConfig {
    /// Most requests that the network learns from.
    pub examples_max: usize,
    /// Most passes over them.
    pub epochs_max: usize,
    /// Share of the training range, at its start, from which none are taken.
    pub skipped_share: f64,
}

/// Checked `[demand]`; see [`RawDemand`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DemandConfig {
    /// Most samples the placement head is fitted on.
    pub samples_max: usize,
    /// Passes over the samples.
    pub epochs: usize,
}

/// Checked `[gate]`; see [`RawGateFit`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GateFitConfig {
    /// Most requests played; 0 for no gate.
    pub requests_max: u64,
    /// Size of each node's cache, as a share of the distinct bytes played.
    pub cache_share: f64,
    /// Bound on extra fetched bytes.
    pub budget_share: f64,
}

/// Checked `[evaluate]`; see [`RawEvaluate`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EvaluateConfig {
    /// Most predictions ranked.
    pub predictions_max: usize,
}

impl TryFrom<RawTrainConfig> for TrainConfig {
    type Error = Error;

    fn try_from(raw: RawTrainConfig) -> Result<Self> {
        // TOML has no larger integers, and every version carries its configuration as TOML.
        require(i64::try_from(raw.seed).is_ok(), "seed", raw.seed, "at most 9223372036854775807")?;
        Ok(Self {
            raw: raw.clone(),
            seed: raw.seed,
            split: raw.split.try_into()?,
            features: raw.features.try_into()?,
            fit: raw.fit.try_into()?,
            blend: raw.blend.try_into()?,
            demand: raw.demand.try_into()?,
            gate: raw.gate.try_into()?,
            evaluate: raw.evaluate.try_into()?,
            model: checked_model(raw.model)?,
        })
    }
}

impl TryFrom<RawSplit> for SplitConfig {
    type Error = Error;

    fn try_from(raw: RawSplit) -> Result<Self> {
        let RawSplit { train_share, validation_share } = raw;
        require(train_share > 0.0 && train_share < 1.0, "split.train_share", train_share, "between 0 and 1")?;
        let fits = validation_share > 0.0 && validation_share <= 0.5;
        require(fits, "split.validation_share", validation_share, "above 0 and at most 0.5")?;
        Ok(Self { train_share, validation_share })
    }
}

impl TryFrom<RawFeatures> for FeatureConfig {
    type Error = Error;

    fn try_from(raw: RawFeatures) -> Result<Self> {
        at_least_one("features.session_gap_seconds", raw.session_gap_seconds)?;
        require((1..=16).contains(&raw.pair_window), "features.pair_window", raw.pair_window, "from 1 to 16")?;
        require(raw.memory_mib >= 64, "features.memory_mib", raw.memory_mib, "at least 64")?;
        require((1..=256).contains(&raw.partitions), "features.partitions", raw.partitions, "from 1 to 256")?;
        at_least_one("features.keys_max", raw.keys_max as u64)?;
        at_least_one("features.clients_max", raw.clients_max as u64)?;
        let cluster = ClusterConfig::parse(&raw.engine, raw.shared.as_deref())?;
        Ok(Self {
            cluster,
            session_gap: Duration::from_secs(raw.session_gap_seconds),
            pair_window: raw.pair_window,
            engine: EngineLimits {
                memory_bytes: raw.memory_mib.saturating_mul(1 << 20),
                spill_bytes: raw.spill_mib.saturating_mul(1 << 20),
                partitions: raw.partitions,
            },
            coding: CodingLimits {
                scratch: raw.scratch.unwrap_or_else(std::env::temp_dir),
                keys_max: raw.keys_max,
                clients_max: raw.clients_max,
            },
        })
    }
}

impl TryFrom<RawFit> for FitConfig {
    type Error = Error;

    fn try_from(raw: RawFit) -> Result<Self> {
        at_least_one("fit.epochs_max", raw.epochs_max as u64)?;
        at_least_one("fit.patience", raw.patience as u64)?;
        at_least_one("fit.transitions_min", raw.transitions_min as u64)?;
        at_least_one("fit.epoch_requests_max", raw.epoch_requests_max as u64)?;
        at_least_one("fit.validation_predictions_max", raw.validation_predictions_max as u64)?;
        Ok(Self {
            epochs_max: raw.epochs_max,
            patience: raw.patience,
            transitions_min: raw.transitions_min,
            epoch_requests_max: raw.epoch_requests_max,
            validation_predictions_max: raw.validation_predictions_max,
        })
    }
}

impl TryFrom<RawBlendFit> for BlendFitConfig {
    type Error = Error;

    fn try_from(raw: RawBlendFit) -> Result<Self> {
        let RawBlendFit { examples_max, epochs_max, skipped_share } = raw;
        at_least_one("blend.examples_max", examples_max as u64)?;
        at_least_one("blend.epochs_max", epochs_max as u64)?;
        require((0.0..=0.9).contains(&skipped_share), "blend.skipped_share", skipped_share, "from 0 to 0.9")?;
        Ok(Self { examples_max, epochs_max, skipped_share })
    }
}

impl TryFrom<RawDemand> for DemandConfig {
    type Error = Error;

    fn try_from(raw: RawDemand) -> Result<Self> {
        at_least_one("demand.samples_max", raw.samples_max as u64)?;
        at_least_one("demand.epochs", raw.epochs as u64)?;
        Ok(Self { samples_max: raw.samples_max, epochs: raw.epochs })
    }
}

impl TryFrom<RawGateFit> for GateFitConfig {
    type Error = Error;

    fn try_from(raw: RawGateFit) -> Result<Self> {
        let RawGateFit { requests_max, cache_share, budget_share } = raw;
        let fits = cache_share > 0.0 && cache_share <= 1.0;
        require(fits, "gate.cache_share", cache_share, "above 0 and at most 1")?;
        require((0.0..=100.0).contains(&budget_share), "gate.budget_share", budget_share, "from 0 to 100")?;
        Ok(Self { requests_max, cache_share, budget_share })
    }
}

impl TryFrom<RawEvaluate> for EvaluateConfig {
    type Error = Error;

    fn try_from(raw: RawEvaluate) -> Result<Self> {
        at_least_one("evaluate.predictions_max", raw.predictions_max as u64)?;
        Ok(Self { predictions_max: raw.predictions_max })
    }
}

fn checked_model(model: ModelConfig) -> Result<ModelConfig> {
    let ModelConfig { vocabulary, sequence, coaccess, blend, placement } = &model;
    at_least_one("model.vocabulary.keys_max", vocabulary.keys_max as u64)?;
    at_least_one("model.vocabulary.count_min", vocabulary.count_min)?;
    at_least_one("model.vocabulary.token_buckets", vocabulary.token_buckets.into())?;
    sequence.check()?;
    coaccess.check()?;
    blend.check()?;
    placement.check()?;
    Ok(model)
}

fn at_least_one(field: &'static str, value: u64) -> Result<()> {
    require(value >= 1, field, value, "at least 1")
}

#[expect(clippy::needless_pass_by_value, reason = "callers hand over numbers")]
fn require(holds: bool, field: &'static str, value: impl ToString, expected: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { field, value: value.to_string(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut RawTrainConfig)) -> Result<TrainConfig> {
        let mut raw = RawTrainConfig::default();
        change(&mut raw);
        raw.try_into()
    }

    #[test]
    fn accepts_the_defaults_and_the_edges_of_each_range() {
        check(|_| ()).unwrap();
        check(|raw| raw.split.validation_share = 0.5).unwrap();
        check(|raw| raw.features.pair_window = 16).unwrap();
    }

    #[test]
    fn refuses_what_lies_beyond_the_edges_and_names_the_field() {
        let field = |result: Result<TrainConfig>| match result {
            Err(Error::Config { field, .. }) => field,
            other => panic!("accepted: {other:?}"),
        };
        assert_eq!(field(check(|raw| raw.split.train_share = 1.0)), "split.train_share");
        assert_eq!(field(check(|raw| raw.split.train_share = f64::NAN)), "split.train_share");
        assert_eq!(field(check(|raw| raw.split.validation_share = 0.51)), "split.validation_share");
        assert_eq!(field(check(|raw| raw.features.pair_window = 17)), "features.pair_window");
        assert_eq!(field(check(|raw| raw.fit.epochs_max = 0)), "fit.epochs_max");
        assert_eq!(field(check(|raw| raw.demand.samples_max = 0)), "demand.samples_max");
        assert_eq!(field(check(|raw| raw.gate.cache_share = 0.0)), "gate.cache_share");
        assert_eq!(field(check(|raw| raw.gate.budget_share = f64::NAN)), "gate.budget_share");
    }
}
