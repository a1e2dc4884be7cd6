//! `nearcast train`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Trains a model version from Parquet logs and publishes it.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast train` is not built yet")
}
