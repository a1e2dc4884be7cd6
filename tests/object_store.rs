//! Logs, registry, checkpoints and origin in a real S3 server: `s3s-fs` over HTTP, signed and with conditional writes. The
//! like in Azurite, where `NEARCAST_AZURITE` names its script.

#[path = "support/azure.rs"]
mod azure;
#[path = "support/port.rs"]
mod port;
#[path = "support/s3.rs"]
mod s3;
#[path = "support/service.rs"]
#[expect(dead_code, reason = "shared with tests that need all of it")]
mod service;
#[path = "support/store.rs"]
mod store;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Barrier,
    thread,
    time::Duration,
};

use azure::{Azure, CONTAINER};
use nearcast_datasets::LogSource;
use s3::{BUCKET, S3};
use store::nearcast_at;

const SMALL: [&str; 20] = [
    "--epochs",
    "3",
    "--checkpoint-minutes",
    "0",
    "--set",
    "model.sequence.embedding_width=8",
    "--set",
    "model.sequence.hidden_width=8",
    "--set",
    "model.sequence.lanes=64",
    "--set",
    "model.vocabulary.token_buckets=256",
    "--set",
    "gate.requests_max=1000",
    "--set",
    "blend.examples_max=500",
    "--set",
    "evaluate.predictions_max=300",
    "--set",
    "demand.epochs=1",
];
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/samples/web-1995.parquet");
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

fn url(name: &str) -> String {
    format!("s3://{BUCKET}/{name}")
}

