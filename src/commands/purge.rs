//! `nearcast purge`: makes nodes forget objects.

use std::{fmt::Write, process::ExitCode};

use anyhow::ensure;
use nearcast_datasets::Map;
use nearcast_proto::{
    convert::BATCH_ENTRIES_MAX,
    wire::{self, NodePurge},
};
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::{
    load::{Cluster, Http, Node, To},
    operate::Nodes,
    output::{Output, note},
};

/// Arguments of `nearcast purge`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// An object, with all its variants.
    #[arg(long = "key", value_name = "KEY", required_unless_present_any = ["prefixes", "tags"])]
    keys: Vec<String>,
    /// Everything whose key begins so, character by character.
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// Everything whose `Surrogate-Key` or `Cache-Tag` has this tag.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only make it stale: the origin is asked before it is served, and it may stand in while the origin is away.
    #[arg(long)]
    soft: bool,
    /// The predictor's gRPC address; goes before the cluster file's.
    #[arg(long, value_name = "URL")]
    predictor: Option<String>,
}

const EXAMPLES: &str = "\
Once this ends well, no node that can be reached serves what it held of that, also after a crash. Ordered through a
predictor, it also reaches the nodes that are away: they hear of it before they serve again what they hold. Without a
predictor, nodes that cannot be reached are named, and the exit code is 1.

Examples:
  nearcast purge --to cluster/cluster.json --key /index.html
  nearcast purge --to http://10.0.0.1:8101 --predictor http://10.0.0.9:7700 --tag product-17 --soft
  nearcast purge --to cluster/ --prefix /images/ --prefix /css/ --token-file admin.token --json";

#[derive(Clone, Debug, Default, Serialize)]
struct Order {
    keys: Vec<String>,
    prefixes: Vec<String>,
    tags: Vec<String>,
    soft: bool,
}

#[derive(Debug, Deserialize)]
struct Answer {
    objects: u64,
}

/// What came of it, by node.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    objects: u64,
    /// The purge's place in the predictor's log; `None` when there is no predictor.
    epoch: Option<u64>,
    nodes: Vec<Purged>,
}

#[derive(Debug, Serialize)]
struct Purged {
    node: String,
    url: String,
    /// Objects that were held; `None` when it has not purged.
    objects: Option<u64>,
    /// Whether it will purge before it serves again what it holds.
    is_noted: bool,
    problem: Option<String>,
}

