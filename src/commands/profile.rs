//! `nearcast profile`: describes a log.

use std::{fmt::Write, process::ExitCode};

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nearcast_datasets::{LogReader, LogSource, Profile};

use crate::output::Output;

/// Arguments of `nearcast profile`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The log: a Parquet file, a folder of `date=YYYY-MM-DD/`, or a URL (s3, gs, az, file, http).
    log: String,
}

const EXAMPLES: &str = "\
Examples:
  nearcast profile datasets/samples/web-1995.parquet
  nearcast profile logs/ --json | jq .zipf_exponent
  nearcast profile s3://bucket/logs/";

/// Describes a log: requests, keys, clients, regions, span, skew and gaps.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { log } = args;
    let profile = measure(&LogSource::parse(&log)?)?;
    output.show(&profile, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Profiles a log under a progress bar.
pub(crate) fn measure(source: &LogSource) -> anyhow::Result<Profile> {
    let total = LogReader::open(source)?.row_count();
    // Hides itself unless stderr is a terminal.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("reading {bar:30} {percent:>3} % {human_pos} rows {per_sec}") {
        bar.set_style(style);
    }
    let profile = nearcast_datasets::profile(source, |rows| bar.set_position(rows));
    bar.finish_and_clear();
    Ok(profile?)
}

fn text(profile: &Profile) -> String {
    let mut text = format!("{}\n\n", profile.log);
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<22}{value}");
    };
    line("requests", grouped(profile.requests));
    line("keys", format!("{} ({} asked for once)", grouped(profile.keys), percent(profile.one_hit_share)));
    line("clients", grouped(profile.clients));
    line("span", format!("{} to {} ({})", profile.first, profile.last, duration(profile.span_seconds)));
    line("bytes asked for", bytes(profile.requested_bytes));
    line("bytes of all objects", bytes(profile.distinct_bytes));
    let skew = profile.zipf_exponent.map_or_else(|| "-".to_owned(), |exponent| format!("{exponent:.2}"));
    line("popularity", format!("Zipf exponent {skew}"));
    let compulsory = &profile.compulsory;
    let (ever, in_region) = (percent(compulsory.ever), percent(compulsory.in_region));
    line("compulsory misses", format!("{ever} first ever, {in_region} first in their region"));
    line("", format!("{} of the bytes are first ever", percent(compulsory.bytes_ever)));
    let gaps = &profile.gaps;
    line("between requests", format!("{} on average", duration(gaps.mean_seconds)));
    for gap in &gaps.longest {
        line("longest silences", format!("{} after {}", duration(gap.seconds), gap.after));
    }
    line("long silences", format!("{} of over an hour and a hundred times the average", gaps.long_count));
    let _ = write!(text, "\n{}", regions(profile));
    text
}

fn regions(profile: &Profile) -> Table {
    let mut table = Table::new();
    let header = ["region", "requests", "share", "clients", "keys", "shared keys", "compulsory"];
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    for region in profile.regions.iter().take(REGIONS_SHOWN) {
        table.add_row([
            region.name.clone(),
            grouped(region.requests),
            percent(region.request_share),
            grouped(region.clients),
            grouped(region.keys),
            percent(region.shared_keys),
            percent(region.compulsory),
        ]);
    }
    if let Some(more) = profile.regions.len().checked_sub(REGIONS_SHOWN + 1) {
        table.add_row([format!("… {} more with --json", more + 1)]);
    }
    table
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub(crate) fn grouped(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A length of time in its two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// Rows of the table of regions; JSON has them all.
const REGIONS_SHOWN: usize = 30;
