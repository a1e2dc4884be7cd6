//! Replay's eviction policies against libCacheSim, an independent implementation, wherever its Python package is there.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Python that has libCacheSim: NEARCAST_ORACLE_PYTHON, which must work when it is set, or the one in target/venv.
fn python() -> Option<PathBuf> {
    let demanded = env::var_os("NEARCAST_ORACLE_PYTHON").map(PathBuf::from);
    let python = demanded.clone().unwrap_or_else(|| root().join("target/venv/bin/python"));
    let found = Command::new(&python).args(["-c", "import libcachesim"]).output();
    if found.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(demanded.is_none(), "NEARCAST_ORACLE_PYTHON has no libcachesim: {found:?}");
    None
}

fn compare(python: &Path, log: &str, flags: &[&str]) {
    let script = root().join("bench/oracle/compare.py");
    let mut command = Command::new(python);
    command.arg(script).args([env!("CARGO_BIN_EXE_nearcast"), log]).args(flags);
    let Output { status, stdout, stderr } = command.output().expect("it ran a moment ago");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}:\n{stdout}{stderr}");
    assert!(stdout.lines().count() >= 6, "{stdout}");
}

const SKIPPED: &str = "skipped: no Python with libcachesim; python3.11 -m venv target/venv and \
    target/venv/bin/pip install -r bench/oracle/requirements.txt, or set NEARCAST_ORACLE_PYTHON";

#[test]
fn policies_miss_what_libcachesim_misses_on_the_bundled_log() {
    let Some(python) = python() else { return eprintln!("{SKIPPED}") };
    let log = root().join("datasets/samples/web-1995.parquet").display().to_string();
    compare(&python, &log, &["--cache", "0.02,0.1"]);
    compare(&python, &log, &["--cache", "0.02,0.1", "--single-region"]);
}

#[test]
fn policies_miss_what_libcachesim_misses_on_a_synthetic_log() {
    let Some(python) = python() else { return eprintln!("{SKIPPED}") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log.parquet").display().to_string();
    let synthesize = ["synthesize", "-o", &log, "--requests", "40000", "--keys", "3000", "--clients", "500"];
    let made = Command::new(env!("CARGO_BIN_EXE_nearcast")).args(synthesize).output().expect("the command starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    compare(&python, &log, &["--cache", "0.01,0.1,0.3"]);
}