/// Makes nodes forget objects.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let http = args.nodes.http()?;
    let order = Order { keys: args.keys, prefixes: args.prefixes, tags: args.tags, soft: args.soft };
    let to = To { places: args.nodes.places().to_vec(), predictor: args.predictor, ..To::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(purge(&to, &order, &http))?;
    output.show(&report, text)?;
    let is_whole = report.nodes.iter().all(|purged| purged.objects.is_some() || purged.is_noted);
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn purge(to: &To, order: &Order, http: &Http) -> anyhow::Result<Report> {
    let cluster = Cluster::find(to, http).await?;
    let noted = match &cluster.predictor {
        Some(predictor) => write_down(predictor, order, http).await?,
        None => None,
    };
    let Noted { epoch, nodes: by_name } = noted.unwrap_or_default();
    let mut nodes = cluster.nodes;
    for (name, progress) in &by_name {
        if !nodes.iter().any(|node| node.name == *name) {
            nodes.push(Node { name: name.clone(), region: progress.region.clone(), url: progress.url.clone() });
        }
    }
    let order = serde_json::to_vec(order)?;
    let asked = nodes.into_iter().map(|node| {
        let (http, order, progress) = (http.clone(), order.clone(), by_name.get(&node.name));
        async move {
            let Node { name, url, .. } = node;
            if let Some(objects) = progress.and_then(|progress| progress.objects) {
                return Purged { node: name, url, objects: Some(objects), is_noted: true, problem: None };
            }
            // It has no predictor, or does not hear it now.
            let answer = http.post_json::<Answer>(&format!("{url}/_nearcast/purge"), order).await;
            let (objects, problem) = match answer {
                Ok(Answer { objects }) => (Some(objects), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            let is_noted = progress.is_some_and(|progress| !progress.is_connected);
            Purged { node: name, url, objects, is_noted, problem }
        }
    });
    let nodes = futures::future::join_all(asked).await;
    let objects = nodes.iter().filter_map(|purged| purged.objects).sum();
    Ok(Report { schema: "nearcast.purge-report/2", objects, epoch, nodes })
}

/// What the predictor has written down.
#[derive(Debug, Default)]
struct Noted {
    epoch: Option<u64>,
    nodes: Map<String, Progress>,
}

/// How far a node is with it.
#[derive(Debug)]
struct Progress {
    url: String,
    region: String,
    is_connected: bool,
    objects: Option<u64>,
}

/// Orders the purge from the predictor; `None` when that cannot be reached.
async fn write_down(predictor: &str, order: &Order, http: &Http) -> anyhow::Result<Option<Noted>> {
    let mut control = match http.control(predictor).await {
        Ok(control) => control,
        Err(error) => {
            note(&format!("{error:#}: nodes that are away now will not hear of this purge"));
            return Ok(None);
        }
    };
    let mut noted = Noted::default();
    for part in order.parts() {
        let Order { keys, prefixes, tags, soft } = part;
        let purge = Some(wire::Purge { epoch: 0, keys, prefixes, tags, soft });
        let request = http.order(wire::PurgeRequest { purge, wait_ms: WAIT_MS })?;
        let reply = control.purge(request).await.map_err(|status| match status.code() {
            Code::Unauthenticated => anyhow::anyhow!("{}: name its file with --token-file", status.message()),
            _ => anyhow::anyhow!("the predictor at {predictor} refuses the purge: {}", status.message()),
        });
        let reply = reply?.into_inner();
        noted.add(reply.epoch, reply.nodes);
    }
    ensure!(noted.epoch.is_some(), "nothing to purge: give at least one of --key, --prefix and --tag");
    Ok(Some(noted))
}

impl Noted {
    fn add(&mut self, epoch: u64, nodes: Vec<NodePurge>) {
        self.epoch = Some(epoch);
        for NodePurge { node, objects } in nodes {
            let Some(node) = node else { continue };
            let fresh = Progress { url: node.url, region: node.region, is_connected: node.alive, objects: Some(0) };
            let progress = self.nodes.entry(node.node).or_insert(fresh);
            progress.is_connected = node.alive;
            progress.objects = progress.objects.zip(objects).map(|(before, more)| before + more);
        }
    }
}

impl Order {
    /// Purges that are small enough for one message.
    fn parts(&self) -> Vec<Self> {
        let soft = self.soft;
        let part = |keys: &[String], prefixes: &[String], tags: &[String]| Self {
            keys: keys.to_vec(),
            prefixes: prefixes.to_vec(),
            tags: tags.to_vec(),
            soft,
        };
        if self.keys.len() + self.prefixes.len() + self.tags.len() <= BATCH_ENTRIES_MAX {
            return vec![part(&self.keys, &self.prefixes, &self.tags)];
        }
        let keys = self.keys.chunks(BATCH_ENTRIES_MAX).map(|keys| part(keys, &[], &[]));
        let prefixes = self.prefixes.chunks(BATCH_ENTRIES_MAX).map(|prefixes| part(&[], prefixes, &[]));
        let tags = self.tags.chunks(BATCH_ENTRIES_MAX).map(|tags| part(&[], &[], tags));
        keys.chain(prefixes).chain(tags).collect()
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for Purged { node, objects, is_noted, problem, .. } in &report.nodes {
        let _ = match (objects, problem) {
            (Some(objects), _) => writeln!(text, "{node}: {objects} objects"),
            (None, _) if *is_noted => writeln!(text, "{node}: away, purges before it serves again what it holds"),
            (None, problem) => writeln!(text, "{node}: FAILED, {}", problem.as_deref().unwrap_or_default()),
        };
    }
    text
}

/// How long the predictor waits for nodes before it answers.
const WAIT_MS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_orders_are_split_and_short_ones_are_not() {
        let some = |count: usize| (0..count).map(|number| format!("/{number}")).collect::<Vec<_>>();
        let short = Order { keys: some(1_000), tags: some(24), ..Order::default() };
        assert_eq!(short.parts().len(), 1);
        let long = Order { keys: some(2_000), prefixes: some(3), tags: some(1_024), soft: true };
        let parts = long.parts();
        assert_eq!(parts.iter().map(|part| part.keys.len()).collect::<Vec<_>>(), [1_024, 976, 0, 0]);
        assert_eq!(parts.iter().map(|part| part.prefixes.len() + part.tags.len()).sum::<usize>(), 1_027);
        assert!(parts.iter().all(|part| part.soft));
    }

    #[test]
    fn a_node_has_purged_once_it_has_purged_every_part() {
        let node = |objects| NodePurge {
            node: Some(wire::NodeEntry { node: "eu-1".to_owned(), alive: true, ..wire::NodeEntry::default() }),
            objects,
        };
        let mut noted = Noted::default();
        noted.add(1, vec![node(Some(2))]);
        noted.add(2, vec![node(Some(3))]);
        assert_eq!((noted.epoch, noted.nodes["eu-1"].objects), (Some(2), Some(5)));
        noted.add(3, vec![node(None)]);
        assert_eq!(noted.nodes["eu-1"].objects, None);
    }
}
