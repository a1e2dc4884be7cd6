//! Training: from request logs to a published model version.

use std::{ops::Range, path::Path, sync::Arc, time::Duration};

use nearcast_datasets::{LogSource, Timestamp};
use nearcast_models::{Manifest, Model, Registry, SequenceModel, TrainingRange, VersionName, Vocabulary};
use serde::{Deserialize, Serialize};

use crate::{
    EpochReport, Error, Evaluation, GateReport, RawTrainConfig, Result, TrainConfig,
    card::card,
    checkpoint::{CheckpointOptions, Checkpoints, Saver},
    demand::{BaselineFit, fit_baselines},
    evaluate::{evaluate_part, validate},
    features::{Features, Sessions, TimeRange},
    fit::{
        BlendPlan, BlendReport, Catalogue, DemandAsk, DemandSet, EarlyStop, FitPlan, GatePlan, ItemMap, PlacementPlan,
        RegionMap, find_best_epoch, fit_coaccess, fit_placement, fit_sequence,
    },
    metrics::parquet_table,
    progress::{OnProgress, Progress},
    report::{self, Details},
    split::Parts,
    time::rfc3339,
};

/// How a version is published.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// The time that the manifest records as the version's creation.
    pub now: Timestamp,
    /// The alias to point at the version; without one, `champion` if nothing is the champion yet.
    pub alias: Option<String>,
    /// Where and how often to save what was learned so far; nowhere when there are none.
    pub checkpoints: Option<CheckpointOptions>,
}

/// A version that training published.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// `nearcast.train/1`.
    pub schema: &'static str,
    /// The version's name in the registry.
    pub version: VersionName,
    /// The alias that now points at it.
    pub alias: Option<String>,
    /// How it came about and how it did, as in its `metrics.json`.
    #[serde(flatten)]
    pub metrics: TrainMetrics,
}

/// `metrics.json` of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainMetrics {
    /// What was trained on.
    pub data: DataReport,
    /// Every pass that was tried on the training range without its validation slice.
    pub epochs: Vec<EpochReport>,
    /// The number of passes that validation chose; the model was then fitted so often on the whole training range.
    pub best_epoch: usize,
    /// The co-access tables.
    pub coaccess_fit: CoAccessReport,
    /// The blend.
    pub blend_fit: BlendReport,
    /// The placement head.
    pub demand_fit: DemandFitReport,
    /// The gate.
    pub gate_fit: GateReport,
    /// How the version did on the later part of the log.
    pub evaluation: Evaluation,
}

/// The data behind a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// The logs.
    pub logs: Vec<String>,
    /// Requests in the logs.
    pub requests: u64,
    /// Requests in the training range.
    pub train_requests: u64,
    /// Pairs of consecutive requests within sessions of the training range.
    pub train_transitions: u64,
    /// Distinct keys in the logs.
    pub keys: u64,
    /// Distinct clients in the logs.
    pub clients: u64,
    /// The regions, in the order of the placement head.
    pub regions: Vec<String>,
    /// The first instant trained on.
    pub start: String,
    /// Where the validation slice begins.
    pub validation_start: String,
    /// Where training ends and testing begins.
    pub boundary: String,
    /// Keys with an embedding row of their own.
    pub vocabulary_rows: u64,
    /// Keys of the training range that were too rare, or too many, for a row.
    pub vocabulary_left_out: u64,
}

/// The co-access tables of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoAccessReport {
    /// Keys with successors by the same client.
    pub client_keys: u64,
    /// Keys with successors by other clients of the region.
    pub region_keys: u64,
}

/// How the placement head was fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemandFitReport {
    /// Samples fitted on.
    pub samples: u64,
    /// Cells (key, region, instant) that they stand for.
    pub cells: f64,
    /// Mean loss of the last pass.
    pub loss: f64,
    /// The log's precision in seconds, where it is coarser than the shortest horizon.
    pub coarse_step_seconds: Option<u64>,
    /// What the head must beat, as good as it gets on the training range.
    pub baselines: Vec<BaselineFit>,
}

