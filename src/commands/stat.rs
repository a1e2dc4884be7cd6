//! `nearcast stat`: how nodes do.

use std::{process::ExitCode, time::Duration};

use crate::{
    operate::{Fleet, Nodes, span, stat::Reader, stat::Reading},
    output::Output,
    shutdown::shutdown_signal,
};

/// Arguments of `nearcast stat`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    nodes: Nodes,
    /// Read again and again, with so much time between: a line for each node, with rates of that time.
    #[arg(long, value_name = "TIME", value_parser = span)]
    interval: Option<Duration>,
    /// Readings until it ends; with --interval alone, it goes on until Ctrl-C.
    #[arg(long, value_name = "N", requires = "interval", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

const EXAMPLES: &str = "\
Without --interval, everything since each node started, in tables. With it, one line for each node and reading, as vmstat
has it; the first reading is since the nodes started. With --json, one document for each reading, the later ones a line each.
Percentiles are at most a quarter too long and never too short. Nodes that cannot be read are named, and the exit code is 1.

  hit %       requests answered from what the node held        byte %      the same in bytes
  full %      of the capacity                                  prefetch %  of the prefetched segments, used
  errors      failed requests, damaged or lost payloads, lost log lines: what should be zero

Examples:
  nearcast stat --to cluster/cluster.json
  nearcast stat --to http://10.0.0.1:8101 http://10.0.0.2:8101 --interval 2 --count 5
  nearcast stat --to cluster/ --json | jq '.nodes[] | {node, hit_ratio, p99: .latency.all.p99_ms}'";

/// Reads nodes once, or again and again.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_whole = runtime.block_on(async {
        let stop = shutdown_signal()?;
        let fleet = Fleet::find(&args.nodes).await?;
        tokio::pin!(stop);
        let (mut reader, mut is_whole) = (Reader::default(), true);
        let count = if args.interval.is_some() { args.count } else { Some(1) };
        let mut readings = 0;
        loop {
            let reading = tokio::select! {
                reading = reader.read(&fleet) => reading,
                () = &mut stop => break,
            };
            is_whole &= reading.failed.is_empty();
            let is_open = match args.interval {
                None => output.show(&reading, Reading::text).map(|()| true)?,
                Some(_) => output.stream(&reading, |reading| {
                    let header = if readings % HEADER_EVERY == 0 { Reading::header() + "\n" } else { String::new() };
                    header + &reading.rows()
                })?,
            };
            readings += 1;
            if !is_open || count.is_some_and(|count| readings >= count) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(args.interval.unwrap_or_default()) => {}
                () = &mut stop => break,
            }
        }
        anyhow::Ok(is_whole)
    })?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Readings between two headers.
const HEADER_EVERY: u64 = 10;
