//! Runs what CI runs: `cargo xtask ci`, or one step of it.

mod steps;
mod tidy;

use std::{env, process::ExitCode};

use anyhow::bail;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            steps::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => steps::ci(),
        ["clippy"] => steps::clippy(),
        ["codegen"] => steps::codegen(false),
        ["codegen", "--check"] => steps::codegen(true),
        ["deny"] => steps::deny(),
        ["doc"] => steps::doc(),
        ["fmt"] => steps::fmt(),
        ["lean"] => steps::lean(),
        ["test"] => steps::test(),
        ["tidy"] => tidy::check(),
        ["" | "help" | "-h" | "--help"] | [] => {
            steps::say(HELP);
            Ok(())
        }
        other => bail!("unknown step {:?}\n{HELP}", other.join(" ")),
    }
}

const HELP: &str = "usage: cargo xtask STEP

  ci                everything below, in the order CI runs it
  fmt               rustfmt, checking only
  tidy              the project's own rules: file heads and lengths, pure cores, licences, dependencies
  codegen [--check] generated gRPC code from proto/; --check fails when it differs from what is checked in
  lean              checks the command without the features that are off by default
  clippy            clippy on all targets, warnings are errors
  test              all tests and doc examples (nextest when installed)
  doc               rustdoc, warnings are errors
  deny              cargo-deny's licence, ban and source checks, when it is installed";
