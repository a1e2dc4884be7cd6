//! The commands that read logs, as processes: exit codes, what goes to stdout and stderr, a clean end.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

fn nearcast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearcast")).args(arguments).output().expect("the command starts")
}

fn sample() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/samples/web-1995.parquet").display().to_string()
}

#[test]
fn profile_prints_one_document_and_nothing_else() {
    let output = nearcast(&["profile", &sample(), "--json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let profile: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(profile["schema"], "nearcast.profile/1");
    assert_eq!((&profile["requests"], &profile["keys"]), (&27_824.into(), &1_731.into()));
}

#[test]
fn bad_logs_exit_with_1_and_name_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cut.parquet");
    let whole = std::fs::read(sample()).expect("the sample");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("writable");
    let path = path.display().to_string();
    for command in [&["profile", &path][..], &["origin", &path], &["load", &path, "--to", "eu=http://127.0.0.1:1"]] {
        let output = nearcast(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{command:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains("cut.parquet is not a complete Parquet file"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn an_origin_serves_load_refuses_a_taken_port_and_ends_cleanly() {
    let mut origin = Command::new(env!("CARGO_BIN_EXE_nearcast"))
        .args(["origin", &sample(), "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut line = String::new();
    BufReader::new(origin.stderr.take().expect("piped")).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("ready ").expect("the address").to_owned();
    let address = url.strip_prefix("http://").expect("plain HTTP");
    let second = nearcast(&["origin", &sample(), "--listen", address]);
    let load =
        ["load", &sample(), "--to", &format!("ip={url}"), "--speed", "5000", "--limit", "500", "--verify", "--json"];
    let played = nearcast(&load);
    let killed = Command::new("kill").arg(origin.id().to_string()).status().expect("kill is there");
    let ended = origin.wait().expect("the origin ends");
    assert!(killed.success() && ended.success(), "{ended}");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains(&format!("cannot listen on {address}")));
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let report: serde_json::Value = serde_json::from_slice(&played.stdout).expect("one JSON document");
    assert_eq!(report["arms"][0]["total"]["answered"], 500);
}
