//! Having nodes fetch ahead, within bounds, and telling what came of it.

use std::{collections::BTreeMap, fmt::Write, sync::Mutex, time::Duration};

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::{Fleet, Problem, bytes, keys::Keys, status::NodeStatus};
use crate::load::Node;

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Objects at a time, on each node.
    pub(crate) concurrency: usize,
    /// Bytes a second, on all nodes together.
    pub(crate) bytes_per_second: Option<u64>,
}

/// What came of it: the document of `nearcast warm --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    pub(crate) nodes: Vec<NodeReport>,
    /// Nodes that could not be asked.
    pub(crate) failed: Vec<Problem>,
}

/// What came of it on one node.
#[derive(Debug, Default, Serialize)]
pub(crate) struct NodeReport {
    node: String,
    /// Keys that it was to hold.
    keys: usize,
    /// Objects that are all there now, and were not before.
    fetched: u64,
    /// Objects that were all there already.
    held: u64,
    /// Objects that were fetched but not kept.
    not_kept: u64,
    /// Objects that could not be fetched.
    pub(crate) not_fetched: u64,
    /// Keys that were left out because the node would be full.
    left_out: u64,
    fetched_bytes: u64,
    /// Bytes of all the objects that are there now.
    warm_bytes: u64,
    /// Why objects are not there, with how many and one of them; the most frequent reasons.
    pub(crate) problems: Vec<Reason>,
    /// Whether it was ended before all was done.
    pub(crate) is_interrupted: bool,
}

/// Why some objects are not there.
#[derive(Debug, Serialize)]
pub(crate) struct Reason {
    reason: String,
    objects: u64,
    example: String,
}

/// What a node answers.
#[derive(Debug, Deserialize)]
struct Answer {
    objects: Vec<ObjectAnswer>,
}

#[derive(Debug, Deserialize)]
struct ObjectAnswer {
    key: String,
    outcome: String,
    size: u64,
    fetched_bytes: u64,
    detail: Option<String>,
}

/// A node at work.
struct Work<'a> {
    fleet: &'a Fleet,
    node: Node,
    capacity_bytes: u64,
    bytes_per_second: Option<u64>,
    state: Mutex<State>,
}

struct State {
    keys: std::vec::IntoIter<String>,
    report: NodeReport,
    reasons: BTreeMap<String, (u64, String)>,
}

/// Has every node fetch the keys that `keys_for` names for its region, until `stop`. `progress` is told how many keys
/// there are more to do, and how many are done.
pub(crate) async fn warm(
    fleet: &Fleet,
    pace: Pace,
    keys_for: impl Fn(&str) -> anyhow::Result<Keys>,
    stop: impl Future<Output = ()>,
    progress: impl Fn(u64, u64),
) -> anyhow::Result<Report> {
    let (mut works, mut failed) = (Vec::new(), Vec::new());
    let transfers = pace.concurrency * fleet.nodes.len();
    for (mut node, answer) in fleet.ask::<NodeStatus>("/_nearcast/status", PATIENCE).await {
        match answer {
            Ok(status) => {
                let (name, region) = status.name();
                name.clone_into(&mut node.name);
                let keys = keys_for(region)?;
                progress(keys.len() as u64, 0);
                works.push(Work {
                    fleet,
                    capacity_bytes: status.capacity_bytes(),
                    bytes_per_second: pace.bytes_per_second.map(|rate| (rate / transfers.max(1) as u64).max(1)),
                    state: Mutex::new(State {
                        report: NodeReport { node: node.name.clone(), keys: keys.len(), ..NodeReport::default() },
                        keys: keys.into_iter(),
                        reasons: BTreeMap::new(),
                    }),
                    node,
                });
            }
            Err(problem) => failed.push(problem),
        }
    }
    let working = works.iter().flat_map(|work| (0..pace.concurrency).map(|_| work.run(&progress)));
    let is_interrupted = tokio::select! {
        _ = join_all(working) => false,
        () = stop => true,
    };
    let mut nodes = Vec::new();
    for work in works {
        let (report, problem) = work.end(is_interrupted);
        failed.extend(problem);
        nodes.push(report);
    }
    Ok(Report { schema: "nearcast.warm-report/1", nodes, failed })
}

