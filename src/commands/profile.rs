//! `nearcast profile`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Describes a log: requests, keys, clients, regions, span, skew and gaps.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast profile` is not built yet")
}
