//! `nearcast train` as a process: killed and gone on with, given too little or too strange data, and out of disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use nearcast_datasets::{LogWriter, RequestEvent, Timestamp, WriteOptions};

/// `nearcast train` on a small network, three passes at most, saving after every batch.
fn train(log: &str, registry: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.args(["train", log, "--epochs", "3", "--checkpoint-minutes", "0", "--registry"]).arg(registry);
    let small = ["embedding_width=8", "hidden_width=8", "lanes=64"].map(|setting| format!("model.sequence.{setting}"));
    command.args(small.iter().flat_map(|setting| ["--set", setting]));
    let quick = ["model.vocabulary.token_buckets=256", "gate.requests_max=1000", "blend.examples_max=500"];
    command.args(quick.iter().flat_map(|setting| ["--set", setting]));
    command.args(["--set", "evaluate.predictions_max=300", "--set", "demand.epochs=1"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn finish(command: &mut Command) -> Output {
    command.output().expect("it starts")
}

/// What a training says that must succeed.
fn succeed(command: &mut Command) -> String {
    let Output { status, stderr, .. } = finish(command);
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{said}");
    said
}

/// What a training says that must fail with exit code 1, and all `words` in it.
fn fail(command: &mut Command, words: &[&str]) -> String {
    let Output { status, stderr, .. } = finish(command);
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    said
}

fn sample() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/samples/web-1995.parquet").display().to_string()
}

/// Starts, and kills with SIGKILL once `holds`; only this process, by its id.
fn kill_when(command: &mut Command, holds: impl Fn() -> bool) {
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    wait_for(&mut child, holds);
    child.kill().expect("it can be killed");
    assert!(!child.wait().expect("it ends").success());
}

fn wait_for(child: &mut Child, holds: impl Fn() -> bool) {
    for _ in 0..PATIENCE_TURNS {
        if holds() {
            return;
        }
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before what was awaited");
        sleep(PAUSE);
    }
    panic!("awaited in vain");
}

/// What a checkpoint says, as far as it is text.
fn current(folder: &Path) -> String {
    fs::read(folder.join("current")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn version_file(registry: &Path, name: &str) -> Vec<u8> {
    fs::read(registry.join("versions/v0001").join(name)).expect("a published version")
}

#[test]
fn a_training_killed_at_any_stage_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (undisturbed, killed) = (folder.path().join("undisturbed"), folder.path().join("killed"));
    succeed(&mut train(&sample(), &undisturbed, &["--no-checkpoints"]));
    let checkpoints = folder.path().join("checkpoints");
    let place = checkpoints.display().to_string();
    let first = ["--checkpoints", &place];
    let again = ["--checkpoints", &place, "--resume"];

    kill_when(&mut train(&sample(), &killed, &first), || current(&checkpoints).contains("batches = 5"));
    kill_when(&mut train(&sample(), &killed, &again), || checkpoints.join("best-1").exists());
    let is_last = || current(&checkpoints).contains("phase = \"Last\"");
    kill_when(&mut train(&sample(), &killed, &again), is_last);
    assert!(!killed.join("versions").exists(), "nothing is published before the end");
    succeed(&mut train(&sample(), &killed, &again));

    for name in ["model.safetensors", "metrics.json", "metrics.parquet", "coaccess.parquet", "vocabulary.parquet"] {
        assert!(version_file(&undisturbed, name) == version_file(&killed, name), "{name} differs");
    }
    assert!(!checkpoints.exists(), "a published version needs no checkpoint");
}

#[test]
fn a_checkpoint_of_another_training_a_damaged_or_busy_one_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (registry, checkpoints) = (folder.path().join("models"), folder.path().join("checkpoints"));
    let place = checkpoints.display().to_string();
    let arguments = |more: &[&'static str]| [&["--checkpoints", place.as_str()], more].concat();
    fail(&mut train(&sample(), &registry, &arguments(&["--resume"])), &["there is no checkpoint", &place]);
    assert!(!checkpoints.exists() && !registry.exists(), "a refusal leaves nothing behind");

    let mut running = train(&sample(), &registry, &arguments(&[])).stderr(Stdio::null()).spawn().expect("it starts");
    wait_for(&mut running, || current(&checkpoints).contains("batches = 5"));
    fail(&mut train(&sample(), &registry, &arguments(&[])), &["another training uses the checkpoint folder", &place]);
    running.kill().expect("it can be killed");
    running.wait().expect("it ends");

    let resume = |log: &str, more: &[&'static str]| train(log, &registry, &[&arguments(&["--resume"]), more].concat());
    fail(&mut resume(&sample(), &["--seed", "9"]), &["of another training", "`seed` is 0 there and 9 here"]);
    let other = write_log(folder.path(), "other.parquet", visits(400));
    fail(&mut resume(&other, &[]), &["of another training", "the log has other requests"]);
    let path = checkpoints.join("current");
    let whole = fs::read(&path).expect("a checkpoint");
    fs::write(&path, &whole[..whole.len() / 2]).expect("writable");
    fail(&mut resume(&sample(), &[]), &["checkpoints/current is not usable", "train without `--resume`"]);

    let said = succeed(&mut train(&sample(), &registry, &arguments(&[])));
    assert!(said.contains("starting anew, without `--resume`"), "{said}");
    assert!(registry.join("versions/v0001/manifest.json").exists());
}

#[test]
fn the_default_folder_is_found_again_and_says_what_differs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("models");
    let place = || fs::read_dir(registry.join("checkpoints")).into_iter().flatten().flatten().next();
    let begun = || place().is_some_and(|place| current(&place.path()).contains("batches = 5"));
    kill_when(&mut train(&sample(), &registry, &[]), begun);
    fail(
        &mut train(&sample(), &registry, &["--resume", "--seed", "9"]),
        &["there is no checkpoint in", "`seed` is 0 there and 9 here"],
    );
    succeed(&mut train(&sample(), &registry, &["--resume"]));
    assert!(place().is_none());
}

#[test]
fn a_loss_that_is_no_number_says_where_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (registry, checkpoints) = (folder.path().join("models"), folder.path().join("checkpoints"));
    let place = checkpoints.display().to_string();
    let words = ["error: nothing was published", "pass 1 over the training sessions failed", "loss of step", &place];
    let wild = ["--checkpoints", &place, "--set", "model.sequence.row_learning_rate=1e30"];
    let said = fail(&mut train(&sample(), &registry, &wild), &words);
    assert!(said.contains("lower its learning rate") && said.contains("the last good checkpoint is in"), "{said}");
    assert!(current(&checkpoints).contains("batches = "), "{said}");
    assert!(!registry.join("versions").exists());
}

#[test]
fn logs_with_too_little_to_learn_from_are_refused_in_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("models");
    let few = (0..10).map(|second| (second, "a".to_owned(), format!("/{second}"))).collect();
    let few = write_log(folder.path(), "few.parquet", few);
    fail(&mut train(&few, &registry, &[]), &["requests that follow another of the same client, at least 32"]);
    // Everybody asks once: no request follows another.
    let strangers = (0..400).map(|second| (second, format!("client-{second}"), format!("/{}", second % 7))).collect();
    let strangers = write_log(folder.path(), "strangers.parquet", strangers);
    fail(&mut train(&strangers, &registry, &[]), &["has 0 requests that follow another", "give more logs"]);
    // All at one instant: there is no later part.
    let instant = (0..400).map(|number| (0, "a".to_owned(), format!("/{}", number % 7))).collect();
    let instant = write_log(folder.path(), "instant.parquet", instant);
    fail(&mut train(&instant, &registry, &[]), &["part of the log", "holds no request", "--train-share"]);
    assert!(!registry.exists(), "a refusal leaves nothing behind");
}

#[test]
fn narrow_logs_train_and_what_could_not_be_measured_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let one_client = (0..400).map(|second| (second * 10, "a".to_owned(), format!("/{}", second % 7))).collect();
    let one_key = (0..400).map(|second| (second * 10, format!("client-{}", second % 5), "/only".to_owned())).collect();
    let new_keys = visits(400);
    for (name, rows, words) in [
        ("one-client", one_client, ""),
        ("one-key", one_key, ""),
        ("new-keys", new_keys, "the model knows none of the keys asked for next"),
    ] {
        let log = write_log(folder.path(), &format!("{name}.parquet"), rows);
        let registry = folder.path().join(name);
        succeed(&mut train(&log, &registry, &[]));
        let card = String::from_utf8(version_file(&registry, "MODEL_CARD.md")).expect("UTF-8");
        assert!(card.contains(words), "{name}: {card}");
        assert!(!card.contains("NaN") && !card.contains("inf"), "{name}: {card}");
    }
}

