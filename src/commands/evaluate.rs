//! `nearcast evaluate`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use nearcast_datasets::LogSource;
use nearcast_models::{Model, Registry, VersionName};
use nearcast_trainer::{
    DemandReport, EvaluateOptions, Evaluation, NextKeyReport, Progress, Verdict, evaluate, evaluate_in_detail,
    replay::write_document, report_page,
};

use super::train::read_config;
use crate::{output::Output, progress::TrainingBar};

/// Arguments of `nearcast evaluate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A version or alias of the registry, or the directory of a version.
    model: String,
    /// Request logs: files, partitioned folders or object-store URLs.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<String>,
    /// Directory or URL of the registry that MODEL is in.
    #[arg(long, value_name = "R")]
    registry: Option<String>,
    /// Training configuration, for its sections `features`, `demand` and `evaluate`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any value of the configuration by its name; may be given more than once.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// Writes a page with charts: learning curves, reliability, hit rate by region and hour, and what the model knows.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A key that the report explains, instead of the most requested ones; may be given more than once.
    #[arg(long = "key", value_name = "KEY", requires = "report")]
    keys: Vec<String>,
    /// Measure on what the model was trained on, too; the numbers flatter then.
    #[arg(long)]
    allow_leakage: bool,
}

const EXAMPLES: &str = "\
Examples:
  nearcast evaluate champion later/ --registry models/
  nearcast evaluate champion later/ --registry models/ --report report.html --key /index.html
  nearcast evaluate models/versions/v0001 later.parquet --json | jq .verdicts";

/// Measures a model version on a log beside baselines.
#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments whole")]
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let raw = read_config(args.config.as_deref(), &args.settings)?;
    let options = EvaluateOptions { config: raw.try_into()?, allow_leakage: args.allow_leakage };
    let logs = args.logs.iter().map(|log| LogSource::parse(log)).collect::<Result<Vec<_>, _>>()?;
    let registry = args.registry.as_deref().map(Registry::open).transpose()?;
    let (version, model) = open(&args.model, registry.as_ref())?;
    let name = version.map_or_else(|| args.model.clone(), |version| version.to_string());
    let mut bar = TrainingBar::new();
    let mut show = |progress: Progress<'_>| bar.show(progress);
    let evaluation = match &args.report {
        None => evaluate(&model, &logs, &options, &mut show).map(|evaluation| (evaluation, None)),
        Some(_) => evaluate_in_detail(&model, &logs, &options, &args.keys, &mut show)
            .map(|(evaluation, details)| (evaluation, Some(details))),
    };
    bar.finish();
    let (mut evaluation, details) = evaluation?;
    if let Some((path, details)) = args.report.as_deref().zip(details) {
        write_document(&report_page(&name, &model, &evaluation, &details)?, path)?;
    }
    evaluation.model = Some(name);
    output.show(&evaluation, text)?;
    Ok(ExitCode::SUCCESS)
}

/// The model from the registry, with its version, or without a registry from the directory of that name.
pub(super) fn open(model: &str, registry: Option<&Registry>) -> anyhow::Result<(Option<VersionName>, Model)> {
    if let Some(registry) = registry {
        let (version, loaded) = registry.load(model)?;
        return Ok((Some(version), loaded));
    }
    let loaded = Model::load(Path::new(model)).with_context(|| {
        format!("`{model}` was taken for a directory; name a registry with --registry to use a version or alias")
    })?;
    Ok((None, loaded))
}

/// The evaluation as tables, verdicts and warnings.
pub(crate) fn text(evaluation: &Evaluation) -> String {
    let mut lines = vec![
        format!("measured on {} requests, {} to {}", evaluation.requests, evaluation.start, evaluation.end),
        next_key(&evaluation.next_key),
        demand(&evaluation.demand),
    ];
    lines.extend(evaluation.verdicts.iter().map(Verdict::sentence));
    lines.extend(evaluation.warnings().into_iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

fn next_key(report: &NextKeyReport) -> String {
    let mut table = table(&["next key, repeats left out", "HR@1", "HR@5", "HR@10", "HR@20", "MRR@20", "MRR@20 with"]);
    for (name, metrics) in &report.methods {
        let other = metrics.without_repeats;
        let values = [
            other.hit_rate_1,
            other.hit_rate_5,
            other.hit_rate_10,
            other.hit_rate_20,
            other.mrr_20,
            metrics.all.mrr_20,
        ];
        table.add_row([name.clone()].into_iter().chain(values.map(|value| format!("{value:.4}"))));
    }
    format!(
        "{table}\n{} of {} transitions ranked; {:.1} % repeat the current key, {:.1} % of the next keys are in the vocabulary",
        report.ranked,
        report.transitions,
        report.repeat_share * 100.0,
        report.known_share * 100.0
    )
}

fn demand(report: &DemandReport) -> String {
    let mut parts = Vec::new();
    for horizon in report.horizons.iter().filter(|horizon| horizon.left_out.is_none()) {
        let title = format!("demand in the next {} min", horizon.horizon_seconds as f64 / 60.0);
        let mut table = table(&[&title, "Poisson deviance per request", "newborn keys"]);
        for (name, deviance) in &horizon.all.deviance {
            let newborn =
                horizon.newborn.deviance.get(name).map_or_else(|| "-".to_owned(), |found| format!("{found:.4}"));
            table.add_row([name.clone(), format!("{deviance:.4}"), newborn]);
        }
        let expected = horizon.all.expected_per_request.iter();
        let ratios: Vec<String> = expected.map(|(name, ratio)| format!("{name} {ratio:.3}")).collect();
        parts.push(format!("{table}\nrequests expected for each that came: {}", ratios.join(", ")));
    }
    parts.push(format!("{} samples stand for {:.0} cells of key, region and instant", report.samples, report.cells));
    parts.join("\n")
}

fn table(header: &[&str]) -> Table {
    table_in(presets::UTF8_HORIZONTAL_ONLY, header)
}

/// A table whose columns but the first hold numbers.
pub(super) fn table_in(preset: &str, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(preset).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
