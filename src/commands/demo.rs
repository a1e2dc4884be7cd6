//! `nearcast demo`.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    demo::{Place, play, text},
    output::Output,
};

/// Arguments of `nearcast demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep everything in this folder: the log, the model registry and the report. Without it, only `report.html` is
    /// left, in the current folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
The log is part of the program: half a day of the web server of NASA's Kennedy Space Center in 1995, with real sizes.
Nothing is downloaded, nothing leaves this machine.

Examples:
  nearcast demo
  nearcast demo --dir first-minute
  nearcast demo --json | jq .findings
  nearcast models --registry first-minute/models show champion
  nearcast replay first-minute/web-1995.parquet --registry first-minute/models --model champion --budget 0.05,0.25";

/// The first minute: profile, train, evaluate and replay a bundled real log, offline.
#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments whole")]
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let place = Place::open(args.dir.as_deref())?;
    let report = play(&place)?;
    output.show(&report, text)?;
    Ok(ExitCode::SUCCESS)
}
