//! What data scientists do with a version outside of Nearcast: Python's readers, TensorBoard and MLflow, wherever their
//! packages are there.

mod support {
    pub(crate) mod port;
    pub(crate) mod python;
}

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nearcast_models::{Model, Registry};
use serde_json::{Value, json};
use support::{
    port::free_port,
    python::{self, SKIPPED, run_python},
};

/// Trains for two short passes and returns what is said on stderr.
fn train(registry: &Path, arguments: &[&str]) -> (Value, String) {
    let registry = registry.display().to_string();
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/samples/web-1995.parquet");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.arg("train").arg(log).args(["--registry", &registry, "--json", "--epochs", "2"]);
    let small = [
        "model.sequence.embedding_width=16",
        "model.sequence.hidden_width=24",
        "gate.requests_max=1000",
        "blend.examples_max=500",
        "evaluate.predictions_max=500",
    ];
    command.args(small.iter().flat_map(|setting| ["--set", setting])).args(arguments);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).expect("one JSON document"), said)
}

/// The scores of every key after some histories, as the predictor works them out.
fn expected(model: &Model) -> Value {
    let keys: Vec<&str> = model.vocabulary.iter().map(|(key, _)| &**key).collect();
    let histories = [&keys[..1], &keys[3..8], &keys[keys.len() - 40..]];
    let cases = histories.map(|history| {
        let mut state = model.sequence.initial_state();
        history.iter().for_each(|key| model.sequence.step(&mut state, &model.vocabulary.item(key)));
        let scores: Vec<f32> =
            keys.iter().map(|key| model.sequence.score(&state, &model.vocabulary.item(key))).collect();
        json!({ "history": history, "scores": scores })
    });
    json!({ "keys": keys, "cases": cases })
}

#[test]
fn the_cards_scorer_agrees_with_the_predictor_and_every_table_opens_in_python() {
    let Some(python) = python::with(&["numpy", "pyarrow", "safetensors"]) else { return eprintln!("{SKIPPED}") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    train(folder.path(), &[]);
    let registry = Registry::open(&folder.path().display().to_string()).expect("a registry");
    let (version, model) = registry.load("champion").expect("a version");
    let place = folder.path().join(format!("versions/{version}"));
    let said = run_python(&python, "version.py", &[&place.display().to_string()], &expected(&model).to_string());
    assert!(said.starts_with("scores agree"), "{said}");
}

#[test]
fn tensorboard_reads_what_a_training_writes() {
    let Some(python) = python::with(&["tensorboard"]) else { return eprintln!("{SKIPPED}") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let events = folder.path().join("events").display().to_string();
    let (published, said) = train(&folder.path().join("models"), &["--track", &format!("tb:{events}")]);
    assert!(said.contains("tracked in "), "{said}");
    let read = run_python(&python, "events.py", &[&events], "");
    let read: Value = serde_json::from_str(&read).expect("JSON");
    let losses: Vec<f64> = curve(&read["scalars"]["train/loss"]);
    let epochs = published["epochs"].as_array().expect("a list");
    assert_eq!(losses.len(), epochs.len());
    for (loss, epoch) in losses.iter().zip(epochs) {
        assert!((loss - epoch["loss"].as_f64().expect("a number")).abs() < 1e-6);
    }
    let mrr = curve(&read["scalars"]["test/next_key/methods/model/without_repeats/mrr_20"])[0];
    let told = published["evaluation"]["next_key"]["methods"]["model"]["without_repeats"]["mrr_20"].as_f64();
    assert!((mrr - told.expect("a number")).abs() < 1e-6);
    assert!(curve(&read["scalars"]["train/running_loss"]).len() > 10);
    assert!(read["texts"]["config"].as_str().expect("a text").contains("fit.epochs_max = 2"));
}

/// The values of a scalar, in order.
fn curve(scalar: &Value) -> Vec<f64> {
    let points = scalar.as_array().expect("a scalar of this name");
    points.iter().map(|point| point[1].as_f64().expect("a number")).collect()
}

#[test]
fn mlflow_keeps_parameters_metrics_and_files_of_a_training() {
    let Some(python) = python::with(&["mlflow"]) else { return eprintln!("{SKIPPED}") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Mlflow::start(&python, folder.path());
    let target = format!("mlflow+{}/team/nightly", server.url);
    let (published, said) = train(&folder.path().join("models"), &["--track", &target]);
    assert!(said.contains("tracked at "), "{said}");
    let script = format!(
        "import json, mlflow\n\
         mlflow.set_tracking_uri({:?})\n\
         client = mlflow.MlflowClient()\n\
         experiment = client.get_experiment_by_name('team/nightly')\n\
         [run] = client.search_runs([experiment.experiment_id])\n\
         files = [file.path for file in client.list_artifacts(run.info.run_id)]\n\
         losses = [metric.value for metric in client.get_metric_history(run.info.run_id, 'train/loss')]\n\
         print(json.dumps(dict(status=run.info.status, params=run.data.params, metrics=run.data.metrics,\n\
             tags=run.data.tags, files=files, losses=losses)))",
        server.url
    );
    let output = Command::new(&python).args(["-c", &script]).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&run["status"], &run["params"]["fit.epochs_max"]), (&"FINISHED".into(), &"2".into()));
    assert_eq!(run["tags"]["nearcast.version"], published["version"]);
    let name = "test/next_key/methods/model/without_repeats/mrr_20";
    assert_eq!(
        run["metrics"][name],
        published["evaluation"]["next_key"]["methods"]["model"]["without_repeats"]["mrr_20"]
    );
    assert_eq!(run["losses"].as_array().map(Vec::len), published["epochs"].as_array().map(Vec::len));
    assert_eq!(run["files"], json!(["MODEL_CARD.md", "metrics.json", "metrics.parquet", "report.html", "train.toml"]));
}

#[test]
fn a_tracking_server_that_is_away_is_reported_and_fails_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, said) = train(folder.path(), &["--track", &format!("mlflow+http://127.0.0.1:{}", free_port())]);
    assert!(said.contains("tracking waits, training goes on") && said.contains("refused"), "{said}");
    assert!(said.contains("is incomplete, "), "{said}");
}

/// A real server in a process of its own, ended by its id.
struct Mlflow {
    url: String,
    child: Child,
}

impl Mlflow {
    fn start(python: &Path, folder: &Path) -> Self {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(python);
        command.args(["-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port"]);
        command.arg(port.to_string()).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().expect("it starts");
        let server = Self { url: format!("http://{address}"), child };
        for _ in 0..PATIENCE_TENTHS {
            if is_up(&address) {
                return server;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("MLflow does not answer at {address}");
    }
}

fn is_up(address: &str) -> bool {
    let ask = || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        std::io::read_to_string(stream)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        // The server starts workers of its own, all in the group that was made for it.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// Generous, so that a loaded machine does not fail a test that would pass.
const PATIENCE_TENTHS: u32 = 2_400;
