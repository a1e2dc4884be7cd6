//! `nearcast scheduler`: hands out the work of a training cluster.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use nearcast_trainer::cluster::run_scheduler;
use tokio::net::TcpListener;

use crate::{output::note, shutdown::shutdown_signal};

/// Arguments of `nearcast scheduler`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one, named in the line `ready HOST:PORT`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50050")]
    listen: SocketAddr,
    /// Host under which executors reach this scheduler [default: the address listened on].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

const EXAMPLES: &str = "\
Anyone who reaches the scheduler or an executor can have it read files: keep them on a private network.
Trainer, scheduler and executors must be of the same version. SIGTERM and Ctrl-C end it.

Examples:
  nearcast scheduler --listen 0.0.0.0:50050 --host trainer-1.internal
  nearcast executor --scheduler trainer-1.internal:50050 --host worker-1.internal --bind 0.0.0.0
  nearcast train logs/ --registry models/ --engine ballista://trainer-1.internal:50050";

/// Runs the scheduler to its end.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        let host = args.host.clone().unwrap_or_else(|| address.ip().to_string());
        note(&format!("ready {host}:{}", address.port()));
        run_scheduler(listener, &host, shutdown_signal()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}
