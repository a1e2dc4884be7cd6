//! `nearcast executor`: does the work of a training cluster.

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use nearcast_trainer::cluster::{ExecutorOptions, run_executor};
use tokio::time::sleep;

use crate::{output::note, shutdown::shutdown_signal};

/// Arguments of `nearcast executor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The scheduler to work for.
    #[arg(long, value_name = "HOST:PORT")]
    scheduler: String,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Host under which scheduler, trainer and other executors reach this one [default: the address listened on].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port that results are fetched from.
    #[arg(long, default_value_t = 50051)]
    port: u16,
    /// Port that tasks arrive at.
    #[arg(long, default_value_t = 50052)]
    task_port: u16,
    /// Tasks at a time [default: one a core].
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
    /// Folder for results and for what spills [default: one in the system's temporary folder].
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

const EXAMPLES: &str = "\
A task counts one part of the co-access and may take `features.memory_mib` / `features.partitions` of memory, besides a
few bytes for every client. SIGTERM and Ctrl-C end it when its tasks are done, or after 30 s; a killed one's tasks go to others.

Examples:
  nearcast executor --scheduler 127.0.0.1:50050
  nearcast executor --scheduler trainer-1.internal:50050 --host worker-1.internal --bind 0.0.0.0 --work /scratch";

/// Runs the executor to its end.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let scheduler =
        args.scheduler.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    let scheduler = scheduler.with_context(|| format!("--scheduler is `{}`, but must be HOST:PORT", args.scheduler))?;
    let temporary = args.work.is_none().then(|| tempfile::Builder::new().prefix("nearcast-executor-").tempdir());
    let temporary = temporary.transpose().context("cannot make a temporary folder; give one with --work")?;
    let work = args.work.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned())).unwrap_or_default();
    let host = args.host.unwrap_or_else(|| args.bind.to_string());
    note(&format!("executor {host}:{} works for {}", args.port, args.scheduler));
    let options = ExecutorOptions {
        scheduler,
        bind: args.bind.to_string(),
        host,
        port: args.port,
        grpc_port: args.task_port,
        cores: args.tasks.unwrap_or(0),
        work,
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let ended = runtime.block_on(async {
        let asked = shutdown_signal()?;
        tokio::select! {
            ended = run_executor(options) => Ok::<_, anyhow::Error>(ended?),
            () = async { asked.await; sleep(GRACE).await } => Ok(()),
        }
    });
    // A part that is still being counted is counted again elsewhere.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// How long tasks may take to end after a signal, and a scheduler that is gone to be told.
const GRACE: Duration = Duration::from_secs(30);
