//! Bad input to the real commands: each ends in a message that says what, where and why, and leaves nothing behind.

mod support {
    pub(crate) mod http;
    #[expect(dead_code, reason = "shared with tests that need all of it")]
    pub(crate) mod service;
    pub(crate) mod version;
}

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::TcpListener,
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array},
    datatypes::{Field, Schema},
};
use nearcast_datasets::{LogSource, read_events};
use parquet::arrow::ArrowWriter;
use support::{
    http::{Http, eventually},
    service::{LOG, Service, nearcast},
    version,
};
use tempfile::TempDir;

/// Runs a command in `folder`: it must end with exit code 1 (2 for a wrong command line), say all `words` on stderr,
/// nothing on stdout, and change nothing in the folder.
fn check(folder: &Path, arguments: &[&str], words: &[&str]) {
    let before = listing(folder);
    let output = nearcast(arguments).current_dir(folder).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let is_refused = matches!(output.status.code(), Some(1 | 2)) && output.stdout.is_empty();
    assert!(
        is_refused && !said.contains("panicked") && !said.contains("ready http"),
        "{arguments:?}, {}: {said}",
        output.status
    );
    for word in words {
        assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
    }
    assert_eq!(listing(folder), before, "{arguments:?} left something behind");
}

#[test]
fn every_command_that_reads_a_log_refuses_a_bad_one() {
    let folder = folder_with_logs();
    version::save(&folder.path().join("saved"), 1).expect("a version");
    let logs: [(&str, &[&str]); 9] = [
        ("cut.parquet", &["cut.parquet is not a complete Parquet file", "truncated"]),
        ("text.parquet", &["text.parquet is not a complete Parquet file", "nearcast import"]),
        ("foreign.parquet", &["foreign.parquet", "\"timestamp\" is missing", "columns found: id, name"]),
        ("renamed.parquet", &["renamed.parquet", "\"size\" is missing", "did you mean column \"sise\"?"]),
        ("mistyped.parquet", &["mistyped.parquet", "\"key\" has type Int64", "did you mean column \"key_path\"?"]),
        ("empty.parquet", &["empty.parquet holds no request"]),
        ("unsorted.parquet", &["unsorted.parquet: not sorted by time: row 3", "1970-01-01T00:00:01.500Z"]),
        ("gone.parquet", &["cannot read gone.parquet", "No such file"]),
        ("nothing", &["no file ending in .parquet under nothing"]),
    ];
    for (log, words) in logs {
        for command in [
            &["profile", log][..],
            &["train", log, "--registry", "models"],
            &["evaluate", "saved", log],
            &["compare", "saved", "saved", log],
            &["replay", log],
            &["import", "--to-oracle-general", log, "-o", "trace.bin"],
            &["up", "--log", log, "--dir", "cluster"],
            &["load", log, "--to", "eu=http://127.0.0.1:1"],
            &["origin", log, "--listen", "127.0.0.1:0"],
        ] {
            check(folder.path(), command, &[words, &["error: "]].concat());
        }
    }
}

#[test]
fn an_unknown_flag_is_refused_with_the_nearest_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let verbs = ["profile", "train", "evaluate", "compare", "replay", "import", "synthesize", "up", "load"];
    for verb in verbs.into_iter().chain(["node", "predictor", "origin", "models", "demo"]) {
        check(folder.path(), &[verb, "--no-such-flag"], &["unexpected argument '--no-such-flag' found", "Usage: "]);
    }
    check(folder.path(), &["replay", "x.parquet", "--polici", "lru"], &["a similar argument exists: '--policy'"]);
    check(folder.path(), &["profil"], &["unrecognized subcommand 'profil'", "similar subcommand exists: 'profile'"]);
}

