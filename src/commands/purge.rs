//! `nearcast purge`: makes nodes forget objects.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{
    load::{Cluster, Http, To},
    output::Output,
};

/// Arguments of `nearcast purge`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The cluster: the `cluster.json` that `nearcast up` writes, or URLs of nodes.
    #[arg(long, required = true, num_args = 1.., value_name = "CLUSTER|URL")]
    to: Vec<String>,
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
    /// The file with the nodes' admin token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Once this ends well, no node serves what it held of that, also after a crash. Nodes that cannot be reached are named,
and the exit code is 1.

Examples:
  nearcast purge --to cluster/cluster.json --key /index.html
  nearcast purge --to http://10.0.0.1:8101 http://10.0.0.2:8101 --tag product-17 --soft
  nearcast purge --to cluster/ --prefix /images/ --prefix /css/ --token-file admin.token --json";

#[derive(Debug, Serialize)]
struct Order<'a> {
    keys: &'a [String],
    prefixes: &'a [String],
    tags: &'a [String],
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
    nodes: Vec<Purged>,
}

#[derive(Debug, Serialize)]
struct Purged {
    node: String,
    url: String,
    /// Objects that were held; `None` when it failed.
    objects: Option<u64>,
    problem: Option<String>,
}

/// Makes nodes forget objects.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let token = args.token_file.map(|file| {
        let token = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::Ok(token.trim().to_owned())
    });
    let token = token.transpose()?;
    let order = Order { keys: &args.keys, prefixes: &args.prefixes, tags: &args.tags, soft: args.soft };
    let order = serde_json::to_vec(&order)?;
    let to = To { places: args.to, ..To::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(purge(&to, order, token.as_deref()))?;
    output.show(&report, text)?;
    let is_whole = report.nodes.iter().all(|purged| purged.objects.is_some());
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn purge(to: &To, order: Vec<u8>, token: Option<&str>) -> anyhow::Result<Report> {
    let http = Http::new();
    let cluster = Cluster::find(to, &http).await?;
    let asked = cluster.nodes.into_iter().map(|node| {
        let (http, order) = (http.clone(), order.clone());
        async move {
            let answer = http.post_json::<Answer>(&format!("{}/_nearcast/purge", node.url), order, token).await;
            let (objects, problem) = match answer {
                Ok(Answer { objects }) => (Some(objects), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            Purged { node: node.name, url: node.url, objects, problem }
        }
    });
    let nodes = futures::future::join_all(asked).await;
    let objects = nodes.iter().filter_map(|purged| purged.objects).sum();
    Ok(Report { schema: "nearcast.purge-report/1", objects, nodes })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for Purged { node, objects, problem, .. } in &report.nodes {
        let _ = match (objects, problem) {
            (Some(objects), _) => writeln!(text, "{node}: {objects} objects"),
            (None, problem) => writeln!(text, "{node}: FAILED, {}", problem.as_deref().unwrap_or_default()),
        };
    }
    text
}
