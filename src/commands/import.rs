//! `nearcast import`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Converts access logs of other systems into the request-log schema.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast import` is not built yet")
}
