//! promtool, which tells whether Prometheus would take what is given to it.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// promtool: `NEARCAST_PROMTOOL`, which must work when it is set, the one that `.ci/run` puts below target, or the
/// system's. `None` when there is none: then [`SKIPPED`] is what to say.
pub(crate) fn promtool() -> Option<PathBuf> {
    let works = |tool: &PathBuf| Command::new(tool).arg("--version").output().is_ok_and(|said| said.status.success());
    if let Some(demanded) = env::var_os("NEARCAST_PROMTOOL").map(PathBuf::from) {
        assert!(works(&demanded), "NEARCAST_PROMTOOL does not run: {}", demanded.display());
        return Some(demanded);
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut below_target = package.ancestors().map(|folder| folder.join("target/promtool/usr/bin/promtool"));
    below_target.find(works).or_else(|| Some(PathBuf::from("promtool")).filter(works))
}

/// Has promtool check a document of metrics.
pub(crate) fn check_metrics(promtool: &Path, document: &[u8]) {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(document).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// Why a test was skipped, and what to do about it.
pub(crate) const SKIPPED: &str = "skipped: no promtool; install Debian's `prometheus`, or set NEARCAST_PROMTOOL";
