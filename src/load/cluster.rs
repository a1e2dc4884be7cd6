//! Who is played against: nodes by region, and the origin and predictor behind them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nearcast_datasets::{Map, Set};
use serde::Deserialize;

use super::http::Http;

/// Where the user says that the cluster is.
#[derive(Clone, Debug, Default)]
pub(crate) struct To {
    /// A `cluster.json`, or nodes as `http://…` or `region=http://…`.
    pub(crate) places: Vec<String>,
    /// The predictor's gRPC address; goes before the file's.
    pub(crate) predictor: Option<String>,
    /// The origin's address; goes before the file's.
    pub(crate) origin: Option<String>,
}

/// A running cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// The origin, if it is known.
    pub(crate) origin: Option<String>,
    /// The predictor's gRPC address, if it is known.
    pub(crate) predictor: Option<String>,
    /// Log seconds per second that the cluster was set up for.
    pub(crate) speed: Option<f64>,
    by_region: Map<String, Vec<usize>>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Its region.
    pub(crate) region: String,
    /// Its address, `http://host:port`.
    pub(crate) url: String,
}

/// The file that `nearcast up` writes.
#[derive(Debug, Deserialize)]
struct ClusterFile {
    schema: String,
    origin: Option<String>,
    predictor: Option<PredictorFile>,
    nodes: Vec<Node>,
    speed: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct PredictorFile {
    grpc: String,
}

/// What a node says about itself, as far as it matters here.
#[derive(Debug, Deserialize)]
struct NodeStatus {
    node: String,
    region: String,
}

impl Cluster {
    /// Reads the cluster file, or asks the nodes for their names and regions.
    pub(crate) async fn find(to: &To, http: &Http) -> anyhow::Result<Self> {
        let is_url = |place: &String| place.contains("://");
        let mut cluster = match to.places.as_slice() {
            [] => bail!("no node to play against: name a cluster.json or URLs with --to"),
            [file] if !is_url(file) => Self::read(&cluster_path(file))?,
            places if places.iter().all(is_url) => {
                let mut nodes = Vec::new();
                for place in places {
                    nodes.push(ask(place, http).await?);
                }
                Self { nodes, ..Self::default() }
            }
            _ => bail!("--to takes one cluster.json, or URLs of nodes, not both"),
        };
        cluster.origin = to.origin.as_deref().map(bare).or(cluster.origin);
        cluster.predictor = to.predictor.as_deref().map(bare).or(cluster.predictor);
        for (index, node) in cluster.nodes.iter().enumerate() {
            cluster.by_region.entry(node.region.clone()).or_default().push(index);
        }
        Ok(cluster)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let place = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {place}; is `nearcast up` running?"))?;
        let file: ClusterFile =
            serde_json::from_str(&text).with_context(|| format!("{place} does not describe a cluster"))?;
        ensure!(file.schema == SCHEMA, "{place} has schema \"{}\", expected \"{SCHEMA}\"", file.schema);
        ensure!(!file.nodes.is_empty(), "{place} names no node");
        let names = file.nodes.iter().map(|node| node.name.as_str()).collect::<Set<_>>().len();
        ensure!(names == file.nodes.len(), "{place} names a node twice");
        let nodes = file.nodes.into_iter().map(|node| Node { url: bare(&node.url), ..node }).collect();
        Ok(Self {
            nodes,
            origin: file.origin.as_deref().map(bare),
            predictor: file.predictor.map(|predictor| predictor.grpc),
            speed: file.speed,
            by_region: Map::default(),
        })
    }

    /// The node that a client of a region asks. A region without a node is spread over all of them by client.
    pub(super) fn node_for(&self, region: &str, client: &str) -> usize {
        let hash = blake3::hash(client.as_bytes());
        let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default());
        let pick = |count: usize| usize::try_from(number % count.max(1) as u64).unwrap_or(0);
        match self.by_region.get(region) {
            Some(nodes) => nodes[pick(nodes.len())],
            None => pick(self.nodes.len()),
        }
    }
}

async fn ask(place: &str, http: &Http) -> anyhow::Result<Node> {
    let (region, url) = match place.split_once("=http") {
        Some((region, _)) => (Some(region), &place[region.len() + 1..]),
        None => (None, place),
    };
    let url = bare(url);
    let said = http.json::<NodeStatus>(&format!("{url}/_nearcast/status")).await;
    match (said, region) {
        (Ok(status), region) => {
            Ok(Node { name: status.node, region: region.map_or(status.region, str::to_owned), url })
        }
        // Something else than a node of ours can be played against too, if we are told what it stands for.
        (Err(_), Some(region)) => Ok(Node { name: url.clone(), region: region.to_owned(), url }),
        (Err(error), None) => Err(error).with_context(|| format!("{url} does not say its region; give region={url}")),
    }
}

/// The folder of a cluster stands for the file in it.
fn cluster_path(text: &str) -> PathBuf {
    let path = PathBuf::from(text);
    if path.is_dir() { path.join("cluster.json") } else { path }
}

fn bare(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

const SCHEMA: &str = "nearcast.cluster/1";
