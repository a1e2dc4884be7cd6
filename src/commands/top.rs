//! `nearcast top`: what is asked for most, right now.

use std::{process::ExitCode, time::Duration};

use super::tail::Conditions;
use crate::{
    operate::{
        Fleet, Nodes, span,
        top::{Ask, By, Sort, Top},
    },
    output::{self, Output},
    shutdown::shutdown_signal,
};

/// Arguments of `nearcast top`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// What requests are put together by.
    #[arg(long, value_enum, default_value = "key")]
    by: By,
    /// Folders of a prefix.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    depth: u8,
    /// What makes a name hot.
    #[arg(long, value_enum, default_value = "requests")]
    sort: Sort,
    /// Names shown.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// How long nodes look at requests; at most a minute.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = window)]
    interval: Duration,
    /// Looks, one after the other; 0 for until Ctrl-C.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    #[command(flatten)]
    conditions: Conditions,
}

const EXAMPLES: &str = "\
Nodes count only while they are asked to, in bounded memory (Space-Saving, 2,048 names): a name above a two-thousandth of
what a node looked at is never missed. Clients go by the pseudonym or name that the request log has. With --json, one
document for each look, a line each when there are several. The exit code is 1 when a node could not be asked.

Examples:
  nearcast top --to cluster/cluster.json
  nearcast top --to cluster/ --by prefix --depth 2 --sort bytes --interval 5s --count 0
  nearcast top --to http://10.0.0.1:8101 --sort misses --miss-cause capacity --limit 50 --json";

/// Looks once, or again and again.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let ask = Ask {
        by: args.by,
        sort: args.sort,
        depth: args.depth,
        limit: usize::from(args.limit),
        window: args.interval,
        filter: args.conditions.query(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_whole = runtime.block_on(async {
        let stop = shutdown_signal()?;
        let fleet = Fleet::find(&args.nodes).await?;
        tokio::pin!(stop);
        let (mut looks, mut is_whole) = (0, true);
        loop {
            let top = tokio::select! {
                top = Top::look(&fleet, &ask) => top,
                () = &mut stop => break,
            };
            is_whole &= top.failed.is_empty();
            if top.lost > 0 {
                output::note(&format!("{} requests were too many to look at", top.lost));
            }
            let is_open = match args.count {
                1 => output.show(&top, Top::text).map(|()| true)?,
                _ => output.screen(&top, Top::text)?,
            };
            looks += 1;
            if !is_open || looks == args.count || top.failed.len() == fleet.nodes.len() {
                break;
            }
        }
        anyhow::Ok(is_whole)
    })?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn window(text: &str) -> Result<Duration, String> {
    let window = span(text)?;
    let range = Duration::from_millis(10)..=Duration::from_secs(60);
    range.contains(&window).then_some(window).ok_or_else(|| format!("`{text}` is not from 10ms to 1m"))
}
