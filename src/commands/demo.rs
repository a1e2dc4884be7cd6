//! `nearcast demo`.

use std::process::ExitCode;

use crate::output::Output;

/// Arguments of `nearcast demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// The first minute: profile, train, evaluate and replay a bundled real log, offline.
pub(crate) fn run(_args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`nearcast demo` is not built yet")
}
