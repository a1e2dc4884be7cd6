//! `nearcast compare`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::ensure;
use comfy_table::{Table, presets};
use nearcast_datasets::LogSource;
use nearcast_models::Registry;
use nearcast_trainer::{
    Blocks, CompareOptions, Comparison, Contender, Measured, MetricDifference, TRAIN_CONFIG, compare,
};

use super::{evaluate, train::read_config};
use crate::{output::Output, progress::TrainingBar};

/// Arguments of `nearcast compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A version or alias of the registry, or the directory of a version.
    a: String,
    /// The one to compare it with.
    b: String,
    /// Request logs that neither has seen; without any, only what was recorded at training is compared.
    #[arg(value_name = "LOG")]
    logs: Vec<String>,
    /// Directory or URL of the registry that A and B are in.
    #[arg(long, value_name = "R")]
    registry: Option<String>,
    /// Training configuration, for its seed and its sections `features` and `evaluate`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any value of the configuration by its name; may be given more than once.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// What is drawn as a whole for the intervals: what depends on each other must stay together.
    #[arg(long, value_enum, default_value_t = BlockKind::Time)]
    blocks: BlockKind,
    /// How often the blocks are drawn.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    draws: usize,
    /// Share of the draws that an interval holds.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    level: f64,
    /// Measure on what a version was trained on, too; its numbers flatter then.
    #[arg(long)]
    allow_leakage: bool,
}

/// `--blocks`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum BlockKind {
    /// All predictions about one client.
    Client,
    /// All predictions of one stretch of time.
    Time,
}

const EXAMPLES: &str = "\
Examples:
  nearcast compare v0001 v0002 --registry models/
  nearcast compare champion challenger later/ --registry models/
  nearcast compare champion challenger later/ --registry models/ --blocks client --json | jq .measured.metrics

The intervals are paired block bootstraps: both models' ranks of one request are drawn together, and requests of one
stretch of time (or of one client) together.";

/// Compares two versions.
#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments whole")]
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    ensure!((1..=1_000_000).contains(&args.draws), "--draws is {}, but must be from 1 to 1000000", args.draws);
    ensure!(args.level > 0.0 && args.level < 1.0, "--level is {}, but must be between 0 and 1", args.level);
    let raw = read_config(args.config.as_deref(), &args.settings)?;
    let options = CompareOptions {
        config: raw.try_into()?,
        allow_leakage: args.allow_leakage,
        blocks: match args.blocks {
            BlockKind::Client => Blocks::Client,
            BlockKind::Time => Blocks::Time,
        },
        turns: args.draws,
        level: args.level,
    };
    let logs = args.logs.iter().map(|log| LogSource::parse(log)).collect::<Result<Vec<_>, _>>()?;
    let registry = args.registry.as_deref().map(Registry::open).transpose()?;
    let (a, b) = (open(&args.a, registry.as_ref())?, open(&args.b, registry.as_ref())?);
    let mut bar = TrainingBar::new();
    let comparison = compare(&a, &b, &logs, &options, &mut |progress| bar.show(progress));
    bar.finish();
    output.show(&comparison?, text)?;
    Ok(ExitCode::SUCCESS)
}

fn open(name: &str, registry: Option<&Registry>) -> anyhow::Result<Contender> {
    let (version, model) = evaluate::open(name, registry)?;
    let config = match registry.zip(version) {
        Some((registry, version)) => registry.file(version, TRAIN_CONFIG)?,
        None => fs::read(Path::new(name).join(TRAIN_CONFIG)).ok(),
    };
    let config = config.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let name = version.map_or_else(|| name.to_owned(), |version| version.to_string());
    Ok(Contender { name, model, config })
}

fn text(comparison: &Comparison) -> String {
    let Comparison { a, b, .. } = comparison;
    let mut parts = vec![config(comparison), recorded(comparison)];
    match &comparison.measured {
        Some(measured) => parts.push(measures(a, b, measured)),
        None => {
            parts.push("no intervals: give a log that neither has seen to measure both on the same requests".to_owned())
        }
    }
    parts.join("\n\n")
}

fn config(comparison: &Comparison) -> String {
    if comparison.config.is_empty() {
        return "made with the same settings".to_owned();
    }
    let mut table = table(&["setting", &comparison.a, &comparison.b]);
    for found in &comparison.config {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        table.add_row([found.name.clone(), value(&found.a), value(&found.b)]);
    }
    table.trim_fmt()
}

/// The recorded numbers of the model's own methods; `--json` has all.
fn recorded(comparison: &Comparison) -> String {
    let mut table = table(&["recorded at training", &comparison.a, &comparison.b]);
    let shown = |name: &str| RECORDED.iter().any(|(begin, end)| name.starts_with(begin) && name.ends_with(end));
    let mut rows = 0;
    for found in comparison.recorded.iter().filter(|found| shown(&found.name)) {
        let name = found.name.trim_start_matches("evaluation/").to_owned();
        table.add_row([name, format!("{:.4}", found.a), format!("{:.4}", found.b)]);
        rows += 1;
    }
    match (rows, comparison.recorded_on_the_same) {
        (0, _) => "no number was recorded by both".to_owned(),
        (_, true) => table.trim_fmt(),
        (_, false) => {
            format!(
                "{}\nwarning: recorded on different logs or ranges, so they say nothing about which is better",
                table.trim_fmt()
            )
        }
    }
}

fn measures(a: &str, b: &str, measured: &Measured) -> String {
    let level = measured.level * 100.0;
    let header = format!("{level:.0} % interval");
    let mut table = table(&["measured, repeats left out", a, b, "difference", &header, ""]);
    let shown = measured.metrics.iter().filter(|found| !found.with_repeats);
    for MetricDifference { method, metric, a: of_a, b: of_b, interval, .. } in shown {
        let verdict = match (interval.is_clear(), interval.difference > 0.0) {
            (false, _) => "not clear".to_owned(),
            (true, true) => format!("{b} is better"),
            (true, false) => format!("{a} is better"),
        };
        table.add_row([
            format!("{method} {metric}"),
            format!("{of_a:.4}"),
            format!("{of_b:.4}"),
            format!("{:+.4}", interval.difference),
            format!("{:+.4} to {:+.4}", interval.low, interval.high),
            verdict,
        ]);
    }
    let blocks = match measured.blocks {
        Blocks::Client => "clients",
        Blocks::Time => "stretches of time",
    };
    let mut text = format!(
        "{}\n{} predictions of {}, {} to {}; paired bootstrap of {} {blocks}, {} draws",
        table.trim_fmt(),
        measured.predictions,
        measured.log,
        measured.start,
        measured.end,
        measured.block_count,
        measured.turns,
    );
    for warning in measured.warnings() {
        text = format!("{text}\nwarning: {warning}");
    }
    text
}

fn table(header: &[&str]) -> Table {
    evaluate::table_in(presets::NOTHING, header)
}

const RECORDED: [(&str, &str); 4] = [
    ("evaluation/next_key/methods/model/without_repeats/", "_20"),
    ("evaluation/next_key/methods/model_online/without_repeats/", "_20"),
    ("evaluation/next_key/methods/sequence/without_repeats/", "_20"),
    ("evaluation/demand/horizons/", "/all/deviance/model"),
];
