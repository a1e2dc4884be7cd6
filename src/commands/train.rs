//! `nearcast train`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use nearcast_datasets::{LogSource, Timestamp, store::Location};
use nearcast_models::Registry;
use nearcast_trainer::{
    CheckpointOptions, GateReport, GateTrials, METRICS_TABLE, PublishOptions, Published, REPORT, RawTrainConfig,
    TRAIN_CONFIG, TrainConfig, checkpoint_name, has_checkpoint, train,
};

use super::evaluate;
use crate::{
    output::{Output, note},
    progress::TrainingBar,
    track::{Target, Trackers},
};

/// Arguments of `nearcast train`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Request logs: files, partitioned folders or object-store URLs; they may overlap in time.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<String>,
    /// Directory or URL of the model registry to publish to.
    #[arg(long, value_name = "R")]
    registry: String,
    /// Training configuration; the flags below override it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Share of the time span to train on; the rest measures the model.
    #[arg(long, value_name = "SHARE")]
    train_share: Option<f64>,
    /// Share of the training span, at its end, that decides when to stop.
    #[arg(long, value_name = "SHARE")]
    validation_share: Option<f64>,
    /// Most passes over the training sessions.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Decides everything random: the same seed and logs give the same weights, byte for byte.
    #[arg(long)]
    seed: Option<u64>,
    /// Where features are computed: `embedded`, in this process, or `ballista://HOST:PORT`, on the cluster of that
    /// scheduler; see `docs/TRAINING-CLUSTER.md`.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// Sets any value of the configuration by its name; may be given more than once.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// Alias to point at the new version [default: champion, if there is none yet].
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Where to track the run: `tb:DIR` for TensorBoard, `mlflow+http://HOST:PORT[/EXPERIMENT]` for MLflow; may be given
    /// more than once. A server that is away is reported and stops nothing.
    #[arg(long, value_name = "TARGET")]
    track: Vec<Target>,
    /// Goes on from the checkpoint of a training that was interrupted, to the same bytes.
    #[arg(long, conflicts_with = "no_checkpoints")]
    resume: bool,
    /// Folder or object-store URL for checkpoints, emptied when the version is published [default: one below the registry,
    /// named after configuration and logs].
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<String>,
    /// Longest time between checkpoints; one is written after every pass anyway.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    checkpoint_minutes: f64,
    /// Writes no checkpoints.
    #[arg(long, conflicts_with = "checkpoints")]
    no_checkpoints: bool,
}

const EXAMPLES: &str = "\
Examples:
  nearcast train datasets/samples/web-1995.parquet --registry models/
  nearcast train s3://bucket/logs/ --registry s3://bucket/models -c train.toml
  nearcast train logs/ --registry models/ --alias challenger --seed 7 --json | jq .evaluation.verdicts
  nearcast train logs/ --registry models/ --set fit.epochs_max=20 --set model.sequence.embedding_width=128
  nearcast train logs/ --registry models/ --resume
  nearcast train s3://bucket/logs/ --registry s3://bucket/models --engine ballista://scheduler:50050 \\
      --set features.partitions=8 --set features.shared=s3://bucket/scratch
  nearcast train logs/ --registry models/ --track tb:runs/first --track mlflow+http://localhost:5000/prefetch

The split is by time: the model is measured on what comes after everything it learned from.";

/// Trains a model version from Parquet logs and publishes it.
#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments whole")]
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = args.config()?;
    let logs = args.logs.iter().map(|log| LogSource::parse(log)).collect::<Result<Vec<_>, _>>()?;
    let registry = Registry::open(&args.registry)?;
    registry.check_writable()?;
    let checkpoints = args.checkpoint_options(&config)?;
    let options = PublishOptions { now: now(), alias: args.alias.clone(), checkpoints: checkpoints.clone() };
    let mut trackers = Trackers::begin(&args.track, &config.raw, &args.logs)?;
    let mut bar = TrainingBar::new();
    let published = train(&config, &logs, &registry, &options, &mut |progress| {
        bar.show(progress);
        trackers.hear(progress);
    });
    bar.finish();
    let published = match published {
        Ok(published) => published,
        Err(error) => {
            trackers.fail(&error.to_string());
            note_checkpoint(checkpoints.as_ref());
            return Err(anyhow::Error::new(error).context("nothing was published"));
        }
    };
    let files =
        VERSION_FILES.into_iter().map(|name| Ok(registry.file(published.version, name)?.map(|file| (name, file))));
    let files = files.collect::<nearcast_models::Result<Vec<_>>>()?;
    let files: Vec<_> = files.into_iter().flatten().collect();
    trackers.finish(&published.metrics, &published.version.to_string(), &files);
    output.show(&published, |published| text(published, &args.registry))?;
    Ok(ExitCode::SUCCESS)
}

