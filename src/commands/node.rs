//! `nearcast node`.

use std::process::ExitCode;

use nearcast_cache_node::cli::{self, NodeArgs};

use crate::output::Output;

/// Arguments of `nearcast node`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs a cache node until it is told to stop.
#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments whole")]
pub(crate) fn run(args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    cli::run(&args.node)?;
    Ok(ExitCode::SUCCESS)
}
