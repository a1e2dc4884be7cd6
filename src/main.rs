//! The `nearcast` command: parses what the user typed, runs one verb and maps its end to an exit code.

mod commands;
mod demo;
mod destination;
mod experiment;
mod load;
mod operate;
mod origin;
mod output;
mod progress;
mod shutdown;
mod track;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::{commands::Command, output::Output};

/// A geo-distributed read-through cache that learns what each region will ask for next and puts it there first.
#[derive(Debug, Parser)]
#[command(name = "nearcast", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// Print one JSON document on stdout instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Say more on stderr; twice for debugging.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::start_logging(cli.verbose);
    match cli.command.run(Output { json: cli.json }) {
        Ok(code) => code,
        Err(error) => {
            output::report_error(&error);
            ExitCode::FAILURE
        }
    }
}
