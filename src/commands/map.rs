//! `nearcast map`: who holds a key, who is meant to, and why.

use std::{fmt::Write, process::ExitCode};

use anyhow::Context;
use nearcast_proto::wire::ExplainRequest;
use serde::{Deserialize, Serialize};

use crate::{
    load::{Access, Cluster, Http, To},
    output::Output,
};

/// Arguments of `nearcast map`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The keys, such as `/index.html`.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    predictor: Predictor,
}

/// Which predictor, and how to be let in.
#[derive(Debug, clap::Args)]
pub(super) struct Predictor {
    /// The cluster: the `cluster.json` that `nearcast up` writes, or its folder.
    #[arg(long, value_name = "CLUSTER", required_unless_present = "predictor")]
    to: Option<String>,
    /// The predictor's gRPC address; goes before the cluster file's.
    #[arg(long, value_name = "URL")]
    predictor: Option<String>,
    #[command(flatten)]
    access: Access,
}

const EXAMPLES: &str = "\
A key is placed, with explicit holders, or hashed: then its home node fetches it from the origin for everybody. For each
node it is said whether it holds the key, whether it is meant to and why (a plan, or for being hot), and whether other
nodes are told to ask it, and where it would fetch it from otherwise, after how long (as measured, else as the topology
says); for the key, what its replicas are expected to save until the next plan, and what requests that
they answered would have waited elsewhere.

Examples:
  nearcast map /index.html --to cluster/
  nearcast map /a /b --predictor http://10.0.0.9:7700 --json";

/// What is said of the keys that were asked for.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    keys: Vec<Explained>,
}

/// The predictor's `nearcast.map/1`.
#[derive(Debug, Serialize, Deserialize)]
struct Explained {
    key: String,
    how: String,
    home: Option<String>,
    holders: Vec<String>,
    placement: Option<Placement>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Placement {
    epoch: u64,
    size_bytes: u64,
    nodes: Vec<Holder>,
    expected_saved_seconds: f64,
    uses: u64,
    earned_seconds_at_most: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    name: String,
    connected: bool,
    holds: bool,
    pinned: bool,
    on_map: bool,
    reason: Option<String>,
    expected_saved_seconds: f64,
    next_source: String,
    next_round_trip_ms: f64,
    next_is_measured: bool,
}

impl Predictor {
    /// Where it is, and how it is asked.
    ///
    /// # Errors
    /// When the cluster file does not say, or a file with a token or certificate cannot be used.
    pub(super) async fn find(self) -> anyhow::Result<(String, Http)> {
        let http = Http::new(&self.access)?;
        if let Some(url) = self.predictor {
            return Ok((url, http));
        }
        let to = To { places: self.to.into_iter().collect(), ..To::default() };
        let cluster = Cluster::find(&to, &http).await?;
        let url = cluster.predictor.context("the cluster file names no predictor; name one with --predictor")?;
        Ok((url, http))
    }
}

/// Says who holds keys, who is meant to, and why.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(explain(args))?;
    output.show(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

async fn explain(args: Args) -> anyhow::Result<Report> {
    let (predictor, http) = args.predictor.find().await?;
    let mut control = http.control(&predictor).await?;
    let mut keys = Vec::new();
    for key in args.keys {
        let reply = control.explain(http.order(ExplainRequest { key })?).await;
        let reply = reply.map_err(|status| anyhow::anyhow!("the predictor at {predictor}: {}", status.message()))?;
        let said = reply.into_inner().json;
        keys.push(
            serde_json::from_str(&said).context("the predictor is of a version that this one does not understand")?,
        );
    }
    Ok(Report { schema: "nearcast.map-report/1", keys })
}

fn text(report: &Report) -> String {
    report.keys.iter().map(key_text).collect::<Vec<_>>().join("\n")
}

fn key_text(explained: &Explained) -> String {
    let Explained { key, how, home, holders, placement } = explained;
    let home = home.as_deref().unwrap_or("none: each node asks the origin");
    let mut text = format!("{key}: {how}\n  home while it is hashed: {home}\n");
    let Some(placement) = placement else {
        let _ = writeln!(text, "  held by: {}", list(holders));
        text.push_str("  nothing is placed: the predictor has no [placement]\n");
        return text;
    };
    let _ = writeln!(text, "  {} bytes, map epoch {}", placement.size_bytes, placement.epoch);
    for node in &placement.nodes {
        let why = match node.reason.as_deref() {
            Some("plan") => format!("meant to hold it, expected to save {:.3} s", node.expected_saved_seconds),
            Some("ahead") => {
                format!("on its way for a later time, expected to save {:.3} s", node.expected_saved_seconds)
            }
            Some("link") => "meant to hold it when its link has room".to_owned(),
            Some(reason) => format!("meant to hold it: {reason}"),
            None => "of its own".to_owned(),
        };
        let is = |fact: bool, word: &'static str| fact.then_some(word);
        let facts = [
            is(node.holds, "holds it"),
            is(node.pinned, "keeps it"),
            is(node.on_map, "is asked for it"),
            is(!node.connected, "is away"),
        ];
        let facts: Vec<&str> = facts.into_iter().flatten().collect();
        let there = if facts.is_empty() { "not there yet".to_owned() } else { facts.join(", ") };
        let by = if node.next_is_measured { "measured" } else { "by the topology" };
        let _ = writeln!(
            text,
            "  {}: {why}; {there}; else from {} after {:.1} ms ({by})",
            node.name, node.next_source, node.next_round_trip_ms
        );
    }
    if placement.nodes.is_empty() {
        text.push_str("  no node holds all of it\n");
    }
    let _ = writeln!(
        text,
        "  expected to save {:.3} s until the next plan; {} uses so far have saved at most {:.3} s",
        placement.expected_saved_seconds, placement.uses, placement.earned_seconds_at_most
    );
    text
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_explained_in_words() {
        let said = r#"{"schema":"nearcast.map/1","key":"/a","how":"placed","home":"eu","holders":["eu","us"],"placement":
            {"epoch":7,"size_bytes":10,"expected_saved_seconds":1.5,"uses":3,"earned_seconds_at_most":0.25,"nodes":[
            {"name":"eu","connected":true,"holds":true,"pinned":true,"on_map":true,"reason":"plan","expected_saved_seconds":1.5,
             "next_source":"us","next_round_trip_ms":90.25,"next_is_measured":true},
            {"name":"us","connected":false,"holds":false,"pinned":false,"on_map":false,"reason":"hot","expected_saved_seconds":0.0,
             "next_source":"origin","next_round_trip_ms":30.0,"next_is_measured":false}
            ]}}"#;
        let text = key_text(&serde_json::from_str(said).unwrap());
        for part in [
            "/a: placed",
            "map epoch 7",
            "eu: meant to hold it, expected to save 1.500 s; holds it, keeps it, is asked for it; else from us after 90.2 ms (measured)",
            "us: meant to hold it: hot; is away; else from origin after 30.0 ms (by the topology)",
            "3 uses so far have saved at most 0.250 s",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let hashed = r#"{"key":"/b","how":"hashed","home":null,"holders":[],"placement":null}"#;
        let text = key_text(&serde_json::from_str(hashed).unwrap());
        assert!(text.contains("each node asks the origin") && text.contains("held by: nobody"), "{text}");
    }
}
