//! `nearcast synthesize`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast synthesize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Makes a seeded log whose best achievable accuracy is known.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast synthesize` is not built yet")
}
