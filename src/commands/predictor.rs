//! `nearcast predictor`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use nearcast_predictor::{PredictorConfig, listen};
use nearcast_proto::ConfigCheck;

use crate::{output::Output, shutdown::shutdown_signal};

/// Arguments of `nearcast predictor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration, TOML.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration and the files that it names, and say what the predictor would do with it; exit 1 when
    /// it is not valid.
    #[arg(long, visible_alias = "check")]
    check_config: bool,
}

/// Runs the predictor service until Ctrl-C or SIGTERM.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let config =
        PredictorConfig::load(&args.config).with_context(|| format!("cannot use {}", args.config.display()))?;
    if args.check_config {
        config.check_files().with_context(|| format!("cannot use {}", args.config.display()))?;
        output.show(&ConfigCheck::passed(&args.config, config.would()), ConfigCheck::to_string)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: PredictorConfig) -> anyhow::Result<()> {
    // Before the sockets are bound, so that no signal is missed once somebody can see them.
    let shutdown = shutdown_signal().context("cannot listen for signals")?;
    let (grpc, http) = listen(&config).await?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
    // Connections are queued from here on; `/readyz` says when a model has been looked for.
    writeln!(io::stderr(), "ready http://{http_address} grpc {scheme}://{grpc_address}")?;
    nearcast_predictor::run(grpc, http, config, shutdown).await?;
    Ok(())
}
