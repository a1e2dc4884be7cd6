//! `nearcast replay`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Drives the production engine and nodes with a log under a virtual clock.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast replay` is not built yet")
}
