//! `nearcast predictor`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast predictor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the predictor service.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast predictor` is not built yet")
}
