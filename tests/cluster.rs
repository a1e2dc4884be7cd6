//! Feature building on a cluster of real processes: the same tables, also when an executor dies; refusals in words.
#![cfg(feature = "cluster")]

#[path = "support/port.rs"]
mod port;
#[path = "support/s3.rs"]
#[expect(dead_code, reason = "shared with tests that need all of it")]
mod s3;
#[path = "support/service.rs"]
#[expect(dead_code, reason = "shared with tests that need all of it")]
mod service;
#[path = "support/store.rs"]
mod store;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use port::free_port;
use s3::{BUCKET, S3};
use service::{LOG, Service};

/// A scheduler and its executors.
struct Cluster {
    scheduler: Service,
    executors: Vec<Child>,
}

impl Cluster {
    fn start(executors: usize, variables: &[(&'static str, String)]) -> Self {
        let scheduler = Service::start_with(&["scheduler", "--listen", "127.0.0.1:0"], variables);
        let executors = (0..executors).map(|_| executor(&scheduler.ready, variables)).collect();
        Self { scheduler, executors }
    }

    fn engine(&self) -> String {
        format!("ballista://{}", self.scheduler.ready)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for executor in &mut self.executors {
            // Both fail when it has ended already.
            let _ = executor.kill();
            let _ = executor.wait();
        }
    }
}

fn executor(scheduler: &str, variables: &[(&'static str, String)]) -> Child {
    let [port, task_port] = [free_port(), free_port()].map(|port| port.to_string());
    let arguments = ["executor", "--scheduler", scheduler, "--port", &port, "--task-port", &task_port, "--tasks", "1"];
    let mut command = service::nearcast(&arguments);
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// `nearcast train` on a small network.
fn train(log: &str, registry: &Path, more: &[&str]) -> Command {
    let mut command = service::nearcast(&["-v", "train", log, "--epochs", "1", "--no-checkpoints", "--registry"]);
    command.arg(registry);
    let settings = [
        "model.sequence.embedding_width=8",
        "model.sequence.hidden_width=8",
        "model.sequence.lanes=64",
        "model.vocabulary.token_buckets=256",
        "gate.requests_max=1000",
        "blend.examples_max=500",
        "evaluate.predictions_max=300",
        "demand.epochs=1",
    ];
    command.args(settings.iter().flat_map(|setting| ["--set", setting])).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{said}");
    said
}

fn fail(command: &mut Command, words: &[&str]) {
    let Output { status, stderr, .. } = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success() && !said.contains("panicked"), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in: {said}"));
}

/// Both registries hold the same tables, byte for byte.
fn assert_same(one: &Path, other: &Path) {
    for name in ["coaccess.parquet", "vocabulary.parquet", "model.safetensors", "metrics.json"] {
        let read = |registry: &Path| fs::read(registry.join("versions/v0001").join(name)).expect("it was published");
        assert!(read(one) == read(other), "{name} differs");
    }
}

#[test]
fn a_cluster_builds_the_same_tables_and_shows_how_far_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (embedded, clustered) = (folder.path().join("embedded"), folder.path().join("clustered"));
    let cluster = Cluster::start(2, &[]);
    succeed(&mut train(LOG, &embedded, &[]));
    let engine = cluster.engine();
    // More parts than executors, and more than the embedded engine has: the tables do not depend on it.
    let said = succeed(&mut train(LOG, &clustered, &["--engine", &engine, "--set", "features.partitions=3"]));
    assert_same(&embedded, &clustered);
    assert!(said.contains("the cluster counts co-access") && said.contains("total=3"), "{said}");
}

#[test]
fn a_cluster_that_shares_an_object_store_only_builds_the_same_tables() {
    let (s3, folder) = (S3::start(), tempfile::tempdir().expect("a temporary folder"));
    s3.put("logs/web.parquet", Path::new(LOG));
    let (embedded, clustered) = (folder.path().join("embedded"), folder.path().join("clustered"));
    let cluster = Cluster::start(2, &s3.variables());
    succeed(&mut train(LOG, &embedded, &[]));
    let shared = format!("features.shared=s3://{BUCKET}/scratch");
    let log = format!("s3://{BUCKET}/logs/");
    let engine = cluster.engine();
    let mut train = train(&log, &clustered, &["--engine", &engine, "--set", &shared]);
    succeed(train.envs(s3.variables()));
    for name in ["coaccess.parquet", "vocabulary.parquet", "model.safetensors"] {
        let read = |registry: &Path| fs::read(registry.join("versions/v0001").join(name)).expect("it was published");
        assert!(read(&embedded) == read(&clustered), "{name} differs");
    }
    let left = fs::read_dir(s3.file("scratch")).map_or(0, |entries| entries.flatten().count());
    assert_eq!(left, 0, "the shared copy is removed");
}

#[test]
fn a_killed_executor_does_not_kill_the_job() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log.parquet");
    let arguments = ["synthesize", "--requests", "400000", "--keys", "2000", "--days", "2", "-o"];
    succeed(service::nearcast(&arguments).arg(&log).stdout(Stdio::null()));
    let (embedded, clustered) = (folder.path().join("embedded"), folder.path().join("clustered"));
    let log = log.display().to_string();
    let quick = ["--set", "fit.epoch_requests_max=20000"];
    succeed(&mut train(&log, &embedded, &quick));

    let scratch = folder.path().join("scratch");
    fs::create_dir(&scratch).expect("writable");
    let mut cluster = Cluster::start(2, &[]);
    let (engine, scratch_setting) = (cluster.engine(), format!("features.scratch={}", scratch.display()));
    let on_cluster = ["--engine", &engine, "--set", "features.partitions=8", "--set", &scratch_setting];
    let mut command = train(&log, &clustered, &[&quick[..], &on_cluster].concat());
    let said = folder.path().join("said");
    command.stderr(fs::File::create(&said).expect("writable"));
    let mut training = command.spawn().expect("it starts");
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    // One part is counted, others are under way: one of the two who count is gone now.
    let mut waited = Duration::ZERO;
    while !read(&said).contains("parts=1") {
        assert!(training.try_wait().expect("it can be asked").is_none(), "it ended before: {}", read(&said));
        assert!(waited < PATIENCE, "awaited in vain: {}", read(&said));
        thread::sleep(LOOK);
        waited += LOOK;
    }
    cluster.executors[0].kill().expect("it can be killed");
    assert!(!read(&said).contains("parts=8"), "it was killed too late to matter: {}", read(&said));
    assert!(training.wait().expect("it ends").success(), "{}", read(&said));
    assert_same(&embedded, &clustered);
}

#[test]
fn a_scheduler_that_is_absent_or_alone_or_another_program_is_told_of_before_any_work() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = folder.path().join("models");
    let port = free_port();
    let engine = format!("ballista://127.0.0.1:{port}");
    fail(&mut train(LOG, &registry, &["--engine", &engine]), &["no scheduler answers there", &port.to_string()]);
    let http = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let other = format!("ballista://{}", http.local_addr().expect("bound"));
    thread::spawn(move || http.incoming().flatten().for_each(drop));
    fail(&mut train(LOG, &registry, &["--engine", &other]), &["cannot build features on the cluster at"]);
    let alone = Cluster::start(0, &[]);
    fail(&mut train(LOG, &registry, &["--engine", &alone.engine()]), &["no executor took a trial query"]);
    for engine in ["spark://host:1", "ballista://host", "ballista://:1"] {
        fail(&mut train(LOG, &registry, &["--engine", engine]), &["features.engine", "ballista://HOST:PORT"]);
    }
    assert!(!registry.exists(), "a refusal leaves nothing behind");
}

/// For a training on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(5);