fn said(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn succeed(command: &mut Command) -> String {
    let (success, said) = said(command);
    assert!(success, "{said}");
    said
}

/// What a command says that must fail without a panic, with every word in it.
fn fail(command: &mut Command, words: &[&str]) -> String {
    let (success, said) = said(command);
    assert!(!success && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    said
}

fn train(s3: &S3, log: &str, registry: &str, more: &[&str]) -> Command {
    let mut command = s3.nearcast(&training(log, registry, more));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn training<'a>(log: &'a str, registry: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", log, "--registry", registry], &SMALL[..], more].concat()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let mut waited = Duration::ZERO;
    while !holds() {
        assert!(waited < PATIENCE, "awaited in vain: {what}");
        thread::sleep(LOOK);
        waited += LOOK;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_log_goes_to_a_store_and_reads_as_the_local_one() {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    let local = folder.path().join("logs");
    let settings = ["--requests", "30000", "--keys", "500", "--days", "3", "-o"];
    let make = |place: &str| [&["synthesize"], &settings[..], &[place]].concat().join(" ");
    for place in [local.display().to_string(), url("logs")] {
        let line = make(&place);
        let said = succeed(&mut s3.nearcast(&line.split(' ').collect::<Vec<_>>()));
        assert!(said.contains(&format!("{place}/truth.json")), "{said}");
    }
    let profile = |place: &str| {
        let said = succeed(&mut s3.nearcast(&["profile", place, "--json"]));
        let mut document: serde_json::Value = serde_json::from_str(&said).expect("one document");
        document.as_object_mut().expect("an object").remove("log");
        document
    };
    assert_eq!(profile(&url("logs/")), profile(&local.display().to_string()));
    for file in ["date=2026-01-01/part-0.parquet", "truth.json"] {
        let place = local.join(file);
        let there = fs::read(s3.file("logs").join(file));
        assert!(!place.exists() || there.expect("it was sent") == fs::read(place).expect("it is there"), "{file}");
    }
    fail(&mut s3.nearcast(&make(&url("logs")).split(' ').collect::<Vec<_>>()), &["exists and is not empty"]);
    assert_eq!(LogSource::parse(&url("logs/")).expect("a URL").to_string(), url("logs/"));
}

#[test]
fn a_training_from_and_to_a_store_is_killed_and_goes_on_to_the_same_bytes() {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    s3.put("logs/web.parquet", Path::new(SAMPLE));
    let undisturbed = folder.path().join("models").display().to_string();
    succeed(&mut train(&s3, SAMPLE, &undisturbed, &["--no-checkpoints"]));
    let (log, registry) = (url("logs/"), url("models"));
    let checkpoints = s3.file("models/checkpoints");
    let current = || {
        let folder = names(&checkpoints).first().map(|name| checkpoints.join(name));
        let pointed = folder.and_then(|folder| Some((fs::read_to_string(folder.join("current")).ok()?, folder)));
        let content = pointed.and_then(|(name, folder)| fs::read(folder.join(name.trim())).ok());
        String::from_utf8_lossy(&content.unwrap_or_default()).into_owned()
    };
    for (arguments, word) in [(&[][..], "batches = 5"), (&["--resume"], "phase = \"Last\"")] {
        let mut child = train(&s3, &log, &registry, arguments).stderr(Stdio::null()).spawn().expect("it starts");
        await_that(word, || {
            assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before `{word}`");
            current().contains(word)
        });
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    assert!(!s3.file("models/versions").exists(), "nothing is published before the end");
    succeed(&mut train(&s3, &log, &registry, &["--resume"]));
    for name in ["model.safetensors", "vocabulary.parquet", "coaccess.parquet"] {
        let file = |place: &Path| fs::read(place.join("versions/v0001").join(name)).expect("it was published");
        assert!(file(Path::new(&undisturbed)) == file(&s3.file("models")), "{name} differs");
    }
    let left: Vec<String> = names(&checkpoints).iter().flat_map(|name| names(&checkpoints.join(name))).collect();
    assert!(left.is_empty(), "a published version needs no checkpoint: {left:?}");
    succeed(&mut s3.nearcast(&["models", "verify", "champion", "--registry", &registry]));
    let predictor =
        format!("listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"p\"\nregistry = {registry:?}\n");
    fs::write(folder.path().join("predictor.toml"), predictor).expect("writable");
    serve(&s3, &["predictor", "-c", &folder.path().join("predictor.toml").display().to_string()], |ready| {
        let address = ready.trim_start_matches("http://").split_whitespace().next().expect("an address");
        await_that("the version in service", || get(address, "/metrics").contains("v0001"));
    });
}

#[test]
fn of_two_trainings_with_one_folder_the_one_that_was_overtaken_is_refused() {
    let s3 = S3::start();
    s3.put("logs/web.parquet", Path::new(SAMPLE));
    let checkpoints = url("checkpoints");
    let arguments = ["--checkpoints", &checkpoints];
    let mut first = train(&s3, &url("logs/"), &url("a"), &arguments).spawn().expect("it starts");
    await_that("a checkpoint", || s3.file("checkpoints/current").exists());
    let second = train(&s3, &url("logs/"), &url("b"), &arguments).output().expect("it starts");
    let mut text = String::new();
    first.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    let is_first_done = first.wait().expect("it ends").success();
    let text = format!("{text}{}", String::from_utf8_lossy(&second.stderr));
    assert!(!(is_first_done && second.status.success()), "both went on with one folder: {text}");
    assert!(text.contains("another training has saved to the checkpoint folder") || text.contains("is gone"), "{text}");
}

#[test]
fn of_two_who_move_an_alias_at_once_one_is_refused_and_none_is_lost() {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    let registry = registry_with_versions(&s3, folder.path());
    let now = || fs::read_to_string(s3.file("models/aliases/challenger")).expect("the alias is there");
    move_at_once(&registry, |arguments| s3.nearcast(arguments), now);
}

/// Eight move an alias of a registry at once, five times; `now` is where it is.
fn move_at_once(registry: &str, nearcast: impl Fn(&[&str]) -> Command + Sync, now: impl Fn() -> String) {
    let barrier = Barrier::new(8);
    let mut moved = 0;
    for _ in 0..5 {
        let ends: Vec<(&str, bool, String)> = thread::scope(|scope| {
            let movers: Vec<_> = (0..8)
                .map(|n| {
                    let (nearcast, barrier) = (&nearcast, &barrier);
                    let version = ["v0001", "v0002"][n % 2];
                    scope.spawn(move || {
                        barrier.wait();
                        let arguments = ["models", "alias", "challenger", version, "--registry", registry];
                        let (success, said) = said(&mut nearcast(&arguments));
                        (version, success, said)
                    })
                })
                .collect();
            movers.into_iter().map(|mover| mover.join().expect("no panic")).collect()
        });
        let now = now();
        let winners: Vec<_> = ends.iter().filter(|(_, success, _)| *success).collect();
        assert!(winners.iter().any(|(version, ..)| *version == now.trim()), "{now} was moved by nobody: {ends:?}");
        for (_, success, said) in &ends {
            assert!(*success || said.contains("was moved by somebody else meanwhile"), "{said}");
        }
        moved += winners.len();
    }
    assert!(moved >= 5, "somebody wins every time");
}

#[test]
fn a_store_of_azure_holds_logs_registry_and_origin_as_well() {
    let Some(azure) = Azure::start() else { return };
    let (variables, folder) = (azure.variables(), tempfile::tempdir().expect("a temporary folder"));
    let nearcast = |arguments: &[&str]| nearcast_at(&variables, arguments);
    let url = |name: &str| format!("az://{CONTAINER}/{name}");
    let (logs, local, registry) = (url("logs/"), folder.path().join("logs").display().to_string(), url("models"));
    for place in [local.as_str(), logs.trim_end_matches('/')] {
        succeed(&mut nearcast(&["synthesize", "--requests", "30000", "--keys", "500", "--days", "2", "-o", place]));
    }
    let profile = |place: &str| {
        let said = succeed(&mut nearcast(&["profile", place, "--json"]));
        said.replace(place, "the log")
    };
    assert_eq!(profile(&logs), profile(&local));

    for seed in ["seed=1", "seed=2"] {
        succeed(&mut nearcast(&training(SAMPLE, &registry, &["--set", seed])));
    }
    let list = |registry: &str| nearcast(&["models", "list", "--registry", registry, "--json"]);
    let versions: serde_json::Value = serde_json::from_str(&succeed(&mut list(&registry))).expect("one document");
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2), "{versions}");
    succeed(&mut nearcast(&["models", "verify", "v0002", "--registry", &registry]));
    let now = || {
        let listed: serde_json::Value = serde_json::from_str(&succeed(&mut list(&registry))).expect("one document");
        let versions = listed["versions"].as_array().expect("a list");
        let has_it = |version: &&serde_json::Value| version["aliases"].to_string().contains("challenger");
        versions.iter().find(has_it).expect("the alias is there")["version"].as_str().expect("a name").to_owned()
    };
    move_at_once(&registry, nearcast, now);
    fail(list(&registry).env("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc="), &["does not accept these credentials"]);
    fail(&mut list("az://no-such-container/models"), &["the bucket does not exist"]);

    let config = format!(
        "name = \"n1\"\nregion = \"r\"\nlisten = \"127.0.0.1:0\"\ndata_dir = {:?}\ncapacity = \"64MiB\"\n\
         [origin]\nurl = {logs:?}\n",
        folder.path().join("data").display().to_string()
    );
    let path = folder.path().join("node.toml");
    fs::write(&path, config).expect("writable");
    let service = service::Service::start_with(&["node", "-c", &path.display().to_string()], &variables);
    let address = service.ready.trim_start_matches("http://").split_whitespace().next().expect("an address");
    let truth = fs::read(Path::new(&local).join("truth.json")).expect("it was made");
    assert!(get_bytes(address, "/truth.json").ends_with(&truth));
    assert!(get(address, "/none").starts_with("HTTP/1.1 404"));
    assert!(service.terminate().success());
}

#[test]
fn what_is_wrong_with_a_store_is_said_in_words() {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    let registry = registry_with_versions(&s3, folder.path());
    let list = |registry: &str| s3.nearcast(&["models", "list", "--registry", registry]);
    succeed(&mut list(&registry));
    fail(list(&registry).env("AWS_SECRET_ACCESS_KEY", "wrong"), &["does not accept these credentials", &registry]);
    fail(list(&registry).env("AWS_ACCESS_KEY_ID", "nobody"), &["cannot", "credentials"]);
    fail(list(&registry).env_remove("AWS_SECRET_ACCESS_KEY"), &["AWS_SECRET_ACCESS_KEY is not set"]);
    let nothing = ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"];
    let mut without = list(&registry);
    nothing.iter().for_each(|name| _ = without.env_remove(name));
    fail(&mut without, &["there are no credentials for", "neither"]);
    fail(list(&registry).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), &["cannot be reached"]);
    let absent = "s3://no-such-bucket/models";
    fail(&mut list(absent), &["the bucket does not exist"]);
    fail(&mut train(&s3, SAMPLE, absent, &[]), &["the bucket does not exist", "no-such-bucket"]);
    fail(&mut s3.nearcast(&["profile", "s3://no-such-bucket/logs/"]), &["the bucket does not exist"]);
    fail(&mut s3.nearcast(&["profile", &url("nothing.parquet")]), &["there is no such object"]);

    fs::write(s3.file("models/format"), "2\n").expect("writable");
    let newer = ["has format 2, written by a newer nearcast"];
    fail(&mut list(&registry), &newer);
    fail(&mut train(&s3, SAMPLE, &registry, &[]), &newer);
    fail(&mut s3.nearcast(&["models", "alias", "champion", "v0002", "--registry", &registry]), &newer);
    fail(&mut s3.nearcast(&["models", "delete", "v0002", "--registry", &registry]), &newer);
    assert_eq!(fs::read_to_string(s3.file("models/aliases/champion")).expect("it is there").trim(), "v0001");
}

/// The library of `faketime` shifts what a process takes for the time.
#[test]
fn a_clock_that_is_an_hour_off_is_named() {
    let library =
        ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];
    let Some(library) = library.iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: the package faketime is not installed");
        return;
    };
    let s3 = S3::start();
    for shift in ["-1h", "+1h"] {
        let mut list = s3.nearcast(&["models", "list", "--registry", &url("models")]);
        list.env("LD_PRELOAD", library).env("FAKETIME", shift);
        fail(&mut list, &["clocks of this machine and of the store differ"]);
    }
}

