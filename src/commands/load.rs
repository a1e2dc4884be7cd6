//! `nearcast load`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Plays a log over HTTP against running nodes and reports what clients felt.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast load` is not built yet")
}
