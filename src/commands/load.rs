//! `nearcast load`: plays a log over HTTP against running nodes.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nearcast_datasets::LogSource;

use crate::{
    load::{self, Access, LoadConfig, To},
    output::Output,
};

/// Arguments of `nearcast load`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The log: a Parquet file, a folder, or a URL.
    log: String,
    /// The cluster: the `cluster.json` that `nearcast up` writes, or URLs of nodes, as `http://…` or `region=http://…`.
    #[arg(long, required = true, num_args = 1.., value_name = "CLUSTER|URL")]
    to: Vec<String>,
    /// Log seconds per second; by default what the cluster was started for, else 1.
    #[arg(long, value_parser = positive)]
    speed: Option<f64>,
    /// Play at most so many requests.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Pass over so many requests at the log's beginning.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Play the log once under each of these arms, from empty caches and with nothing learned, and compare them.
    #[arg(long, value_delimiter = ',', value_name = "ARM,…")]
    arms: Vec<String>,
    /// Compare every body with what `nearcast origin` serves for this log.
    #[arg(long)]
    verify: bool,
    /// The most requests under way at once; further ones are sent late, which is counted.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// The predictor's gRPC URL, when no cluster.json names it.
    #[arg(long, value_name = "URL")]
    predictor: Option<String>,
    /// The origin's URL, when no cluster.json names it.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    #[command(flatten)]
    access: Access,
}

const EXAMPLES: &str = "\
Requests are sent in log time, divided by --speed, whatever became of those before, to the node of their region;
regions without a node are spread over all nodes by client. Ctrl-C ends the play early with what there is.
The exit code is 1 when nothing was answered, or when --verify found a wrong body.

Examples:
  nearcast load web-1995.parquet --to cluster/cluster.json --arms none,nearcast --speed 60 --verify
  nearcast load web-1995.parquet --to http://127.0.0.1:8101 --limit 1000
  nearcast load web-1995.parquet --to eu=http://10.0.0.1 us=http://10.0.0.2 --json";

/// Plays a log over HTTP against running nodes and reports what clients felt.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = LoadConfig {
        log: LogSource::parse(&args.log)?,
        speed: args.speed,
        skip: args.skip,
        limit: args.limit,
        arms: args.arms,
        verify: args.verify,
        concurrency: usize::from(args.concurrency),
    };
    let to = To { places: args.to, predictor: args.predictor, origin: args.origin };
    // Hides itself unless stderr is a terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {percent:>3} % {human_pos} requests {per_sec}") {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let progress = move |name: &str, done: u64, total: Option<u64>| {
        if done == 1 {
            shown.reset();
            shown.set_prefix(name.to_owned());
        }
        if let Some(total) = total {
            shown.set_length(total);
        }
        shown.set_position(done);
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(load::load(&config, &to, &args.access, progress));
    bar.finish_and_clear();
    // After Ctrl-C the log's reader may still be at it.
    runtime.shutdown_timeout(SHUTDOWN);
    let report = report?;
    output.show(&report, load::Report::text)?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("give a number above 0".to_owned()),
    }
}

const SHUTDOWN: Duration = Duration::from_secs(1);
