//! A whole cluster on this machine: origin, predictor and one node per region, each a process of its own.

mod cache_size;
mod plan;
mod process;

use std::{fs, future::Future, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use futures::future::join_all;
use serde::Serialize;
use tokio::time::sleep;

use self::plan::{Plan, Upstream};
pub(crate) use self::{cache_size::CacheSize, plan::UpConfig, process::Process};
use crate::load::{Access, Http};

/// Where everything is; also the file `cluster.json`, schema `nearcast.cluster/1`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterDocument {
    schema: &'static str,
    pub(crate) origin: String,
    pub(crate) predictor: PredictorPlace,
    pub(crate) nodes: Vec<NodePlace>,
    /// Log seconds per second that round trips and the engine are set up for.
    pub(crate) speed: f64,
    /// The log that the origin serves.
    pub(crate) log: String,
    /// The folder with configurations, logs and this document.
    pub(crate) dir: PathBuf,
}

/// Where the predictor is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PredictorPlace {
    pub(crate) grpc: String,
    pub(crate) http: String,
}

/// Where a node is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodePlace {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) url: String,
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) document: ClusterDocument,
    processes: Vec<Process>,
}

impl Cluster {
    /// Starts everything and waits until every node is connected to the predictor. What was started is ended again when
    /// something fails.
    pub(crate) async fn start(config: UpConfig) -> anyhow::Result<Self> {
        let plan = tokio::task::spawn_blocking(|| Plan::make(config)).await??;
        let mut processes = Vec::new();
        match start_all(&plan, &mut processes).await {
            Ok(document) => Ok(Self { document, processes }),
            Err(error) => {
                stop_all(processes).await;
                Err(error)
            }
        }
    }

    /// Watches over the processes until `shutdown` resolves, telling `report` of each that dies. Returns how many did:
    /// the others go on without it, as they would in production.
    pub(crate) async fn watch(&mut self, shutdown: impl Future<Output = ()>, report: impl Fn(&str)) -> usize {
        let mut died = 0;
        let watch = async {
            loop {
                let mut index = 0;
                while index < self.processes.len() {
                    match self.processes[index].try_wait() {
                        None => index += 1,
                        Some(status) => {
                            let mut dead = self.processes.remove(index);
                            report(&dead.obituary(Some(status)).await);
                            died += 1;
                        }
                    }
                }
                sleep(LOOK_PAUSE).await;
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = watch => {}
        }
        died
    }

    /// Ends every process: nodes first, so that their last reports find a predictor. Names those that did not end well.
    pub(crate) async fn stop(self) -> Vec<String> {
        stop_all(self.processes).await
    }
}

async fn stop_all(mut processes: Vec<Process>) -> Vec<String> {
    let nodes = processes.split_off(processes.len().min(SERVICES));
    let mut unwell = Vec::new();
    for group in [nodes, processes] {
        let stops = group.into_iter().map(|process| async {
            let name = process.name().to_owned();
            (!process.stop().await).then_some(name)
        });
        unwell.extend(join_all(stops).await.into_iter().flatten());
    }
    unwell
}

/// The origin and the predictor come first in the list of processes.
const SERVICES: usize = 2;

async fn start_all(plan: &Plan, processes: &mut Vec<Process>) -> anyhow::Result<ClusterDocument> {
    let logs = plan.logs();
    let predictor_file = plan.write_predictor(ANY_PORT, ANY_PORT)?;
    processes.push(Process::start("origin", &["origin", &plan.log, "--listen", ANY_PORT], &logs)?);
    processes.push(Process::start("predictor", &["predictor", "-c", text(&predictor_file)?], &logs)?);
    let origin = processes[0].ready().await?;
    let predictor = predictor_place(&processes[1].ready().await?)?;
    // From now on it can be ended and started by hand, and nodes find it again.
    plan.write_predictor(address(&predictor.grpc), address(&predictor.http))?;
    let upstream = Upstream { origin: origin.clone(), predictor: predictor.grpc.clone() };
    for region in &plan.regions {
        let file = plan.write_node(region, ANY_PORT, &upstream)?;
        processes.push(Process::start(region, &["node", "-c", text(&file)?], &logs)?);
    }
    let mut nodes = Vec::new();
    for (region, process) in plan.regions.iter().zip(&mut processes[SERVICES..]) {
        let url = process.ready().await?;
        plan.write_node(region, address(&url), &upstream)?;
        nodes.push(NodePlace { name: region.clone(), region: region.clone(), url });
    }
    let document = ClusterDocument {
        schema: "nearcast.cluster/1",
        origin,
        predictor,
        nodes,
        speed: plan.speed,
        log: plan.log.clone(),
        dir: plan.dir.clone(),
    };
    wait_for_nodes(&document).await?;
    let file = plan.dir.join("cluster.json");
    fs::write(&file, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(document)
}

/// The predictor's line is `http://… grpc http://…`.
fn predictor_place(line: &str) -> anyhow::Result<PredictorPlace> {
    let (http, grpc) = line.split_once(" grpc ").with_context(|| format!("`{line}` names no gRPC address"))?;
    Ok(PredictorPlace { grpc: grpc.to_owned(), http: http.to_owned() })
}

/// Waits until the predictor sees every node.
async fn wait_for_nodes(document: &ClusterDocument) -> anyhow::Result<()> {
    let http = Http::new(&Access::default())?;
    let url = format!("{}/status", document.predictor.http);
    for _ in 0..CONNECT_TRIES {
        let status: serde_json::Value = http.json(&url).await.unwrap_or_default();
        let alive = status["nodes"].as_array().into_iter().flatten().filter(|node| node["alive"] == true).count();
        if alive == document.nodes.len() {
            return Ok(());
        }
        sleep(LOOK_PAUSE).await;
    }
    bail!("not every node has found the predictor in time; see {}", document.dir.join("logs").display())
}

/// `host:port` of a URL.
fn address(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

fn text(path: &std::path::Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Any free port of this machine only.
const ANY_PORT: &str = "127.0.0.1:0";
/// Pause between looks at the processes.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Thirty seconds.
const CONNECT_TRIES: u32 = 300;
