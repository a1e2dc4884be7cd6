//! `nearcast up`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use comfy_table::{Table, presets};
use nearcast_predictor::{PlacementKind, engine::Arm};

use crate::{
    output::Output,
    shutdown::shutdown_signal,
    up::{CacheSize, Cluster, ClusterDocument, UpConfig},
};

/// Arguments of `nearcast up`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The log whose objects the origin serves and whose regions get a node each.
    #[arg(long, value_name = "LOG", default_value = "datasets/samples/web-1995.parquet")]
    log: String,
    /// The cluster's folder: configurations, logs, caches and cluster.json.
    #[arg(long, value_name = "DIR", default_value = "cluster")]
    dir: PathBuf,
    /// Regions that get a node, instead of all of the log's.
    #[arg(long, value_delimiter = ',', value_name = "REGION,…")]
    regions: Vec<String>,
    /// Round trips and bandwidths, TOML; without one, all regions are 80 ms apart and 120 ms from the origin.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Log seconds per second that the log will be played with: injected round trips are divided by it.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    speed: f64,
    /// The model registry whose champion is in service.
    #[arg(long, value_name = "REGISTRY")]
    registry: Option<String>,
    /// Whether to prefetch: `nearcast` or `none`.
    #[arg(long, default_value = "nearcast", value_parser = parse_arm)]
    arm: Arm,
    /// Each node's cache: a size, or a share of the log's distinct bytes.
    #[arg(long, value_name = "SIZE|SHARE", default_value = "0.1")]
    cache: CacheSize,
    /// What decides which nodes hold which keys: `gapa`, `reactive` or `none`.
    #[arg(long, default_value = "none", value_parser = parse_placement)]
    placement: PlacementKind,
    /// End by itself after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    exit_after: Option<f64>,
}

const EXAMPLES: &str = "\
Runs until Ctrl-C or SIGTERM. A process that dies is reported, the others go on; the exit code is then 1. Any of them
can be started again by hand with the configuration in the cluster's folder.

Examples:
  nearcast up --log datasets/samples/web-1995.parquet --speed 60
  nearcast up --log news.parquet --regions br-21,br-25,abroad --registry models --cache 64MiB";

/// Starts a whole cluster of real processes on this machine.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let exit_after = args.exit_after.map(Duration::try_from_secs_f64).transpose().context("--exit-after is no time")?;
    let config = UpConfig {
        log: args.log,
        dir: args.dir,
        regions: args.regions,
        topology: args.topology,
        speed: args.speed,
        registry: args.registry,
        arm: args.arm,
        cache: args.cache,
        placement: args.placement,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(keep_up(config, exit_after, output))
}

async fn keep_up(config: UpConfig, exit_after: Option<Duration>, output: Output) -> anyhow::Result<ExitCode> {
    let mut shutdown = Box::pin(shutdown_signal().context("cannot listen for signals")?);
    let mut cluster = tokio::select! {
        cluster = Cluster::start(config) => cluster?,
        // Processes that were started are killed as their handles are dropped.
        () = &mut shutdown => return Ok(ExitCode::FAILURE),
    };
    output.show(&cluster.document, table)?;
    let until = async {
        match exit_after {
            Some(after) => tokio::select! {
                () = shutdown => {}
                () = tokio::time::sleep(after) => {}
            },
            None => shutdown.await,
        }
    };
    let died = cluster.watch(until, say).await;
    let unwell = cluster.stop().await;
    if !unwell.is_empty() {
        say(&format!("did not end well: {}; see their logs", unwell.join(", ")));
    }
    Ok(if died == 0 && unwell.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(message: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{message}");
}

fn table(document: &ClusterDocument) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["process", "region", "url"]);
    table.add_row(["origin", "", &document.origin]);
    table.add_row(["predictor", "", &format!("{}/status", document.predictor.http)]);
    for node in &document.nodes {
        table.add_row([&node.name, &node.region, &node.url]);
    }
    let file = document.dir.join("cluster.json");
    let next = format!(
        "nearcast load {} --to {} --arms none,nearcast --verify",
        shortest(document.log.as_ref()).display(),
        shortest(&file).display()
    );
    format!(
        "{table}\n\nIt is up; logs are in {}. Its page, in a browser:\n  {}/\nNext, in another terminal:\n  {next}",
        shortest(&document.dir).display(),
        document.predictor.http.trim_end_matches('/'),
    )
}

/// Without the current folder in front, where that is possible.
fn shortest(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).map_or_else(|_| path.to_owned(), Path::to_owned)
}

fn parse_placement(name: &str) -> Result<PlacementKind, String> {
    match name {
        "none" => Ok(PlacementKind::None),
        "reactive" => Ok(PlacementKind::Reactive),
        "gapa" => Ok(PlacementKind::Gapa),
        _ => Err("placements of a running cluster are `gapa`, `reactive` and `none`".to_owned()),
    }
}

fn parse_arm(name: &str) -> Result<Arm, String> {
    match name {
        "none" => Ok(Arm::None),
        "nearcast" => Ok(Arm::Nearcast),
        _ => Err("the arms are `nearcast` and `none`".to_owned()),
    }
}
