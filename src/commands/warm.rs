//! `nearcast warm`: has nodes fetch objects before anybody asks for them.

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use indicatif::ProgressBar;
use nearcast_datasets::LogSource;

use crate::{
    operate::{
        Fleet, Nodes,
        keys::{self, Keys, Popular},
        size,
        warm::{self, Pace, Report},
    },
    output::Output,
    progress::counting_bar,
    shutdown::shutdown_signal,
};

/// Arguments of `nearcast warm`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// A file with a key a line, the most wanted first; `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present_any = ["keys", "log"], conflicts_with_all = ["keys", "log"])]
    list: Option<PathBuf>,
    /// An object.
    #[arg(long = "key", value_name = "KEY", conflicts_with = "log")]
    keys: Vec<String>,
    /// The most requested keys of a log: a Parquet file, a folder, or a URL. Each node takes those of its own region, or of
    /// all where the log does not have it.
    #[arg(long, value_name = "LOG")]
    log: Option<String>,
    /// How many keys of the log.
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "log")]
    top: usize,
    /// The keys of this region of the log, for all nodes.
    #[arg(long, value_name = "REGION", requires = "log")]
    region: Option<String>,
    /// Objects at a time, on each node; a node has its own bound too (`prefetch.warm_concurrency_max`).
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
    /// The most bytes to fetch in a second, on all nodes together, in equal shares.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    rate: Option<u64>,
}

const EXAMPLES: &str = "\
Nodes fetch what they do not hold as they would for a client, from peers that hold it or from the origin, while demand is
not busy, and look whether it is held then. It counts as no request, and what is fetched is not on probation. A node stops
when what was warmed would fill it. The exit code is 1 when a node or an object failed.

Examples:
  nearcast warm keys.txt --to cluster/cluster.json
  nearcast warm --log logs/ --top 10000 --to cluster/ --rate 20MiB --token-file admin.token
  nearcast warm --key /index.html --key /app.js --to http://10.0.0.1:8101 --json";

/// Has nodes fetch ahead.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::of(args)?;
    let pace = Pace { concurrency: usize::from(args.concurrency), bytes_per_second: args.rate };
    let bar: ProgressBar = counting_bar("objects");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let stop = shutdown_signal()?;
        let fleet = Fleet::find(&args.nodes).await?;
        let progress = |more, done| {
            bar.inc_length(more);
            bar.inc(done);
        };
        warm::warm(&fleet, pace, |region| wanted.keys(region), stop, progress).await
    });
    bar.finish_and_clear();
    let report = report?;
    output.show(&report, Report::text)?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which keys.
enum Wanted {
    /// These, on every node.
    All(Keys),
    /// The most requested of each node's region.
    Popular(Popular, usize),
}

impl Wanted {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let keys = match (&args.log, &args.list) {
            (Some(log), _) => {
                let popular = Popular::of_log(&LogSource::parse(log)?)?;
                match &args.region {
                    None => return Ok(Self::Popular(popular, args.top)),
                    Some(region) => popular.top_of(region, args.top)?,
                }
            }
            (None, Some(file)) => keys::of_list(file)?,
            (None, None) => args.keys.clone(),
        };
        ensure!(!keys.is_empty(), "there is no key to fetch: the list is empty");
        Ok(Self::All(keys))
    }

    fn keys(&self, region: &str) -> anyhow::Result<Keys> {
        match self {
            Self::All(keys) => Ok(keys.clone()),
            Self::Popular(popular, count) => {
                let keys = popular.top(region, *count);
                ensure!(!keys.is_empty(), "the log has no request");
                Ok(keys)
            }
        }
    }
}
