//! `nearcast origin`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast origin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs an origin that serves the objects of a log with reproducible content.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast origin` is not built yet")
}