impl Work<'_> {
    /// Takes one key after the other, until none is left.
    async fn run(&self, progress: &impl Fn(u64, u64)) {
        let url = format!("{}/_nearcast/warm", self.node.url);
        while let Some(key) = self.next() {
            let order = serde_json::json!({ "keys": [key], "bytes_per_second": self.bytes_per_second });
            let body = order.to_string().into_bytes();
            let answer = self.fleet.http.post_json_within::<Answer>(&url, body, OBJECT_PATIENCE);
            match answer.await {
                Ok(answer) => answer.objects.into_iter().for_each(|object| self.note(object)),
                Err(error) => {
                    let detail = Some(format!("{error:#}"));
                    self.note(ObjectAnswer { key, outcome: "failed".to_owned(), size: 0, fetched_bytes: 0, detail });
                }
            }
            progress(0, 1);
        }
    }

    /// The next key; none once the node would be full: what is fetched beyond would push out what was fetched before.
    fn next(&self) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.report.warm_bytes >= self.capacity_bytes {
            state.report.left_out += state.keys.by_ref().count() as u64;
            return None;
        }
        state.keys.next()
    }

    fn note(&self, object: ObjectAnswer) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let report = &mut state.report;
        report.fetched_bytes += object.fetched_bytes;
        match object.outcome.as_str() {
            "fetched" => report.fetched += 1,
            "held" => report.held += 1,
            "not_kept" => report.not_kept += 1,
            _ => report.not_fetched += 1,
        }
        if matches!(object.outcome.as_str(), "fetched" | "held") {
            report.warm_bytes += object.size;
        } else {
            let reason = object.detail.unwrap_or(object.outcome).replace(&object.key, "KEY");
            state.reasons.entry(reason).or_insert((0, object.key)).0 += 1;
        }
    }

    fn end(self, is_interrupted: bool) -> (NodeReport, Option<Problem>) {
        let mut state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let reasons = std::mem::take(&mut state.reasons).into_iter();
        let mut problems: Vec<Reason> =
            reasons.map(|(reason, (objects, example))| Reason { reason, objects, example }).collect();
        problems.sort_by_key(|reason| std::cmp::Reverse(reason.objects));
        problems.truncate(REASONS_MAX);
        let report = NodeReport { problems, is_interrupted, ..state.report };
        // A node that refuses or has gone away fails as a whole, not key by key.
        let is_all = report.not_fetched > 0 && report.not_fetched as usize == report.keys;
        let refusal = report.problems.first().filter(|reason| is_all && reason.reason.contains("/_nearcast/warm"));
        let problem = refusal.map(|reason| Problem::new(&self.node, &anyhow::anyhow!("{}", reason.reason)));
        (report, problem)
    }
}

impl Report {
    /// Whether every node was asked and nothing failed.
    pub(crate) fn is_whole(&self) -> bool {
        self.failed.is_empty() && self.nodes.iter().all(|node| node.not_fetched == 0 && !node.is_interrupted)
    }

    /// As lines.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        for node in &self.nodes {
            let NodeReport { fetched, held, not_kept, not_fetched, left_out, .. } = node;
            let _ = write!(
                text,
                "{}: {fetched} fetched ({}), {held} held already",
                node.node,
                bytes(node.fetched_bytes as f64)
            );
            for (count, words) in [
                (not_kept, "fetched but not kept"),
                (not_fetched, "FAILED"),
                (left_out, "left out because the node would be full"),
            ] {
                if *count > 0 {
                    let _ = write!(text, ", {count} {words}");
                }
            }
            let _ = writeln!(text, "{}", if node.is_interrupted { "; ended early" } else { "" });
            for Reason { reason, objects, example } in &node.problems {
                let _ = writeln!(text, "  {objects} such as {example}: {reason}");
            }
        }
        self.failed.iter().for_each(|problem| _ = writeln!(text, "{}", problem.text()));
        text
    }
}

/// Reasons that are told.
const REASONS_MAX: usize = 10;
/// For a node to say how it does.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one object, however large.
const OBJECT_PATIENCE: Duration = Duration::from_secs(3_600);