/// Says after a failure what is left to go on from.
fn note_checkpoint(checkpoints: Option<&CheckpointOptions>) {
    let Some(CheckpointOptions { folder, .. }) = checkpoints else { return };
    // Whoever cannot look has been told why training failed.
    if has_checkpoint(folder).unwrap_or(false) {
        note(&format!("the last good checkpoint is in {folder}; `--resume` goes on from it"));
    }
}

impl Args {
    fn config(&self) -> anyhow::Result<TrainConfig> {
        let mut raw = read_config(self.config.as_deref(), &self.settings)?;
        raw.seed = self.seed.unwrap_or(raw.seed);
        raw.split.train_share = self.train_share.unwrap_or(raw.split.train_share);
        raw.split.validation_share = self.validation_share.unwrap_or(raw.split.validation_share);
        raw.features.engine = self.engine.clone().unwrap_or(raw.features.engine);
        raw.fit.epochs_max = self.epochs.unwrap_or(raw.fit.epochs_max);
        Ok(raw.try_into()?)
    }

    fn checkpoint_options(&self, config: &TrainConfig) -> anyhow::Result<Option<CheckpointOptions>> {
        if self.no_checkpoints {
            return Ok(None);
        }
        let minutes = self.checkpoint_minutes;
        ensure!((0.0..=1e6).contains(&minutes), "--checkpoint-minutes is {minutes}, but must be from 0 to 1000000");
        let folder = match &self.checkpoints {
            Some(folder) => Location::parse(folder)?,
            None => {
                let root = Location::parse(&self.registry)?.join("checkpoints");
                root.join(&checkpoint_name(&config.raw, &self.logs)?)
            }
        };
        let every = Duration::from_secs_f64(minutes * 60.0);
        if !self.resume && has_checkpoint(&folder)? {
            note(&format!("{folder} holds a checkpoint of an interrupted training; starting anew, without `--resume`"));
        }
        Ok(Some(CheckpointOptions { folder, every, clock: now, resume: self.resume }))
    }
}

/// The configuration in a file, or the default one, with single values set.
pub(crate) fn read_config(path: Option<&Path>, settings: &[String]) -> anyhow::Result<RawTrainConfig> {
    let raw = path.map(RawTrainConfig::read).transpose()?.unwrap_or_default();
    Ok(raw.set(settings)?)
}

fn text(published: &Published, registry: &str) -> String {
    let metrics = &published.metrics;
    let data = &metrics.data;
    let alias = published.alias.as_ref().map(|alias| format!(", now `{alias}`")).unwrap_or_default();
    format!(
        "trained on {} of {} requests ({} keys, {} clients, {} regions), {} to {}\n\
         best of {} epochs: {}\n\n{}\n{}\n\npublished {} to {registry}{alias}",
        data.train_requests,
        data.requests,
        data.keys,
        data.clients,
        data.regions.len(),
        data.start,
        data.boundary,
        metrics.epochs.len(),
        metrics.best_epoch,
        evaluate::text(&metrics.evaluation),
        gate(&metrics.gate_fit),
        published.version,
    )
}

/// How the gate was fitted, and how it does against one that starts from nothing.
fn gate(report: &GateReport) -> String {
    if let Some(reason) = &report.left_out {
        return format!("warning: the version carries no gate: {reason}");
    }
    let (labels, error) = (report.labels, report.calibration_error);
    let mut lines = vec![format!("gate fitted on {labels} labels, expected calibration error {error:.4}")];
    lines.extend(report.later.iter().flat_map(GateTrials::verdicts));
    lines.extend(
        report.untried.iter().map(|reason| format!("warning: the gate was not tried on later traffic: {reason}")),
    );
    lines.join("\n")
}

/// What an experiment tracker keeps of a version.
const VERSION_FILES: [&str; 5] = ["MODEL_CARD.md", "metrics.json", METRICS_TABLE, REPORT, TRAIN_CONFIG];

/// The time that a version is stamped with.
#[expect(clippy::disallowed_methods, reason = "the shell's clock: it dates what is written and says when to save")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