#[test]
fn an_unknown_key_in_any_file_is_refused_with_the_nearest_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = "name = \"a\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"data\"\ncapacity = \"8MiB\"\n\
                [origin]\nurl = \"http://127.0.0.1:1\"\n";
    for (file, text) in [
        ("node.toml", format!("{node}[prefetch]\nque_max = 1\n")),
        ("node-value.toml", node.replace("8MiB", "8 parsecs")),
        ("node-range.toml", node.replace("8MiB", "1KiB")),
        ("node-topology.toml", format!("{node}[emulation]\ntopology = \"topology.toml\"\n")),
        ("predictor.toml", "data_dir = \"data\"\nregistri = \"models\"\n".to_owned()),
        ("predictor-range.toml", "data_dir = \"data\"\ndrain_seconds = 0.0\n".to_owned()),
        ("predictor-engine.toml", "data_dir = \"data\"\n[engine]\nbudget_shar = 0.1\n".to_owned()),
        ("origin.toml", format!("log = {LOG:?}\nlisen = \"127.0.0.1:0\"\n")),
        ("train.toml", "[features]\nsession_gap_second = 5\n".to_owned()),
        ("train-range.toml", "[fit]\nepochs_max = 0\n".to_owned()),
        ("topology.toml", "[default]\nrtt = 3\n".to_owned()),
        ("regions.toml", "[regins]\neu = [\"192.0.2.0/24\"]\n".to_owned()),
        ("broken.toml", "[default\n".to_owned()),
    ] {
        fs::write(folder.path().join(file), text).expect("writable");
    }
    let check = |arguments: &[&str], words: &[&str]| check(folder.path(), arguments, words);
    for verb in ["node", "predictor", "origin"] {
        check(&[verb, "-c", "gone.toml"], &["gone.toml", "No such file"]);
        check(&[verb, "-c", "broken.toml"], &["broken.toml", "line 1"]);
    }
    check(&["node", "-c", "node.toml"], &["node.toml", "line 9", "`que_max`", "did you mean `queue_max`?"]);
    check(&["node", "-c", "node-value.toml"], &["node-value.toml", "line 5", "8 parsecs"]);
    check(&["node", "-c", "node-range.toml"], &["node-range.toml", "`capacity`", "less than one segment"]);
    check(&["node", "-c", "node-topology.toml"], &["topology.toml", "line 2", "did you mean `rtt_ms`?"]);
    check(&["predictor", "-c", "predictor.toml"], &["predictor.toml", "line 2", "did you mean `registry`?"]);
    check(&["predictor", "-c", "predictor-range.toml"], &["predictor-range.toml", "`drain_seconds` is 0"]);
    check(&["predictor", "-c", "predictor-engine.toml"], &["predictor-engine.toml", "did you mean `budget_share`?"]);
    check(&["origin", "-c", "origin.toml"], &["origin.toml", "line 2", "did you mean `listen`?"]);
    let train = ["train", LOG, "--registry", "models", "-c"];
    check(&[&train[..], &["train.toml"]].concat(), &["train.toml", "line 2", "did you mean `session_gap_seconds`?"]);
    check(&[&train[..], &["train-range.toml"]].concat(), &["fit.epochs_max is 0, but must be at least 1"]);
    let set = ["train", LOG, "--registry", "models", "--set"];
    check(&[&set[..], &["fit.epoch_max=3"]].concat(), &["unknown field `epoch_max`", "did you mean `epochs_max`?"]);
    check(&[&set[..], &["fits.epochs_max=3"]].concat(), &["no section `fits`", "did you mean `fit`?"]);
    check(&["train", LOG, "--registry", "models", "--track", "mlflow"], &["neither tb:DIR nor mlflow+http://"]);
    for arguments in
        [&["replay", LOG, "--topology", "topology.toml"][..], &["up", "--log", LOG, "--topology", "topology.toml"]]
    {
        check(arguments, &["topology.toml", "line 2", "did you mean `rtt_ms`?"]);
    }
    let import = ["import", "--region-map", "regions.toml", "access.log", "-o", "logs"];
    check(&import, &["regions.toml", "line 1", "unknown field `regins`", "`regions`"]);
}

#[test]
fn a_taken_port_is_refused_by_every_service() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    fs::write(folder.path().join("node.toml"), node_config(&address, "http://127.0.0.1:1")).expect("writable");
    for (file, key, other) in [("grpc.toml", "listen", "http_listen"), ("http.toml", "http_listen", "listen")] {
        let text = format!("{key} = {address:?}\n{other} = \"127.0.0.1:0\"\ndata_dir = \"data\"\n");
        fs::write(folder.path().join(file), text).expect("writable");
        check(folder.path(), &["predictor", "-c", file], &[&address, &format!("`{key}`"), "in use"]);
    }
    check(folder.path(), &["node", "-c", "node.toml"], &["cannot listen on", &address, "in use"]);
    check(folder.path(), &["origin", LOG, "--listen", &address], &["cannot listen on", &address, "in use"]);
}

#[test]
fn what_cannot_be_written_is_said_before_the_work_is_done() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A file where a folder should be stops everybody, also those who may write anywhere.
    fs::write(folder.path().join("file"), "").expect("writable");
    fs::write(folder.path().join("access.log"), ACCESS_LOG).expect("writable");
    let node = node_config("127.0.0.1:0", "http://127.0.0.1:1").replace("\"data\"", "\"file/data\"");
    fs::write(folder.path().join("node.toml"), node).expect("writable");
    let predictor = "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"file/data\"\n";
    fs::write(folder.path().join("predictor.toml"), predictor).expect("writable");
    for command in [&["synthesize", "--requests", "100", "-o"][..], &["import", "access.log", "-o"]] {
        check(
            folder.path(),
            &[command, &["file/log.parquet"]].concat(),
            &["error: ", "file/log.parquet", "File exists"],
        );
    }
    for (arguments, word) in [
        (&["import", "--to-oracle-general", LOG, "-o", "file/trace.bin"][..], "file/trace.bin"),
        (&["train", LOG, "--registry", "file/models"], "file/models"),
        (&["replay", LOG, "--report", "file/report.html"], "file/report.html"),
        (&["up", "--log", LOG, "--dir", "file/cluster"], "file/cluster"),
        (&["node", "-c", "node.toml"], "file/data"),
        (&["predictor", "-c", "predictor.toml"], "file/data"),
    ] {
        check(folder.path(), arguments, &["error: ", word, "Not a directory"]);
    }
}

