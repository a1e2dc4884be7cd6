//! The lean node binary: parses what the user typed, binds, runs. Links no model code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use nearcast_cache_node::cli::{self, NodeArgs};

/// A cache node of Nearcast.
#[derive(Debug, Parser)]
#[command(name = "nearcast-node", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    args: NodeArgs,
    /// Say more on stderr; twice for debugging.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start_logging(cli.verbose);
    let ended = if cli.args.check_config { say_what_it_would_do(&cli.args) } else { cli::run(&cli.args) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::report_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn say_what_it_would_do(args: &NodeArgs) -> anyhow::Result<()> {
    let check = cli::check(args)?;
    write!(io::stdout(), "{check}").context("cannot write to stdout")
}
