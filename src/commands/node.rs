//! `nearcast node`.

use std::process::ExitCode;

use nearcast_cache_node::cli::{self, NodeArgs};
use nearcast_proto::ConfigCheck;

use crate::output::Output;

/// Arguments of `nearcast node`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs a cache node until it is told to stop.
#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments whole")]
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    if args.node.check_config {
        output.show(&cli::check(&args.node)?, ConfigCheck::to_string)?;
    } else {
        cli::run(&args.node)?;
    }
    Ok(ExitCode::SUCCESS)
}