#[test]
fn a_byte_flipped_in_any_file_of_a_version_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("models/versions/v0001");
    version::save(&dir, 1).expect("a version");
    for file in listing(&dir) {
        let path = dir.join(&file);
        let whole = fs::read(&path).expect("readable");
        // Not the middle of a manifest only: a digit of the seed or a letter of a name must not pass either.
        for position in [whole.len() / 4, whole.len() / 2, whole.len() - 2] {
            let mut bytes = whole.clone();
            bytes[position] ^= 1;
            fs::write(&path, bytes).expect("writable");
            for arguments in [
                &["models", "--registry", "models", "verify", "v0001"][..],
                &["evaluate", "v0001", LOG, "--registry", "models"],
                &["replay", LOG, "--registry", "models", "--model", "v0001"],
            ] {
                check(folder.path(), arguments, &["error: ", &file, "of the model artifact"]);
            }
        }
        fs::write(&path, whole).expect("writable");
    }
}

#[tokio::test]
async fn an_unreachable_origin_is_a_502_that_names_the_cause() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
    let config = folder.path().join("node.toml");
    fs::write(&config, node_config("127.0.0.1:0", &origin.ready)).expect("writable");
    let node = Service::start(&["node", "-c", config.to_str().expect("UTF-8")]);
    let http = Http::new();
    let mut events = read_events(&LogSource::parse(LOG).expect("a place")).expect("a log");
    let key = events.next().expect("a row").expect("a row").key;
    let answer = http.get(&format!("{}{key}", node.ready), "test").await.expect("an answer");
    assert_eq!(answer.status, 200);
    origin.kill();
    let held = http.get(&format!("{}{key}", node.ready), "test").await.expect("an answer");
    assert_eq!((held.status, held.body), (answer.status, answer.body));
    let refused = http.get(&format!("{}/another", node.ready), "test").await.expect("an answer");
    let said = String::from_utf8_lossy(&refused.body);
    assert_eq!(refused.status, 502, "{said}");
    for word in ["/another", "origin cannot be reached", "refused"] {
        assert!(said.contains(word), "{said} does not say `{word}`");
    }
    let status = format!("{}/_nearcast/status", node.ready);
    eventually("the error in the status", async || http.json(&status).await["served"]["error"] == 1).await;
    assert!(node.terminate().success());
}

fn folder_with_logs() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sample = fs::read(LOG).expect("the sample");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("cut.parquet"), &sample[..sample.len() / 2]).expect("writable");
    fs::write(path("text.parquet"), ACCESS_LOG).expect("writable");
    fs::create_dir(path("nothing")).expect("writable");
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let words: ArrayRef = Arc::new(StringArray::from(vec!["/a", "/b", "/a", "/c"]));
    let times = |times: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(times)) };
    let columns = |times: ArrayRef, key: ArrayRef, size: &'static str| {
        let sizes: ArrayRef = Arc::new(UInt64Array::from(vec![10, 20, 10, 30]));
        let (client, region) = (Arc::clone(&words), Arc::clone(&words));
        vec![("timestamp", times), ("client", client), ("region", region), ("key", key), (size, sizes)]
    };
    let sorted = times(vec![0, 1_000_000, 2_000_000, 3_000_000]);
    let good = columns(Arc::clone(&sorted), Arc::clone(&words), "size");
    let empty: Vec<_> = good.iter().map(|(name, array)| (*name, array.slice(0, 0))).collect();
    let mut mistyped = columns(Arc::clone(&sorted), Arc::clone(&numbers), "size");
    mistyped.push(("key_path", Arc::clone(&words)));
    let backwards = times(vec![0, 1_000_000, 2_000_000, 1_500_000]);
    write(&path("foreign.parquet"), &[("id", numbers), ("name", Arc::clone(&words))]);
    write(&path("renamed.parquet"), &columns(sorted, Arc::clone(&words), "sise"));
    write(&path("mistyped.parquet"), &mistyped);
    write(&path("empty.parquet"), &empty);
    write(&path("unsorted.parquet"), &columns(backwards, Arc::clone(&words), "size"));
    folder
}

fn write(path: &Path, columns: &[(&str, ArrayRef)]) {
    let fields: Vec<_> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let file = File::create(path).expect("writable");
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).expect("a schema");
    let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
    writer.write(&RecordBatch::try_new(schema, arrays).expect("equal lengths")).expect("writable");
    writer.close().expect("writable");
}

fn node_config(listen: &str, origin: &str) -> String {
    format!(
        "name = \"a\"\nregion = \"eu\"\nlisten = {listen:?}\ndata_dir = \"data\"\ncapacity = \"8MiB\"\n\
         [origin]\nurl = {origin:?}\n"
    )
}

/// Every path below a folder.
fn listing(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).expect("readable").flatten() {
            let path = entry.path();
            found.insert(path.strip_prefix(folder).expect("below it").display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

const ACCESS_LOG: &str = "10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 2326\n";
