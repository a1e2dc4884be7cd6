//! A Python with the packages that a test compares with.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A Python that has all of `packages`: NEARCAST_ORACLE_PYTHON, which must work when it is set, or the one in
/// target/venv. `None` when there is none: then [`SKIPPED`] is what to say.
pub(crate) fn with(packages: &[&str]) -> Option<PathBuf> {
    let demanded = env::var_os("NEARCAST_ORACLE_PYTHON").map(PathBuf::from);
    let python = demanded.clone().unwrap_or_else(|| root().join("target/venv/bin/python"));
    let import = format!("import {}", packages.join(", "));
    let found = Command::new(&python).args(["-c", &import]).output();
    if found.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(demanded.is_none(), "NEARCAST_ORACLE_PYTHON lacks one of {packages:?}: {found:?}");
    None
}

/// What a script of `bench/oracle` prints, given `input`.
pub(crate) fn run_python(python: &Path, script: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(python);
    command.arg(root().join("bench/oracle").join(script)).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads its input");
    let output = child.wait_with_output().expect("it ends");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout.into_owned()
}

/// The workspace's root, from any of its packages.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("bench/oracle").is_dir()).unwrap_or(package)
}

/// Why a test was skipped, and what to do about it.
pub(crate) const SKIPPED: &str = "skipped: no Python with the packages of bench/oracle/requirements.txt; python3.11 -m venv \
    target/venv and target/venv/bin/pip install -r bench/oracle/requirements.txt, or set NEARCAST_ORACLE_PYTHON";