/// A limit on the size of files stands in for a full disk: writing fails in the middle of a file in either case.
#[cfg(unix)]
#[test]
fn a_full_disk_is_said_publishes_nothing_and_leaves_no_half_a_version() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("models");
    // The last setting of a name wins: with this one a network is larger than the coded log.
    let large: &[&str] = &["--set", "model.vocabulary.token_buckets=16384"];
    for (blocks, arguments, word) in [
        (8, large, "scratch disk full"),
        (800, large, "cannot write the checkpoint"),
        (800, &[large, &["--no-checkpoints"]].concat(), "model.safetensors"),
    ] {
        let inner = train(&sample(), &registry, arguments);
        // Blocks of 512 bytes; the signal that goes with the limit is ignored, so that the write itself fails.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        fail(&mut command, &["error: nothing was published", word, "File too large"]);
        assert!(!registry.exists(), "{word}: something is left behind");
    }
}

#[cfg(unix)]
#[test]
fn two_trainers_publish_at_once_and_lose_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("models");
    let seeds = ["1", "2"];
    let start = |seed| train(&sample(), &registry, &["--seed", seed]).spawn();
    let trainers = seeds.map(|seed| start(seed).expect("it starts"));
    for trainer in trainers {
        let Output { status, stderr, .. } = trainer.wait_with_output().expect("it ends");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }
    let mut published = Vec::new();
    for version in ["v0001", "v0002"] {
        let manifest = fs::read(registry.join("versions").join(version).join("manifest.json")).expect("two versions");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        published.push(manifest["seed"].to_string());
        let mut verify = Command::new(env!("CARGO_BIN_EXE_nearcast"));
        verify.args(["models", "verify", version, "--registry"]).arg(&registry);
        assert!(finish(&mut verify).status.success());
    }
    published.sort();
    assert_eq!(published, seeds);
}

type Row = (i64, String, String);

/// Clients walk over pages, and after seven tenths of the time over other pages.
fn visits(count: i64) -> Vec<Row> {
    let key = |visit: i64| if visit < count * 7 / 10 { visit % 9 } else { 1_000 + visit % 9 };
    (0..count).map(|visit| (visit * 10, format!("client-{}", visit % 4), format!("/page-{}", key(visit)))).collect()
}

fn write_log(folder: &Path, name: &str, rows: Vec<Row>) -> String {
    let path: PathBuf = folder.join(name);
    let mut writer = LogWriter::create(&path, WriteOptions::default()).expect("writable");
    for (seconds, client, key) in rows {
        let event = RequestEvent {
            timestamp: Timestamp::from_micros(seconds * 1_000_000),
            client,
            region: "default".to_owned(),
            key,
            size_bytes: 1_000,
            range: None,
            node: None,
            outcome: None,
            latency_us: None,
            arm: None,
            model_version: None,
        };
        writer.push(&event).expect("sorted");
    }
    writer.finish().expect("writable");
    path.display().to_string()
}

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// Generous, so that a loaded machine does not fail a test that would pass.
const PATIENCE_TURNS: u32 = 40_000;
