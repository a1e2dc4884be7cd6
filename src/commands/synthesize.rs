//! `nearcast synthesize`: makes a log whose best achievable accuracy is known.

use std::{fmt::Write, process::ExitCode, time::Duration};

use indicatif::{BinaryBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nearcast_datasets::synthesize::{BestAccuracy, RegionConfig, SynthesizeReport, WorkloadConfig, synthesize};

use crate::{destination::Destination, output::Output};

/// Arguments of `nearcast synthesize`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the log goes: a folder with one `date=YYYY-MM-DD/` a day and truth.json, or one file when it ends in .parquet;
    /// local, or a URL of an object store.
    #[arg(short, long, value_name = "OUT")]
    output: String,
    /// Requests.
    #[arg(long, default_value_t = WorkloadConfig::default().request_count)]
    requests: u64,
    /// Keys that are alive at any time.
    #[arg(long, default_value_t = WorkloadConfig::default().key_count)]
    keys: u32,
    /// Clients [default: one per 50 requests, at least 20,000].
    #[arg(long)]
    clients: Option<u32>,
    /// Regions with their time zones (hours from UTC) and shares of demand.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME:OFFSET:SHARE,…",
        default_value = "eu:+1:0.4,us:-5:0.35,asia:+8:0.25"
    )]
    regions: Vec<RegionConfig>,
    /// Expected span, in days.
    #[arg(long, default_value_t = WorkloadConfig::default().days)]
    days: f64,
    /// The same settings and seed give the same files, byte by byte.
    #[arg(long, default_value_t = WorkloadConfig::default().seed)]
    seed: u64,
    /// Skew of popularity.
    #[arg(long, default_value_t = WorkloadConfig::default().zipf_exponent, value_name = "EXPONENT")]
    zipf: f64,
    /// Share of popularity that is a region's own taste.
    #[arg(long, default_value_t = WorkloadConfig::default().regional_share, value_name = "SHARE")]
    regional_share: f64,
    /// Share of popularity that belongs to a part of the local day, six of them, each with a taste of its own.
    #[arg(long, default_value_t = WorkloadConfig::default().daypart_share, value_name = "SHARE")]
    dayparts: f64,
    /// Share of requests within a session that follow the chain; the others are drawn by popularity.
    #[arg(long, default_value_t = WorkloadConfig::default().follow_share, value_name = "SHARE")]
    follow: f64,
    /// Share of keys in numbered families, such as seg-00041.ts.
    #[arg(long, default_value_t = WorkloadConfig::default().numbered_share, value_name = "SHARE")]
    numbered: f64,
    /// Swaps of two keys' popularity a day, as a share of the keys.
    #[arg(long, default_value_t = WorkloadConfig::default().drift_per_day, value_name = "SHARE")]
    drift: f64,
    /// Keys born a day, as a share of the keys; as many retire.
    #[arg(long, default_value_t = WorkloadConfig::default().newborn_per_day, value_name = "SHARE")]
    newborn: f64,
    /// Strength of day and night: 0 is none, 1 means no demand at the quietest hour.
    #[arg(long, default_value_t = WorkloadConfig::default().diurnal_amplitude, value_name = "SHARE")]
    amplitude: f64,
    /// Mean requests of a session.
    #[arg(long, default_value_t = WorkloadConfig::default().session_requests_mean, value_name = "COUNT")]
    session_requests: f64,
    /// Mean time between two requests of a session.
    #[arg(long, default_value_t = WorkloadConfig::default().think_mean.as_secs_f64(), value_name = "SECONDS")]
    think_seconds: f64,
    /// Median size of objects.
    #[arg(long, default_value_t = WorkloadConfig::default().size_median_bytes, value_name = "BYTES")]
    size_median: f64,
    /// Standard deviation of the logarithm of sizes.
    #[arg(long, default_value_t = WorkloadConfig::default().size_sigma, value_name = "SIGMA")]
    size_sigma: f64,
}

const EXAMPLES: &str = "\
Examples:
  nearcast synthesize -o logs/
  nearcast synthesize -o s3://bucket/logs
  nearcast synthesize -o small.parquet --requests 50000 --keys 2000 --days 2 --drift 0 --newborn 0
  nearcast synthesize -o big/ --requests 100000000 --keys 1000000 --days 14 --seed 7
  nearcast synthesize -o logs/ --json | jq '.truth.next_key.at[] | select(.k == 10)'";

/// Makes a seeded log whose best achievable accuracy is known.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let out = Destination::open(&args.output)?;
    let config = config(args)?;
    // Hides itself unless stderr is a terminal.
    let bar = ProgressBar::with_draw_target(Some(config.request_count), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("making {bar:30} {percent:>3} % {human_pos} rows {per_sec} {eta}")?);
    let mut report = synthesize(&config, out.path(), |rows| bar.set_position(rows))?;
    out.deliver()?;
    bar.finish_and_clear();
    for path in report.files.iter_mut().chain([&mut report.output, &mut report.truth_file]) {
        *path = out.shown(path);
    }
    output.show(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn config(args: Args) -> anyhow::Result<WorkloadConfig> {
    let clients = args.clients.map_or_else(|| u32::try_from((args.requests / 50).max(20_000)), Ok);
    Ok(WorkloadConfig {
        request_count: args.requests,
        key_count: args.keys,
        client_count: clients?,
        regions: args.regions,
        days: args.days,
        seed: args.seed,
        zipf_exponent: args.zipf,
        regional_share: args.regional_share,
        daypart_share: args.dayparts,
        follow_share: args.follow,
        numbered_share: args.numbered,
        drift_per_day: args.drift,
        newborn_per_day: args.newborn,
        diurnal_amplitude: args.amplitude,
        session_requests_mean: args.session_requests,
        think_mean: Duration::try_from_secs_f64(args.think_seconds)?,
        size_median_bytes: args.size_median,
        size_sigma: args.size_sigma,
        ..WorkloadConfig::default()
    })
}

fn text(report: &SynthesizeReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16}{value}");
    };
    line("requests", HumanCount(report.requests).to_string());
    line("keys", format!("{} ever born", HumanCount(report.born_keys as u64)));
    line("span", format!("{} to {}", report.first, report.last));
    line("written", format!("{} ({})", report.output.display(), BinaryBytes(report.bytes)));
    line("truth", report.truth_file.display().to_string());
    text.push_str("\nbest achievable hit rate at      ");
    for entry in &report.truth.next_key.at {
        let _ = write!(text, "{:>8}", entry.k);
    }
    for (name, best) in [
        ("within a session", &report.truth.next_key),
        ("first of a session", &report.truth.first_key),
        ("all requests", &report.truth.any_key),
    ] {
        let _ = write!(text, "\n  {name:<31}{}", rates(best));
    }
    text
}

fn rates(best: &BestAccuracy) -> String {
    best.at.iter().map(|entry| format!("{:>8.4}", entry.best_hit_rate)).collect()
}