/// Trains on the earlier part of `logs`, measures on the later part, and publishes the next version to `registry`.
///
/// The same configuration and logs give the same `model.safetensors`, byte for byte. Nothing is published when
/// anything fails.
///
/// # Errors
/// [`Error::EmptyPart`] or [`Error::TooFewTransitions`] when there is too little data; otherwise what reading the logs,
/// fitting or publishing raised.
pub fn train(
    config: &TrainConfig,
    logs: &[LogSource],
    registry: &Registry,
    options: &PublishOptions,
    progress: OnProgress<'_>,
) -> Result<Published> {
    options.checkpoints.iter().try_for_each(|options| Checkpoints::check(options, &config.raw))?;
    let features = Features::prepare(logs, &config.features, progress)?;
    let parts = Parts::cut(&features, &config.split)?;
    let mut saver = Saver::default();
    if let Some(options) = &options.checkpoints {
        let (checkpoints, saved) = Checkpoints::open(options, &config.raw, &features.log)?;
        saver = Saver { checkpoints: Some(checkpoints), saved };
    }
    let training = Training { config, logs, features: &features, parts };
    let (model, details) = training.run(options.now, &mut saver, progress)?;
    progress(Progress::Stage("publishing"));
    let metrics: TrainMetrics = serde_json::from_value(model.metrics.clone()).map_err(Error::Metrics)?;
    let attachments = [
        (TRAIN_CONFIG, toml_text(&config.raw)?.into_bytes()),
        (METRICS_TABLE, parquet_table(&metrics.rows())?),
        (REPORT, report(&metrics, &details)?.into_bytes()),
    ];
    let staged = features.log.scratch().join("version");
    model.save_with(&staged, &attachments)?;
    let (version, alias) = publish(&staged, registry, options.alias.as_deref())?;
    if let Some(checkpoints) = saver.checkpoints {
        checkpoints.discard();
    }
    Ok(Published { schema: SCHEMA, version, alias, metrics })
}

/// The configuration as `train.toml` has it.
fn toml_text(raw: &RawTrainConfig) -> Result<String> {
    Ok(raw.table()?.to_string())
}

/// `report.html` of the version.
fn report(metrics: &TrainMetrics, details: &Details) -> Result<String> {
    let page = report::page("Nearcast model", Some(metrics), &metrics.evaluation, details);
    page.map_err(|error| Error::Report(Box::new(error)))
}

/// Publishes what was saved, and only then moves the alias.
fn publish(staged: &Path, registry: &Registry, alias: Option<&str>) -> Result<(VersionName, Option<String>)> {
    let version = registry.publish(staged)?;
    let alias = match alias {
        Some(alias) => Some(alias),
        None if registry.aliases()?.contains_key(CHAMPION) => None,
        None => Some(CHAMPION),
    };
    if let Some(alias) = alias {
        registry.alias(alias, version)?;
    }
    Ok((version, alias.map(str::to_owned)))
}

/// One training run after its log was coded and split.
#[derive(Debug)]
struct Training<'a> {
    config: &'a TrainConfig,
    logs: &'a [LogSource],
    features: &'a Features,
    parts: Parts,
}

