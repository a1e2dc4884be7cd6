//! The steps of CI, each one or two cargo commands.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::tidy;

/// One step of CI.
type Step = fn() -> anyhow::Result<()>;

/// Every step in CI's order: the quick ones first.
pub(crate) fn ci() -> anyhow::Result<()> {
    let steps: [(&str, Step); 8] = [
        ("fmt", fmt),
        ("tidy", tidy::check),
        ("codegen", || codegen(true)),
        ("lean", lean),
        ("clippy", clippy),
        ("test", test),
        ("doc", doc),
        ("deny", deny),
    ];
    for (name, step) in steps {
        say(&format!("==> {name}"));
        step().with_context(|| format!("step `{name}` failed; repeat it with `cargo xtask {name}`"))?;
    }
    say("==> all steps passed");
    Ok(())
}

/// Checks formatting.
pub(crate) fn fmt() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

/// Checks the command as it is built by default, without the features that CI tests.
pub(crate) fn lean() -> anyhow::Result<()> {
    cargo(&["check", "--locked", "--package", "nearcast"])
}

/// Lints every target.
pub(crate) fn clippy() -> anyhow::Result<()> {
    cargo(&["clippy", "--locked", "--workspace", FEATURES, "--all-targets", "--", "-D", "warnings"])
}

/// Runs tests and doc examples.
pub(crate) fn test() -> anyhow::Result<()> {
    if installed("cargo-nextest") {
        cargo(&["nextest", "run", "--locked", "--workspace", FEATURES, "--no-fail-fast"])?;
        cargo(&["test", "--locked", "--workspace", FEATURES, "--doc"])
    } else {
        cargo(&["test", "--locked", "--workspace", FEATURES, "--no-fail-fast"])
    }
}

/// Builds the documentation, private items included.
pub(crate) fn doc() -> anyhow::Result<()> {
    let arguments = ["doc", "--locked", "--workspace", FEATURES, "--no-deps", "--document-private-items"];
    succeed(Command::new("cargo").args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Regenerates the gRPC code, or checks that doing so would change nothing.
pub(crate) fn codegen(check: bool) -> anyhow::Result<()> {
    let arguments = ["run", "--locked", "--quiet", "--package", "nearcast-proto-codegen", "--"];
    let flag: &[&str] = if check { &["--check"] } else { &[] };
    cargo(&[&arguments[..], flag].concat())
}

/// Checks licences, bans and sources with cargo-deny where it is installed; tidy checks licences everywhere.
pub(crate) fn deny() -> anyhow::Result<()> {
    if !installed("cargo-deny") {
        say("skipped: cargo-deny is not installed (`cargo install --locked cargo-deny`); tidy has checked licences");
        return Ok(());
    }
    cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"])
}

/// Says one line on stderr.
pub(crate) fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    succeed(Command::new("cargo").args(arguments))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    say(&format!("$ {command:?}"));
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// What is off by default, because it takes long to build, and tested all the same.
const FEATURES: &str = "--features=cluster";
