//! `nearcast node`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast node`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs a cache node.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast node` is not built yet")
}
