//! Rules on the text of tracked files.

use std::{fs, process::Command};

use anyhow::Context;

/// The longest Rust file, in lines.
const LINES_MAX: usize = 500;
/// The longest average over all Rust files, in lines.
const LINES_AVERAGE_MAX: usize = 300;

/// Words that must not stand in Rust sources. Written in halves so that this file passes its own check.
const BANNED: [(&str, &str); 6] = [
    (concat!("FIX", "ME"), "finish it or open an issue"),
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
    (concat!("#[ig", "nore"), "a test runs or says at run time why it cannot"),
    (concat!("should_", "panic"), "return a result and compare it"),
    (concat!("#[al", "low("), "use #[expect(.., reason = \"..\")]"),
];

/// What cores must not name: clocks, sockets, files, runtimes, unseeded randomness.
const IMPURE: [&str; 8] =
    ["tokio::", "std::fs", "std::net", "Instant::now", "SystemTime", "rand::rng()", "thread_rng", "std::thread"];

/// Folders of synchronous cores.
const CORES: [&str; 8] = [
    "bus/src/claims/",
    "bus/src/lease/core/",
    "predictor/src/engine/",
    "predictor/src/placement/",
    "cache-node/src/index/",
    "cache-node/src/core/",
    "experiment/src/",
    "models/src/gate/",
];

/// Generated code, which follows its generator's rules.
const GENERATED: &str = "proto/src/wire/";

/// Every breach of a rule, one line each.
pub(crate) fn breaches() -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    let (mut file_count, mut line_count) = (0, 0);
    for path in tracked()? {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        check_any(&path, &text, &mut breaches);
        if path.ends_with(".rs") && !path.starts_with(GENERATED) {
            file_count += 1;
            line_count += text.lines().count();
            check_rust(&path, &text, &mut breaches);
        }
    }
    if line_count > LINES_AVERAGE_MAX * file_count {
        breaches.push(format!("Rust files average {} lines, more than {LINES_AVERAGE_MAX}", line_count / file_count));
    }
    Ok(breaches)
}

fn check_any(path: &str, text: &str, breaches: &mut Vec<String>) {
    let homes = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    for (number, line) in text.lines().enumerate() {
        if let Some(home) = homes.iter().find(|home| line.contains(*home)) {
            breaches.push(format!("{path}:{}: a path of one machine ({home}…)", number + 1));
        }
    }
}

fn check_rust(path: &str, text: &str, breaches: &mut Vec<String>) {
    if !text.starts_with("//!") {
        breaches.push(format!("{path}: the first line is not a `//!` module doc"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        breaches.push(format!("{path}: {lines} lines, more than {LINES_MAX}; split it by concern"));
    }
    let core = CORES.iter().any(|core| path.starts_with(core));
    for (number, line) in text.lines().enumerate() {
        let at = format!("{path}:{}", number + 1);
        for (word, advice) in BANNED {
            if line.contains(word) && !path.starts_with("xtask/src/tidy/") {
                breaches.push(format!("{at}: `{word}`; {advice}"));
            }
        }
        if core && let Some(word) = IMPURE.iter().find(|word| line.contains(*word)) {
            breaches.push(format!("{at}: `{word}` in a core; take it as an argument or move it to the shell"));
        }
        if line.contains(concat!("nearcast_proto", "::wire")) && !may_use_wire(path) {
            breaches.push(format!("{at}: wire types outside a conversion file or gRPC shell"));
        }
    }
}

/// Wire types convert in `proto/src/convert`; only gRPC shells, the commands that ask the control service, and their
/// tests touch them besides.
fn may_use_wire(path: &str) -> bool {
    let shells = [
        "proto/",
        "predictor/src/server/",
        "predictor/tests/",
        "cache-node/src/link/",
        "cache-node/tests/",
        "src/commands/drain.rs",
        "src/commands/map.rs",
        "src/commands/purge.rs",
        "src/load/arms.rs",
    ];
    shells.iter().any(|shell| path.starts_with(shell)) || path.contains("/control")
}

fn tracked() -> anyhow::Result<Vec<String>> {
    let output = Command::new("git").args(["ls-files", "-z"]).output().context("cannot run git")?;
    let text = String::from_utf8(output.stdout).context("a tracked path is not UTF-8")?;
    Ok(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}
