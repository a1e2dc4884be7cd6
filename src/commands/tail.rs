//! `nearcast tail`: requests as they end.

use std::{process::ExitCode, time::Duration};

use crate::{
    operate::{
        Fleet, Nodes, span,
        tail::{self, Format},
        top::condition,
    },
    output::Output,
    shutdown::shutdown_signal,
};

/// Arguments of `nearcast tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    conditions: Conditions,
    /// How a request is shown; --json means json.
    #[arg(long, value_enum, default_value = "line")]
    format: Format,
    /// Requests until it ends; else it goes on until Ctrl-C.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Which requests. All conditions must hold, and one of the values of each.
#[derive(Debug, clap::Args)]
pub(crate) struct Conditions {
    /// Only keys that begin so.
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
    /// Only requests that were answered so.
    #[arg(long, value_delimiter = ',', value_name = "OUTCOME,…",
          value_parser = ["memory", "disk", "prefetched", "peer", "origin", "error"])]
    outcome: Vec<String>,
    /// Only these statuses, or classes such as 5xx.
    #[arg(long, value_delimiter = ',', value_name = "STATUS,…")]
    status: Vec<String>,
    /// Only misses for these causes.
    #[arg(long, value_delimiter = ',', value_name = "CAUSE,…",
          value_parser = ["capacity", "elsewhere", "expired", "first", "late_prefetch", "rejected", "uncacheable"])]
    miss_cause: Vec<String>,
    /// Only requests that took at least so long.
    #[arg(long, value_name = "TIME", value_parser = span)]
    slower_than: Option<Duration>,
}

impl Conditions {
    /// As part of a query for the node.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        if let Some(prefix) = &self.key_prefix {
            query += &condition("key_prefix", prefix);
        }
        for (name, values) in [("outcome", &self.outcome), ("status", &self.status), ("cause", &self.miss_cause)] {
            if !values.is_empty() {
                query += &condition(name, &values.join(","));
            }
        }
        if let Some(time) = self.slower_than {
            query += &condition("slower_than_us", &time.as_micros().to_string());
        }
        query
    }
}

const EXAMPLES: &str = "\
Nodes send what they answered, as they answered it; what somebody is too slow to read is left out, counted, and told on
stderr. Clients go by the pseudonym or name that the request log has: addresses do not leave a node. `combined` is the format
of Apache and nginx, with outcome, cause and time behind it; `json` is a line with the schema, then a line for each request.
Ctrl-C ends it. The exit code is 1 when a node could not be followed to the end.

Examples:
  nearcast tail --to cluster/cluster.json --outcome peer,origin --slower-than 50ms
  nearcast tail --to http://10.0.0.1:8101 --status 5xx --format combined
  nearcast tail --to cluster/ --key-prefix /video/ --miss-cause capacity --json | jq -r .key";

/// Follows requests.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let format = if output.json { Format::Json } else { args.format };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let problems = runtime.block_on(async {
        let stop = shutdown_signal()?;
        let fleet = Fleet::find(&args.nodes).await?;
        tail::follow(&fleet, &args.conditions.query(), format, args.count, stop).await
    })?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
