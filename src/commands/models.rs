//! `nearcast models`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast models`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Lists, shows, verifies, aliases and deletes model versions.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast models` is not built yet")
}
