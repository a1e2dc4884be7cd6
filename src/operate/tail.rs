//! Requests of several nodes as they end.

use std::io::{self, Write};

use anyhow::{Context, bail};
use clap::ValueEnum;
use http_body_util::BodyExt;
use nearcast_cache_node::line::RequestLine;
use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Fleet, Problem, bytes, top::printable};
use crate::{load::Node, output};

/// How a request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The combined format of Apache and nginx, with outcome, cause and time behind it.
    Combined,
    /// A JSON object a line.
    Json,
    /// A line for people.
    Line,
}

/// What a node tells.
enum Told {
    /// It has ended, or cannot be followed.
    Ended(Problem),
    /// It had more requests than could be read.
    Lost(String, u64),
    Request(Box<RequestLine>),
}

/// A line of a node.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Request(Box<RequestLine>),
    Lost { lost: u64 },
    Hello { schema: String },
}

/// Follows all nodes until `stop`, until so many requests were shown, or until no node is left. Returns the nodes that
/// could not be followed to the end.
pub(crate) async fn follow(
    fleet: &Fleet,
    query: &str,
    format: Format,
    count: Option<u64>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Vec<Problem>> {
    let (sender, mut told) = mpsc::channel(LINES_MAX);
    // Dropped at the end, which ends them.
    let mut followers = JoinSet::new();
    for node in fleet.nodes.clone() {
        let (fleet, sender, query) = (fleet.clone(), sender.clone(), query.to_owned());
        followers.spawn(async move {
            if let Err(error) = follow_one(&fleet, &node, &query, &sender).await {
                let _ = sender.send(Told::Ended(Problem::new(&node, &error))).await;
            }
        });
    }
    drop(sender);
    tokio::pin!(stop);
    let (mut shown, mut problems, mut buffer) = (0, Vec::new(), Vec::new());
    if format == Format::Json {
        let names: Vec<_> = fleet.nodes.iter().map(|node| &node.name).collect();
        let hello = serde_json::json!({ "schema": "nearcast.tail/1", "nodes": names });
        buffer.extend_from_slice(format!("{hello}\n").as_bytes());
    }
    while count.is_none_or(|count| shown < count) {
        if !print(&mut buffer)? {
            break;
        }
        let next = tokio::select! {
            next = told.recv() => next,
            () = &mut stop => break,
        };
        match next {
            None => break,
            Some(Told::Ended(problem)) => {
                output::note(&problem.text());
                problems.push(problem);
            }
            Some(Told::Lost(node, lost)) => output::note(&format!("{node}: {lost} requests were too many to follow")),
            Some(Told::Request(line)) => {
                shown += 1;
                match format {
                    Format::Combined => line.write_combined(true, &mut buffer),
                    Format::Json => line.write_json(&mut buffer),
                    Format::Line => buffer.extend_from_slice(for_people(&line).as_bytes()),
                }
            }
        }
    }
    print(&mut buffer)?;
    Ok(problems)
}

async fn follow_one(fleet: &Fleet, node: &Node, query: &str, sender: &mpsc::Sender<Told>) -> anyhow::Result<()> {
    let url = format!("{}/_nearcast/tail?{query}", node.url);
    let mut body = fleet.http.open(&url).await?;
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.with_context(|| format!("{url} broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = serde_json::from_slice(&line).with_context(|| format!("{url} sends what is no line"))?;
            let told = match line {
                Line::Request(line) => Told::Request(line),
                Line::Lost { lost: 0 } => continue,
                Line::Lost { lost } => Told::Lost(node.name.clone(), lost),
                Line::Hello { schema } if schema == SCHEMA => continue,
                Line::Hello { schema } => bail!("{url} has schema \"{schema}\", expected \"{SCHEMA}\""),
            };
            if sender.send(told).await.is_err() {
                return Ok(());
            }
        }
        if text.len() > LINE_BYTES_MAX {
            bail!("{url} sends a line above {LINE_BYTES_MAX} bytes");
        }
    }
    bail!("the node has ended")
}

/// Writes what is in the buffer; false when nobody reads any more, which is no error.
fn print(buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(buffer).and_then(|()| stdout.flush());
    buffer.clear();
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

fn for_people(line: &RequestLine) -> String {
    let time = line.time.split_once('T').map_or(line.time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let answered = match &line.cause {
        Some(cause) => format!("{}:{cause}", line.outcome),
        None => line.outcome.to_string(),
    };
    let target: String = line.target.chars().flat_map(printable).collect();
    let client: String = line.client.chars().flat_map(printable).collect();
    let millis = line.latency_us as f64 / 1e3;
    format!(
        "{:<15.15} {:<10} {:<16} {} {:>10} {millis:>9.2} ms {:<22} {} {target}\n",
        time,
        line.node,
        client,
        line.status,
        bytes(line.bytes as f64),
        answered,
        line.method,
    )
}

const SCHEMA: &str = "nearcast.tail/1";
/// Lines that wait to be printed.
const LINES_MAX: usize = 1_024;
const LINE_BYTES_MAX: usize = 1 << 20;
