//! What `nearcast-node` and `nearcast node` share: arguments, signals, and how errors are told.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    thread::available_parallelism,
    time::Duration,
};

use anyhow::Context;
use nearcast_proto::ConfigCheck;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use crate::{NodeConfig, bind, check_files, run_reloading};

/// Arguments of a node.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's configuration, in TOML.
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only check the configuration and the files that it names, and say what the node would do with it; exit 1 when it is
    /// not valid.
    #[arg(long, visible_alias = "check")]
    pub check_config: bool,
}

/// Checks the configuration and what it names, and says what the node would do.
///
/// # Errors
/// When the configuration is wrong or a file that it names cannot be used.
pub fn check(args: &NodeArgs) -> anyhow::Result<ConfigCheck> {
    let config = load(args)?;
    check_files(&config).with_context(|| format!("cannot use {}", args.config.display()))?;
    Ok(ConfigCheck::passed(&args.config, config.would()))
}

fn load(args: &NodeArgs) -> anyhow::Result<NodeConfig> {
    NodeConfig::load(&args.config).with_context(|| format!("cannot use {}", args.config.display()))
}

/// Runs a node until SIGTERM or Ctrl-C, then drains it. SIGHUP makes it read its configuration again.
///
/// # Errors
/// When the configuration is wrong, the address is taken, or the node cannot start.
pub fn run(args: &NodeArgs) -> anyhow::Result<()> {
    let config = load(args)?;
    // On one core, threads only hand work to each other.
    let is_alone = available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder =
        if is_alone { runtime::Builder::new_current_thread() } else { runtime::Builder::new_multi_thread() };
    let runtime = builder.enable_all().thread_name("nearcast-node").build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let reloads = futures::stream::poll_fn(move |context| hang_up.poll_recv(context));
        let listeners = bind(&config).await?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run_reloading(listeners, config, reloads, shutdown).await?;
        Ok(())
    });
    // Everything that counts is written out; the payload store's own tasks may wait for each other for ever.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

/// Sends `tracing` to stderr; `RUST_LOG` overrides the level that `-v` chose.
pub fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let is_colourful = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_colourful).init();
}

/// Says on stderr what failed and why, one cause per line.
pub fn report_error(error: &anyhow::Error) {
    let mut stderr = io::stderr().lock();
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(stderr, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(stderr, "  caused by: {cause}");
    }
}

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