impl Training<'_> {
    fn run(&self, now: Timestamp, saver: &mut Saver, progress: OnProgress<'_>) -> Result<(Model, Details)> {
        let training = self.parts.training();
        let sessions = self.sessions(training)?;
        let catalogue = Catalogue::build(self.features, training, &self.config.model.vocabulary)?;
        let (known, found) = self.find_best_epoch(saver, progress)?;
        progress(Progress::Stage("fitting with the validation slice"));
        let sequence = fit_sequence(&self.plan(&catalogue, &sessions), saver, &found, progress)?;
        let EarlyStop { epochs, best_epoch, best } = found;
        progress(Progress::Stage("counting co-access"));
        let coaccess = fit_coaccess(self.features, training, &self.config.model.coaccess, progress)?;
        progress(Progress::Stage("fitting the blend"));
        let (blend, blend_fit) = self.blend_plan().fit(self.features, training)?;
        progress(Progress::Stage("fitting demand"));
        let regions = self.features.regions(training)?;
        let items = ItemMap::new(self.features, &catalogue.vocabulary);
        let (placement, demand_fit) = self.fit_placement(&sequence, &items, &regions)?;
        let train_requests = self.features.count(training)?;
        let data = self.data_report(train_requests, &sessions, &catalogue, &regions);
        let coaccess_fit =
            CoAccessReport { client_keys: coaccess.client.len() as u64, region_keys: coaccess.region.len() as u64 };
        let (first, last) = self.features.first_and_last(training)?;
        let range = TrainingRange { logs: data.logs.clone(), first, last, requests: train_requests };
        let model = Model {
            vocabulary: catalogue.vocabulary,
            sequence,
            coaccess,
            blend,
            placement,
            regions,
            gate: None,
            manifest: Manifest::new(now, self.config.seed, range),
            config: self.config.model.clone(),
            metrics: serde_json::json!({ "demand_fit": demand_fit }),
            card: String::new(),
        };
        progress(Progress::Stage("fitting the gate"));
        let (mut model, gate_fit) = self.fit_gate(known, best, model, progress)?;
        let evaluation = evaluate_part(self.features, &model, Some(training), self.parts.test, self.config, progress)?;
        progress(Progress::Stage("looking closer"));
        let most = self.config.evaluate.predictions_max.min(DETAIL_PREDICTIONS_MAX);
        let details = Details::measure(self.features, &model, self.parts.test, most, &[], progress)?;
        let metrics =
            TrainMetrics { data, epochs, best_epoch, coaccess_fit, blend_fit, demand_fit, gate_fit, evaluation };
        model.card = card(&metrics);
        model.metrics = serde_json::to_value(&metrics).map_err(Error::Metrics)?;
        Ok((model, details))
    }

    /// Gives `model` a gate, fitted with the `known` vocabulary and the `best` network, which have not seen the validation
    /// slice, and tries it on the later part.
    fn fit_gate(
        &self,
        known: Vocabulary,
        best: SequenceModel,
        model: Model,
        progress: OnProgress<'_>,
    ) -> Result<(Model, GateReport)> {
        let (config, parts) = (&self.config.gate, self.parts);
        if config.requests_max == 0 {
            let left_out = Some("`gate.requests_max` is 0".to_owned());
            return Ok((model, GateReport { left_out, ..GateReport::default() }));
        }
        let plan = GatePlan { logs: self.logs, config, seed: self.config.seed };
        let earlier = Model {
            vocabulary: known,
            sequence: best,
            coaccess: fit_coaccess(self.features, parts.fit, &self.config.model.coaccess, progress)?,
            blend: self.blend_plan().fit(self.features, parts.fit)?.0,
            placement: model.placement.clone(),
            regions: model.regions.clone(),
            gate: None,
            manifest: model.manifest.clone(),
            config: model.config.clone(),
            metrics: serde_json::Value::Null,
            card: String::new(),
        };
        let training =
            self.within_bound(parts.training(), |range, half| TimeRange { start: range.end.before(half), ..range })?;
        let (gate, mut report) = plan.fit(&span(training), Arc::new(earlier), parts.validation.start)?;
        let Some(gate) = gate else { return Ok((model, report)) };
        let test = self.within_bound(parts.test, |range, half| TimeRange { end: range.start.after(half), ..range })?;
        let mut model = Arc::new(model);
        plan.try_later(&span(test), &mut model, gate, &mut report)?;
        Ok((Arc::unwrap_or_clone(model), report))
    }

    /// Halves `range` until it holds no more requests than the gate may be shown.
    fn within_bound(&self, mut range: TimeRange, halve: fn(TimeRange, Duration) -> TimeRange) -> Result<TimeRange> {
        while self.features.count(range)? > self.config.gate.requests_max {
            range = halve(range, range.end.since(range.start) / 2);
        }
        Ok(range)
    }

    fn sessions(&self, range: TimeRange) -> Result<Sessions> {
        let sessions = self.features.sessions(range)?;
        let (found, needed) = (sessions.transitions(), self.config.fit.transitions_min);
        if found < needed { Err(Error::TooFewTransitions { found, needed }) } else { Ok(sessions) }
    }

    /// Finds out on the validation slice how long to fit, with the vocabulary that would have been known before it.
    fn find_best_epoch(&self, saver: &mut Saver, progress: OnProgress<'_>) -> Result<(Vocabulary, EarlyStop)> {
        let Self { config, features, parts, .. } = self;
        let catalogue = Catalogue::build(features, parts.fit, &config.model.vocabulary)?;
        let sessions = self.sessions(parts.fit)?;
        let items = ItemMap::new(features, &catalogue.vocabulary);
        let most = config.fit.validation_predictions_max;
        let validate = |model: &SequenceModel| validate(features, parts.validation, model, &items, most);
        let early_stop = find_best_epoch(&self.plan(&catalogue, &sessions), saver, validate, progress)?;
        Ok((catalogue.vocabulary, early_stop))
    }

    fn plan<'a>(&'a self, catalogue: &'a Catalogue, sessions: &'a Sessions) -> FitPlan<'a> {
        let config = self.config;
        FitPlan { config: &config.model.sequence, fit: &config.fit, catalogue, sessions, seed: config.seed }
    }

    fn blend_plan(&self) -> BlendPlan<'_> {
        BlendPlan { config: &self.config.model.blend, fit: &self.config.blend, seed: self.config.seed }
    }

    fn fit_placement(
        &self,
        sequence: &SequenceModel,
        items: &ItemMap,
        regions: &[String],
    ) -> Result<(nearcast_models::PlacementHead, DemandFitReport)> {
        let config = &self.config.model.placement;
        let ask = DemandAsk {
            history: None,
            asked: self.parts.training(),
            config,
            newborn_from: self.parts.training().end,
            samples_max: self.config.demand.samples_max,
            seed: self.config.seed,
        };
        let set = DemandSet::sample(self.features, &ask)?;
        let map = RegionMap::new(&self.features.log.regions, regions);
        let (epochs, seed) = (self.config.demand.epochs, self.config.seed);
        let plan = PlacementPlan { config, sequence, items, map: &map, regions: regions.len(), epochs, seed };
        let (head, loss) = fit_placement(&plan, &set)?;
        let report = DemandFitReport {
            samples: set.samples.len() as u64,
            cells: set.cells(),
            loss,
            coarse_step_seconds: set.coarse_step().map(|step| step.as_secs()),
            baselines: fit_baselines(&set.samples, &set.grid),
        };
        Ok((head, report))
    }

    fn data_report(
        &self,
        train_requests: u64,
        sessions: &Sessions,
        catalogue: &Catalogue,
        regions: &[String],
    ) -> DataReport {
        let Self { logs, features, parts, .. } = self;
        DataReport {
            logs: logs.iter().map(ToString::to_string).collect(),
            requests: features.log.rows,
            train_requests,
            train_transitions: sessions.transitions() as u64,
            keys: features.log.keys.len() as u64,
            clients: features.log.clients as u64,
            regions: regions.to_vec(),
            start: rfc3339(parts.fit.start),
            validation_start: rfc3339(parts.validation.start),
            boundary: rfc3339(parts.test.start),
            vocabulary_rows: catalogue.vocabulary.len() as u64,
            vocabulary_left_out: catalogue.vocabulary.left_out_count(),
        }
    }
}

fn span(range: TimeRange) -> Range<Timestamp> {
    range.start..range.end
}

/// The file of a version with everything it was made with.
pub const TRAIN_CONFIG: &str = "train.toml";
/// The file of a version with its metrics as a table.
pub const METRICS_TABLE: &str = "metrics.parquet";
/// The file of a version with its report for people.
pub const REPORT: &str = "report.html";
/// Predictions that the report of a training looks at.
const DETAIL_PREDICTIONS_MAX: usize = 10_000;
const SCHEMA: &str = "nearcast.train/1";
/// The alias that serves when nothing else was decided.
const CHAMPION: &str = "champion";
