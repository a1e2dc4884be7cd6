//! `nearcast evaluate`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast evaluate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Measures a model version on a log beside baselines.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast evaluate` is not built yet")
}
