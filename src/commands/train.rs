//! `nearcast train`.

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context;
use nearcast_datasets::{LogSource, Timestamp};
use nearcast_models::Registry;
use nearcast_trainer::{GateReport, GateTrials, PublishOptions, Published, RawTrainConfig, TrainConfig, train};

use super::evaluate;
use crate::{output::Output, progress::TrainingBar};

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
    /// Alias to point at the new version [default: champion, if there is none yet].
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  nearcast train datasets/samples/web-1995.parquet --registry models/
  nearcast train logs/ --registry s3://bucket/models -c train.toml
  nearcast train logs/ --registry models/ --alias challenger --seed 7 --json | jq .evaluation.verdicts";

/// Trains a model version from Parquet logs and publishes it.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = args.config()?;
    let logs = args.logs.iter().map(|log| LogSource::parse(log)).collect::<Result<Vec<_>, _>>()?;
    let registry = Registry::open(&args.registry)?;
    registry.check_writable()?;
    let options = PublishOptions { now: now(), alias: args.alias };
    let mut bar = TrainingBar::new();
    let published = train(&config, &logs, &registry, &options, &mut |progress| bar.show(progress));
    bar.finish();
    let published = published.context("nothing was published")?;
    output.show(&published, |published| text(published, &args.registry))?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn config(&self) -> anyhow::Result<TrainConfig> {
        let mut raw = match &self.config {
            Some(path) => RawTrainConfig::read(path)?,
            None => RawTrainConfig::default(),
        };
        raw.seed = self.seed.unwrap_or(raw.seed);
        raw.split.train_share = self.train_share.unwrap_or(raw.split.train_share);
        raw.split.validation_share = self.validation_share.unwrap_or(raw.split.validation_share);
        raw.fit.epochs_max = self.epochs.unwrap_or(raw.fit.epochs_max);
        Ok(raw.try_into()?)
    }
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

/// The time that a version is stamped with.
#[expect(clippy::disallowed_methods, reason = "the shell's clock: it only dates the manifest")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
