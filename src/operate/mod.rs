//! What operators do with running nodes: look at them, follow their requests, have them fetch ahead.
//!
//! | file | concern |
//! | --- | --- |
//! | `status` | what a node says about itself |
//! | `stat` | readings of it: counts, rates and ratios, by node and in all |
//! | `stat_text` | their tables |
//! | `top` | the hottest names of several nodes, put together |
//! | `tail` | requests of several nodes as they end |
//! | `warm` | having nodes fetch ahead |
//! | `keys` | which keys: from a list or from a log |

pub(crate) mod keys;
pub(crate) mod stat;
mod stat_text;
mod status;
pub(crate) mod tail;
pub(crate) mod top;
pub(crate) mod warm;

use std::time::Duration;

use anyhow::ensure;
use comfy_table::{CellAlignment, Table, TableComponent, presets};
use futures::future::join_all;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    load::{Access, Cluster, Http, Node, To},
    up::CacheSize,
};

/// Which nodes, and how to be let in.
#[derive(Debug, clap::Args)]
pub(crate) struct Nodes {
    /// The cluster: the `cluster.json` that `nearcast up` writes, or URLs of nodes.
    #[arg(long, required = true, num_args = 1.., value_name = "CLUSTER|URL")]
    to: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Nodes {
    /// Where they are said to be.
    pub(crate) fn places(&self) -> &[String] {
        &self.to
    }

    /// How they are asked.
    ///
    /// # Errors
    /// When a file with a token or certificate cannot be used.
    pub(crate) fn http(&self) -> anyhow::Result<Http> {
        Http::new(&self.access)
    }
}

/// The nodes, found.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    pub(crate) http: Http,
}

/// A node that did not do what it was asked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Problem {
    /// Its name, or its URL as long as it has not told its name.
    pub(crate) node: String,
    url: String,
    problem: String,
}

impl Fleet {
    /// Finds the nodes. Nobody is asked yet: a node that is away is a problem of its own.
    pub(crate) async fn find(nodes: &Nodes) -> anyhow::Result<Self> {
        let http = nodes.http()?;
        let nodes = if nodes.to.iter().all(|place| place.contains("://")) {
            nodes.to.iter().map(|place| unnamed(place)).collect()
        } else {
            Cluster::find(&To { places: nodes.to.clone(), ..To::default() }, &http).await?.nodes
        };
        ensure!(!nodes.is_empty(), "no node: name a cluster.json or URLs with --to");
        Ok(Self { nodes, http })
    }

    /// Asks every node for a document, all at once.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        within: Duration,
    ) -> Vec<(Node, Result<T, Problem>)> {
        let asked = self.nodes.iter().map(|node| async move {
            let answer = self.http.json_within(&format!("{}{path}", node.url), within).await;
            (node.clone(), answer.map_err(|error| Problem::new(node, &error)))
        });
        join_all(asked).await
    }
}

impl Problem {
    /// What went wrong with a node, and what to try where that is known.
    pub(crate) fn new(node: &Node, error: &anyhow::Error) -> Self {
        let mut problem = format!("{error:#}");
        if problem.contains("401") {
            problem.push_str("; give its token with --token-file, or a peer's certificate with --client-certificate");
        } else if problem.contains("404") {
            problem.push_str("; is it a node of this version?");
        }
        Self { node: node.name.clone(), url: node.url.clone(), problem }
    }

    /// One line about it.
    pub(crate) fn text(&self) -> String {
        format!("{}: FAILED, {}", self.node, self.problem)
    }
}

/// A node of which only the address is known. A region before the address is for other commands.
fn unnamed(place: &str) -> Node {
    let url = place.split_once("=http").map_or(place, |(region, _)| &place[region.len() + 1..]).trim_end_matches('/');
    Node { name: url.to_owned(), region: String::new(), url: url.to_owned() }
}

/// A table whose numbers stand under each other.
fn table(header: impl IntoIterator<Item = impl Into<String>>) -> Table {
    let mut table = Table::new();
    let header: Vec<String> = header.into_iter().map(Into::into).collect();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// A share of something, where there is something.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}", share * 100.0))
}

fn bytes(count: f64) -> String {
    indicatif::BinaryBytes(count.max(0.0) as u64).to_string()
}

/// Reads a length of time: `50ms`, `2s`, `5m`, or seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let factor = match text[end..].trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => f64::NAN,
    };
    let seconds = text[..end].parse::<f64>().unwrap_or(f64::NAN) * factor;
    let is_sound = (0.000_001..=SECONDS_MAX).contains(&seconds);
    is_sound.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| format!("`{text}` is no time such as 50ms or 2s"))
}

/// Reads a number of bytes: `20MiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<CacheSize>()? {
        CacheSize::Bytes(bytes) => Ok(bytes),
        CacheSize::Share(_) => Err(format!("`{text}` is no size such as 20MiB")),
    }
}

const SECONDS_MAX: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_people_write_them() {
        for (text, millis) in [("50ms", 50), ("2s", 2_000), ("0.5", 500), ("2 m", 120_000)] {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "x", "0", "-1s", "5 parsecs", "1e9h", "nan"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!((size("20MiB"), size("0.5").is_err()), (Ok(20 << 20), true));
    }

    #[test]
    fn a_node_goes_by_its_address_until_it_tells_its_name() {
        assert_eq!(unnamed("http://a:1/").name, "http://a:1");
        assert_eq!(unnamed("eu=http://a:1").url, "http://a:1");
    }
}
