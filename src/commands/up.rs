//! `nearcast up`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Starts a whole cluster of real processes on this machine.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast up` is not built yet")
}