#[test]
fn a_node_serves_what_a_store_holds_and_logs_to_it() {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    let object: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    fs::create_dir_all(s3.file("site/img")).expect("writable");
    fs::write(s3.file("site/img/a.bin"), &object).expect("writable");
    let config = format!(
        "name = \"n1\"\nregion = \"r\"\nlisten = \"127.0.0.1:0\"\ndata_dir = {:?}\ncapacity = \"64MiB\"\n\
         [origin]\nurl = {:?}\n[log]\nage_max = \"1s\"\nupload = {:?}\n",
        folder.path().join("data").display().to_string(),
        url("site"),
        url("logs")
    );
    let path = folder.path().join("node.toml");
    fs::write(&path, config).expect("writable");
    serve(&s3, &["node", "-c", &path.display().to_string()], |ready| {
        let address = ready.trim_start_matches("http://").split_whitespace().next().expect("an address");
        for _ in 0..2 {
            let body = get_bytes(address, "/img/a.bin");
            assert!(body.ends_with(&object), "{} bytes came", body.len());
            // From the node now, whatever the store says.
            let _ = fs::remove_file(s3.file("site/img/a.bin"));
        }
        assert!(get(address, "/img/none.bin").starts_with("HTTP/1.1 404"));
        await_that("the node's log in the store", || !names(&s3.file("logs")).is_empty());
    });
    let said = succeed(&mut s3.nearcast(&["profile", &url("logs/"), "--json"]));
    let profile: serde_json::Value = serde_json::from_str(&said).expect("one document");
    assert_eq!(profile["requests"], 3, "{profile}");
    let left = names(&folder.path().join("data/logs"));
    let files: usize = left.iter().map(|date| names(&folder.path().join("data/logs").join(date)).len()).sum();
    assert_eq!(files, 0, "what was sent is removed here");
}

/// A registry in the bucket with two versions, the first of which is the champion.
fn registry_with_versions(s3: &S3, folder: &Path) -> String {
    let local = folder.join("models").display().to_string();
    for seed in ["seed=1", "seed=2"] {
        succeed(&mut train(s3, SAMPLE, &local, &["--no-checkpoints", "--set", seed]));
    }
    let mut folders = vec![Path::new(&local).to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&local).expect("it is below").display().to_string();
                s3.put(&format!("models/{name}"), &path);
            }
        }
    }
    url("models")
}

/// Runs a service while `during` talks to it.
fn serve(s3: &S3, arguments: &[&str], during: impl FnOnce(&str)) {
    let variables = s3.variables();
    let service = service::Service::start_with(arguments, &variables);
    during(&service.ready.clone());
    assert!(service.terminate().success());
}

fn get(address: &str, path: &str) -> String {
    String::from_utf8_lossy(&get_bytes(address, path)).into_owned()
}

fn get_bytes(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    answer
}
