//! `nearcast origin`: serves the objects of a log.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use nearcast_datasets::LogSource;
use nearcast_proto::config_file;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    origin::{self, Objects},
    output::Output,
    shutdown::shutdown_signal,
};

/// Arguments of `nearcast origin`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The log whose objects are served: a Parquet file, a folder, or a URL.
    #[arg(required_unless_present = "config")]
    log: Option<String>,
    /// Address to listen on; port 0 takes a free one, named in the line `ready http://…`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// A TOML file with `log`, `listen` and `requests_max`; what is given here goes first.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Every key of the log is served at its path, at the size that the log says, with bytes that follow from the key.
Counts are at /_nearcast/status and /_nearcast/metrics. SIGTERM and Ctrl-C end it.

Examples:
  nearcast origin datasets/samples/web-1995.parquet --listen 127.0.0.1:8090
  nearcast origin -c origin.toml";

/// The configuration file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The log whose objects are served.
    log: String,
    /// Address to listen on.
    listen: SocketAddr,
    /// Answers under way at once; more wait, which is counted.
    requests_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: String::new(), listen: SocketAddr::from(([127, 0, 0, 1], 8090)), requests_max: 1_024 }
    }
}

/// Runs an origin that serves the objects of a log with reproducible content.
pub(crate) fn run(args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    let config = config(args)?;
    let source = LogSource::parse(&config.log)?;
    let objects = Objects::of_log(&source)?;
    tracing::info!(log = %source, objects = objects.len(), "log read");
    tokio::runtime::Runtime::new()?.block_on(serve(config, objects))?;
    Ok(ExitCode::SUCCESS)
}

fn config(args: Args) -> anyhow::Result<Config> {
    let mut config = match args.config.as_deref() {
        Some(path) => load(path)?,
        None => Config::default(),
    };
    config.log = args.log.unwrap_or(config.log);
    config.listen = args.listen.unwrap_or(config.listen);
    Ok(config)
}

fn load(path: &Path) -> anyhow::Result<Config> {
    let mut config: Config = config_file::load(path)?;
    anyhow::ensure!(!config.log.is_empty(), "{}: `log` is missing: name the log to serve", path.display());
    anyhow::ensure!(config.requests_max > 0, "{}: `requests_max` must be at least 1", path.display());
    // A relative log lies beside the file that names it.
    if !config.log.contains("://")
        && let Some(folder) = path.parent()
    {
        config.log = folder.join(&config.log).display().to_string();
    }
    Ok(config)
}

async fn serve(config: Config, objects: Objects) -> anyhow::Result<()> {
    let signal = shutdown_signal()?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is the port taken? try --listen 127.0.0.1:0", config.listen))?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let server = origin::serve(listener, objects, config.requests_max, stop.clone().cancelled_owned());
    // Whoever started this process waits for the line; without a reader the origin still serves.
    let _ = writeln!(io::stderr(), "ready http://{address}");
    let signalled = async {
        signal.await;
        stop.cancel();
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result?,
        () = signalled => tracing::warn!("answers were still under way at the end"),
    }
    Ok(())
}

/// How long answers under way may take to finish after a signal.
const DRAIN: Duration = Duration::from_secs(5);
