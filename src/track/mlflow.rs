//! MLflow over REST: <https://mlflow.org/docs/latest/rest-api.html>.
//!
//! One thread talks to the server, so that the training never waits for it; what is told while the server is away is
//! kept, up to a bound, and sent when it answers again or at the end.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use nearcast_datasets::Timestamp;
use nearcast_trainer::MetricRow;
use serde_json::{Value, json};

use super::client::{Client, Refusal};
use crate::{commands::now, output::note};

/// A run under way.
#[derive(Debug)]
pub(crate) struct Mlflow {
    server: String,
    messages: SyncSender<Message>,
    worker: JoinHandle<String>,
    dropped: u64,
}

#[derive(Debug)]
enum Message {
    Metrics(Vec<Metric>),
    Finish { result: Result<String, String>, files: Vec<(&'static str, Vec<u8>)> },
}

/// One metric as the server takes it.
#[derive(Clone, Debug)]
struct Metric {
    key: String,
    value: f64,
    timestamp_ms: i64,
    step: u64,
}

impl Mlflow {
    /// Begins a run; the server is first asked when there is something to tell.
    pub(crate) fn begin(server: &str, experiment: &str, params: &[(String, String)], logs: &[String]) -> Self {
        let (messages, receiver) = sync_channel(MESSAGES_MAX);
        let session = Session {
            client: Client::new(server),
            experiment: experiment.to_owned(),
            run: None,
            params: params.iter().map(|(name, value)| (name.clone(), cut(value, PARAM_CHARS_MAX))).collect(),
            tags: vec![("nearcast.logs".to_owned(), cut(&logs.join(", "), PARAM_CHARS_MAX))],
            metrics: Vec::new(),
            lost: 0,
            is_away: false,
        };
        let worker = thread::spawn(move || work(session, &receiver));
        Self { server: server.to_owned(), messages, worker, dropped: 0 }
    }

    /// Tells the rows, unless too much waits already.
    pub(crate) fn tell(&mut self, now: Timestamp, rows: &[MetricRow]) {
        // JSON has no other numbers.
        let told = rows.iter().filter(|row| row.value.is_finite());
        let metrics: Vec<Metric> = told
            .map(|row| Metric {
                key: metric_key(&row.name),
                value: row.value,
                timestamp_ms: now.micros() / 1_000,
                step: row.step,
            })
            .collect();
        let count = metrics.len() as u64;
        if self.messages.try_send(Message::Metrics(metrics)).is_err() {
            self.dropped += count;
        }
    }

    /// Ends the run and says how the tracking went. Waits for a server that is away no longer than its tries take.
    pub(crate) fn finish(self, result: Result<String, String>, files: Vec<(&'static str, Vec<u8>)>) -> String {
        let Self { server, messages, worker, dropped } = self;
        if messages.send(Message::Finish { result, files }).is_err() {
            return format!("warning: tracking at {server} ended early");
        }
        let said = worker.join().unwrap_or_else(|_| format!("warning: tracking at {server} broke down"));
        if dropped == 0 { said } else { format!("{said}; {dropped} metrics came too fast for it") }
    }
}

/// What the thread knows.
#[derive(Debug)]
struct Session {
    client: Client,
    experiment: String,
    run: Option<Run>,
    /// Not sent yet, here and below.
    params: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    metrics: Vec<Metric>,
    lost: u64,
    is_away: bool,
}

#[derive(Clone, Debug)]
struct Run {
    experiment: String,
    id: String,
    artifacts: String,
}

fn work(mut session: Session, messages: &Receiver<Message>) -> String {
    // While the server is away it is not asked for every batch of metrics.
    let mut retry_at = now();
    loop {
        match messages.recv_timeout(RETRY_PAUSE) {
            Ok(Message::Metrics(metrics)) => session.keep(metrics),
            Ok(Message::Finish { result, files }) => return session.finish(result, files),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return session.finish(Err("interrupted".to_owned()), Vec::new()),
        }
        if session.metrics.is_empty() || now() < retry_at {
            continue;
        }
        match session.flush() {
            Ok(()) => session.is_away = false,
            Err(refusal) => {
                if !session.is_away {
                    note(&format!("warning: tracking waits, training goes on: {refusal}"));
                }
                session.is_away = true;
                retry_at = now().after(RETRY_PAUSE);
            }
        }
    }
}

impl Session {
    fn keep(&mut self, metrics: Vec<Metric>) {
        self.metrics.extend(metrics);
        let over = self.metrics.len().saturating_sub(METRICS_MAX);
        self.lost += over as u64;
        self.metrics.drain(..over);
    }

    /// Sends all that waits, in batches that the server takes.
    fn flush(&mut self) -> Result<(), Refusal> {
        let run = self.run()?;
        let log = |client: &Client, body: Value| client.post("runs/log-batch", &body).map(drop);
        let pair = |(key, value): &(String, String)| json!({ "key": key, "value": value });
        while !self.params.is_empty() {
            let count = self.params.len().min(PARAMS_PER_BATCH);
            let params: Vec<Value> = self.params[..count].iter().map(pair).collect();
            log(&self.client, json!({ "run_id": run.id, "params": params }))?;
            self.params.drain(..count);
        }
        if !self.tags.is_empty() {
            let tags: Vec<Value> = self.tags.iter().map(pair).collect();
            log(&self.client, json!({ "run_id": run.id, "tags": tags }))?;
            self.tags.clear();
        }
        while !self.metrics.is_empty() {
            let count = self.metrics.len().min(METRICS_PER_BATCH);
            let metric = |Metric { key, value, timestamp_ms, step }: &Metric| json!({ "key": key, "value": value, "timestamp": timestamp_ms, "step": step });
            let metrics: Vec<Value> = self.metrics[..count].iter().map(metric).collect();
            log(&self.client, json!({ "run_id": run.id, "metrics": metrics }))?;
            self.metrics.drain(..count);
        }
        Ok(())
    }

    /// The run, created with its experiment on first use.
    fn run(&mut self) -> Result<Run, Refusal> {
        if let Some(run) = &self.run {
            return Ok(run.clone());
        }
        let experiment = match self.find_experiment()? {
            Some(found) => found,
            None => match self.client.post("experiments/create", &json!({ "name": self.experiment })) {
                Ok(created) => text(&created, "/experiment_id")?,
                // Another run may have created it a moment ago.
                Err(refusal) => self.find_experiment()?.ok_or(refusal)?,
            },
        };
        let started = now().micros() / 1_000;
        let tags = json!([
            { "key": "mlflow.source.name", "value": "nearcast train" },
            { "key": "mlflow.source.type", "value": "JOB" },
            { "key": "nearcast.code_version", "value": env!("CARGO_PKG_VERSION") },
        ]);
        let created = self
            .client
            .post("runs/create", &json!({ "experiment_id": experiment, "start_time": started, "tags": tags }))?;
        let run = Run {
            experiment,
            id: text(&created, "/run/info/run_id")?,
            artifacts: text(&created, "/run/info/artifact_uri").unwrap_or_default(),
        };
        self.run = Some(run.clone());
        Ok(run)
    }

    fn find_experiment(&self) -> Result<Option<String>, Refusal> {
        match self.client.get("experiments/get-by-name", &[("experiment_name", &self.experiment)]) {
            Ok(found) => text(&found, "/experiment/experiment_id").map(Some),
            Err(Refusal::Status { status: 404, .. }) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn finish(mut self, result: Result<String, String>, files: Vec<(&'static str, Vec<u8>)>) -> String {
        let server = self.client.server().to_owned();
        let status = if result.is_ok() { "FINISHED" } else { "FAILED" };
        self.tags.push(match result {
            Ok(version) => ("nearcast.version".to_owned(), version),
            Err(reason) => ("nearcast.error".to_owned(), cut(&reason, PARAM_CHARS_MAX)),
        });
        let waiting = self.metrics.len() as u64;
        let done = self.flush().and_then(|()| {
            let run = self.run()?;
            for (name, bytes) in files {
                self.upload(&run, name, bytes)?;
            }
            let ended = now().micros() / 1_000;
            let body = json!({ "run_id": run.id, "status": status, "end_time": ended });
            self.client.post("runs/update", &body).map(|_| run)
        });
        match done {
            Ok(Run { experiment, id, .. }) if self.lost == 0 => {
                format!("tracked at {server}/#/experiments/{experiment}/runs/{id}")
            }
            Ok(Run { experiment, id, .. }) => {
                format!("tracked at {server}/#/experiments/{experiment}/runs/{id}, {} metrics lost", self.lost)
            }
            Err(refusal) => format!(
                "warning: tracking at {server} is incomplete, {} metrics were not sent: {refusal}",
                self.lost + (self.metrics.len() as u64).min(waiting)
            ),
        }
    }

    /// Uploads a file through the server; a server that keeps artifacts elsewhere is left alone.
    fn upload(&self, run: &Run, name: &str, bytes: Vec<u8>) -> Result<(), Refusal> {
        match run.artifacts.strip_prefix("mlflow-artifacts:/") {
            Some(folder) => self.client.put(&format!("mlflow-artifacts/artifacts/{folder}/{name}"), bytes),
            None => Ok(()),
        }
    }
}

/// A text at a place of an answer.
fn text(answer: &Value, place: &str) -> Result<String, Refusal> {
    let found = answer.pointer(place).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Refusal::Answer(format!("its answer has no {place}")))
}

/// A name that the server takes: letters, digits and `_-. /`, at most 250 of them.
fn metric_key(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-. /".contains(letter);
    name.chars().take(KEY_CHARS_MAX).map(|letter| if allowed(letter) { letter } else { '_' }).collect()
}

fn cut(value: &str, chars_max: usize) -> String {
    value.chars().take(chars_max).collect()
}

/// The server's limits on one `log-batch` (1 MB in all: names of 250 and values of 6,000 stay below it) and on lengths.
const METRICS_PER_BATCH: usize = 1_000;
const PARAMS_PER_BATCH: usize = 100;
const KEY_CHARS_MAX: usize = 250;
const PARAM_CHARS_MAX: usize = 6_000;
/// Metrics kept while the server is away; the oldest go first.
const METRICS_MAX: usize = 50_000;
/// Messages that may wait for the thread.
const MESSAGES_MAX: usize = 1_024;
/// How long a server that is away is left alone.
const RETRY_PAUSE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::{
        io::{self, BufRead, BufReader, Read, Write},
        net::{TcpListener, TcpStream},
        sync::{Arc, Mutex, PoisonError},
    };

    use super::*;

    #[test]
    fn names_and_values_are_cut_to_what_the_server_takes() {
        assert_eq!(metric_key("test/a b#1"), "test/a b_1");
        assert_eq!(metric_key(&"x".repeat(300)).len(), KEY_CHARS_MAX);
        assert_eq!(cut(&"é".repeat(7_000), PARAM_CHARS_MAX).chars().count(), PARAM_CHARS_MAX);
    }

    /// What a server was asked: paths and bodies.
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// A server that answers like MLflow once it has refused so many questions, and remembers what it was asked.
    fn serve(refusals: usize) -> io::Result<(String, Asked)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let asked = Asked::default();
        let memory = Arc::clone(&asked);
        thread::spawn(move || {
            for (turn, stream) in listener.incoming().enumerate() {
                // A connection that broke is the client's to complain about.
                let _ = stream.and_then(|stream| answer(stream, turn < refusals, &memory));
            }
        });
        Ok((format!("http://{address}"), asked))
    }

    fn answer(mut stream: TcpStream, refused: bool, asked: &Asked) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line)? > 2 {
            head.push_str(&line.to_lowercase());
            line.clear();
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let said = match path.rsplit('/').next().unwrap_or_default() {
            "create" => {
                json!({ "run": { "info": { "run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts" } } })
            }
            name if name.starts_with("get-by-name") => json!({ "experiment": { "experiment_id": "7" } }),
            _ => json!({}),
        };
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        asked.lock().unwrap_or_else(PoisonError::into_inner).push((path, body));
        let (status, said) = (if refused { "503 Service Unavailable" } else { "200 OK" }, said.to_string());
        let length = said.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{said}")
    }

    #[test]
    fn batches_stay_within_the_servers_limits_and_a_refusal_is_tried_again() {
        let (url, asked) = serve(1).unwrap();
        let params: Vec<_> = (0..250).map(|n| (format!("p{n}"), "v".repeat(7_000))).collect();
        let mut run = Mlflow::begin(&url, "e", &params, &[]);
        let row = |step| MetricRow { epoch: 1, step, name: "loss".to_owned(), value: 1.0 };
        run.tell(Timestamp::from_micros(0), &(0..2_500).map(row).collect::<Vec<_>>());
        let said = run.finish(Ok("v0001".to_owned()), vec![("report.html", b"<p>".to_vec())]);
        assert!(said.ends_with("/#/experiments/7/runs/r1"), "{said}");
        let asked = asked.lock().unwrap();
        let counts = |field: &str| -> Vec<usize> {
            let lists = asked.iter().filter(|(path, _)| path.ends_with("runs/log-batch"));
            lists.filter_map(|(_, body)| body[field].as_array().map(Vec::len)).collect()
        };
        assert_eq!((counts("metrics"), counts("params")), (vec![1_000, 1_000, 500], vec![100, 100, 50]));
        assert!(asked.iter().all(|(_, body)| body.to_string().len() < 1_000_000));
        let longest = asked.iter().filter_map(|(_, body)| body["params"][0]["value"].as_str()).map(str::len).max();
        assert_eq!(longest, Some(PARAM_CHARS_MAX));
        let paths: Vec<&str> = asked.iter().map(|(path, _)| path.as_str()).collect();
        assert!(paths[0].contains("get-by-name") && paths[1] == paths[0], "asked again: {paths:?}");
        assert!(paths.contains(&"/api/2.0/mlflow-artifacts/artifacts/7/r1/artifacts/report.html"), "{paths:?}");
        assert_eq!(asked.last().map(|(_, body)| &body["status"]), Some(&"FINISHED".into()));
    }

    #[test]
    fn a_server_that_is_away_is_reported_and_what_was_not_sent_is_counted() {
        // Port 1 is reserved and nothing listens there.
        let mut run = Mlflow::begin("http://127.0.0.1:1", "e", &[("a".to_owned(), "1".to_owned())], &[]);
        let row = |value| MetricRow { epoch: 1, step: 1, name: "loss".to_owned(), value };
        run.tell(Timestamp::from_micros(0), &[row(1.0), row(2.0), row(f64::NAN)]);
        let said = run.finish(Ok("v0001".to_owned()), Vec::new());
        assert!(said.contains("incomplete, 2 metrics were not sent"), "{said}");
    }
}
