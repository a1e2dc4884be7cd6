//! `nearcast drain`: moves placed keys off a node before it is taken out of service.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use nearcast_proto::wire::DrainRequest;
use serde::Serialize;
use tonic::Code;

use super::map::Predictor;
use crate::output::{Output, note};

/// Arguments of `nearcast drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The node's name.
    node: String,
    #[command(flatten)]
    predictor: Predictor,
    /// Use it again instead.
    #[arg(long)]
    undo: bool,
    /// Seconds to wait until no key is bound to it any more; 0 does not wait.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wait: u64,
}

const EXAMPLES: &str = "\
No other node asks a drained node, and the next plan places its keys elsewhere. It goes on serving its own clients: send
them elsewhere, then end it. A drained node stays drained over restarts, its own and the predictor's, until --undo.
The exit code is 1 when keys are still bound to it after --wait.

Examples:
  nearcast drain eu-1 --to cluster/
  nearcast drain eu-1 --predictor http://10.0.0.9:7700 --token-file admin.token --wait 0
  nearcast drain eu-1 --to cluster/ --undo --json";

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    node: String,
    /// Whether it is drained, or used.
    draining: bool,
    /// Keys that are meant to be held there, or are still exempt from eviction there.
    keys: u64,
}

/// Drains a node, or takes it back.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(drain(args))?;
    let is_done = report.keys == 0 || !report.draining;
    output.show(&report, |report| match (report.draining, report.keys) {
        (false, _) => format!("{} is used again", report.node),
        (true, 0) => format!("{} is drained: nothing is bound to it", report.node),
        (true, keys) => format!("{} is draining: {keys} keys are still bound to it", report.node),
    })?;
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn drain(args: Args) -> anyhow::Result<Report> {
    let Args { node, predictor, undo, wait } = args;
    let (predictor, http) = predictor.find().await?;
    let mut control = http.control(&predictor).await?;
    let mut looks = wait.saturating_mul(1_000) / u64::try_from(LOOK_AGAIN.as_millis()).unwrap_or(1);
    let keys = loop {
        let request = http.order(DrainRequest { node: node.clone(), undo })?;
        let keys = match control.drain(request).await {
            Ok(reply) => reply.into_inner().keys,
            Err(status) if status.code() == Code::Unauthenticated => {
                bail!("{}: name its file with --token-file", status.message());
            }
            Err(status) => bail!("the predictor at {predictor} does not drain {node}: {}", status.message()),
        };
        if keys == 0 || undo || looks == 0 {
            break keys;
        }
        if looks.is_multiple_of(LOOKS_PER_NOTE) {
            note(&format!("{keys} keys are still bound to {node}"));
        }
        looks -= 1;
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    Ok(Report { schema: "nearcast.drain-report/1", node, draining: !undo, keys })
}

const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOKS_PER_NOTE: u64 = 20;
