//! `nearcast replay`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::{CellAlignment, Table, presets};
use nearcast_datasets::LogSource;
use nearcast_models::{Model, Registry};
use nearcast_proto::topology::Topology;
use nearcast_trainer::replay::{
    CacheSize, CellReport, EvictionKind, OracleReport, Part, PlacementKind, PlacingConfig, PrefetchKind, ReadOptions,
    ReplayConfig, ReplayReport, replay, write_page,
};

use crate::{output::Output, progress::ReplayBar};

/// Arguments of `nearcast replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The log: a Parquet file, a folder of them, or an object-store URL.
    log: String,
    /// Eviction policies, separated by commas; belady foresees the log, so it stands alone with --prefetch none.
    #[arg(long, value_delimiter = ',', default_value = "default", value_parser = policies())]
    policy: Vec<EvictionKind>,
    /// Prefetchers, separated by commas; obl, markov and mithril are rivals without a budget.
    #[arg(long, value_delimiter = ',', default_value = "none,nearcast", value_parser = prefetchers())]
    prefetch: Vec<PrefetchKind>,
    /// Placement strategies, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "none", value_parser = placements())]
    placement: Vec<PlacementKind>,
    /// Share of each node's capacity that placed replicas may take; the rest is pull-through.
    #[arg(long, value_name = "SHARE", default_value_t = PlacingConfig::default().share)]
    placed: f64,
    /// Bytes that gapa may move in vain, as a share of what misses fetch.
    #[arg(long, value_name = "SHARE", default_value_t = PlacingConfig::default().waste_share)]
    waste: f64,
    /// Share of each link's bandwidth that placement's transfers may take.
    #[arg(long, value_name = "SHARE", default_value_t = PlacingConfig::default().link_share)]
    link_share: f64,
    /// Hours that gapa looks ahead at most where links take long to carry a plan out; 0: it does not.
    #[arg(long, value_name = "HOURS", default_value_t = PlacingConfig::default().ahead_max.as_secs_f64() / 3_600.0)]
    ahead_hours: f64,
    /// Minutes between two placement plans at least; the oracle plans by the hour.
    #[arg(long, value_name = "MINUTES", default_value_t = PlacingConfig::default().interval.as_secs() / 60)]
    plan_minutes: u64,
    /// Half-life of the reactive placement's decayed average, in hours; also of the one that gapa falls back on.
    #[arg(long, value_name = "HOURS", default_value_t = PlacingConfig::default().half_life.as_secs_f64() / 3_600.0)]
    half_life_hours: f64,
    /// Cache sizes per node, separated by commas: bytes (`64MiB`), or a share of the log's distinct bytes (`0.1`), of
    /// its distinct keys with --unit-size.
    #[arg(long, value_delimiter = ',', default_value = "0.1")]
    cache: Vec<CacheSize>,
    /// Bounds on extra fetched bytes, separated by commas, as shares of what is fetched without prefetching.
    #[arg(long, value_delimiter = ',', default_value = "0.25", allow_negative_numbers = true)]
    budget: Vec<f64>,
    /// Share of the requests before counting starts.
    #[arg(long, default_value_t = 0.3, allow_negative_numbers = true)]
    warmup: f64,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let transfers and messages take no time, to compare with simulators that ignore it.
    #[arg(long)]
    instant: bool,
    /// Count every object as one byte.
    #[arg(long)]
    unit_size: bool,
    /// Fold all regions into one.
    #[arg(long)]
    single_region: bool,
    /// Round trips and bandwidths between regions; a built-in one when not given.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// A trained model: a version or alias with --registry, else a directory.
    #[arg(long)]
    model: Option<String>,
    /// Where the model's version is found.
    #[arg(long, requires = "model")]
    registry: Option<String>,
    /// Bytes per segment of an object.
    #[arg(long, default_value_t = 1 << 20)]
    segment_bytes: u64,
    /// Milliseconds from a node to the predictor and back.
    #[arg(long, default_value_t = 20)]
    control_rtt_ms: u64,
    /// Add what foresight could win at most: Belady's rule, and a prefetcher that knows every request.
    #[arg(long)]
    oracle: bool,
    /// Do without candidate sources, the gate (a candidate is then as probable as its source says) or probation
    /// (prefetches then take room as demand does), separated by commas: shows what each is worth.
    #[arg(long, value_delimiter = ',', value_parser = parts(), value_name = "PART")]
    without: Vec<Part>,
    /// Leave out what differs from run to run: events_per_second and peak_rss_bytes.
    #[arg(long)]
    no_timing: bool,
    /// Also write a page with charts.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  nearcast replay datasets/samples/web-1995.parquet --report report.html
  nearcast replay logs/ --cache 0.01,0.1 --budget 0.05,0.25 --report report.html
  nearcast replay logs/ --prefetch none,nearcast,obl,markov,mithril --oracle
  nearcast replay logs/ --without habit,stride    # what are these sources worth?
  nearcast replay logs/ --without gate,probation    # and what judges and stores what they propose?
  nearcast replay logs/ --policy lru,fifo,s3-fifo,sieve,arc,w-tinylfu,belady --prefetch none \\
    --instant --unit-size --warmup 0    # comparable with libCacheSim
  nearcast replay logs/ --topology topology.toml --model champion --registry models/ --json";

/// Drives the production engine and nodes with a log under a virtual clock.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let mut hint = RepeatHint { seed: args.seed, is_needed: true };
    let report = run_replay(args)?;
    hint.is_needed = false;
    output.show(&report, table)?;
    Ok(ExitCode::SUCCESS)
}

fn run_replay(args: Args) -> anyhow::Result<ReplayReport> {
    let source = LogSource::parse(&args.log)?;
    let page = args.report.clone();
    let config = args.into_config()?;
    page.as_deref().map_or(Ok(()), check_writable)?;
    let bar = ReplayBar::new();
    let result = replay(&source, &config, &|progress| bar.show(progress));
    bar.finish();
    let report = result?;
    if let Some(path) = page {
        write_page(&report, &path)?;
    }
    Ok(report)
}

/// Tells before the work whether a page can be written; a device or pipe is left alone.
fn check_writable(page: &Path) -> anyhow::Result<()> {
    if page.is_file() || !page.exists() {
        let folder = page.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        tempfile::tempfile_in(folder)
            .with_context(|| format!("cannot write the report to {}; choose another --report", page.display()))?;
    }
    Ok(())
}

impl Args {
    fn into_config(self) -> anyhow::Result<ReplayConfig> {
        let topology = self.topology.as_deref().map(Topology::load).transpose()?;
        let mut config = ReplayConfig {
            policies: self.policy,
            prefetchers: self.prefetch,
            placements: self.placement,
            placing: PlacingConfig {
                share: self.placed,
                waste_share: self.waste,
                link_share: self.link_share,
                ahead_max: Duration::try_from_secs_f64(3_600.0 * self.ahead_hours)?,
                interval: Duration::from_secs(60 * self.plan_minutes.max(1)),
                half_life: Duration::try_from_secs_f64(3_600.0 * self.half_life_hours)?,
                ..PlacingConfig::default()
            },
            caches: self.cache,
            budgets: self.budget,
            warmup: self.warmup,
            seed: self.seed,
            instant: self.instant,
            read: ReadOptions { unit_size: self.unit_size, single_region: self.single_region },
            topology: topology.unwrap_or_default(),
            segment_bytes: self.segment_bytes,
            control_round_trip: Duration::from_millis(self.control_rtt_ms),
            model: self.model.as_deref().map(|name| load_model(name, self.registry.as_deref())).transpose()?,
            oracle: self.oracle,
            with_timing: !self.no_timing,
            ..ReplayConfig::default()
        };
        self.without.into_iter().for_each(|part| config.leave_out(part));
        Ok(config)
    }
}

fn load_model(name: &str, registry: Option<&str>) -> anyhow::Result<(Arc<str>, Arc<Model>)> {
    let Some(registry) = registry else {
        return Ok((Arc::from(name), Arc::new(Model::load(Path::new(name))?)));
    };
    let (version, model) = Registry::open(registry)?.load(name)?;
    Ok((Arc::from(version.to_string()), Arc::new(model)))
}

fn policies() -> impl TypedValueParser<Value = EvictionKind> {
    let names = std::iter::once(DEFAULT_POLICY).chain(EvictionKind::all().map(EvictionKind::as_str));
    PossibleValuesParser::new(names).map(|name| EvictionKind::from_name(&name).unwrap_or_default())
}

fn prefetchers() -> impl TypedValueParser<Value = PrefetchKind> {
    let find = |name: String| PrefetchKind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or_default();
    PossibleValuesParser::new(PrefetchKind::ALL.map(PrefetchKind::as_str)).map(find)
}

fn parts() -> impl TypedValueParser<Value = Part> {
    let find = |name: String| Part::from_name(&name).ok_or("no such part");
    PossibleValuesParser::new(Part::all().map(Part::as_str)).try_map(find)
}

fn placements() -> impl TypedValueParser<Value = PlacementKind> {
    let find = |name: String| PlacementKind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or_default();
    PossibleValuesParser::new(PlacementKind::ALL.map(PlacementKind::as_str)).map(find)
}

fn table(report: &ReplayReport) -> String {
    let mut text = format!(
        "{}: {} requests of {} keys from {} regions; counted after the first {:.0} %\n",
        report.log,
        report.requests,
        report.keys,
        report.regions,
        report.warmup * 100.0
    );
    let has_oracle = report.cells.iter().any(|cell| cell.oracle.is_some());
    let mut table = Table::new();
    let mut header = vec![
        "policy",
        "prefetch",
        "placement",
        "cache",
        "budget",
        "misses",
        "byte misses",
        "extra fetch",
        "mean ms",
        "p99 ms",
        "used",
        "late",
        "unused",
        "precision",
    ];
    if has_oracle {
        header.extend(OracleReport::COLUMNS);
    }
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.column_iter_mut().skip(4).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    for cell in &report.cells {
        table.add_row(row(cell));
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "{table}");
    text
}

fn row(cell: &CellReport) -> Vec<String> {
    let mut row = vec![
        cell.policy.as_str().to_owned(),
        cell.prefetcher.as_str().to_owned(),
        cell.placement.as_str().to_owned(),
        cell.cache.clone(),
        cell.budget.map_or_else(String::new, |budget| format!("{budget}")),
        format!("{:.4}", cell.miss_ratio),
        format!("{:.4}", cell.byte_miss_ratio),
        format!("{:+.1} %", cell.extra_fetch_ratio * 100.0),
        format!("{:.1}", cell.latency_ms.mean),
        format!("{:.1}", cell.latency_ms.p99),
        cell.prefetch.used.to_string(),
        cell.prefetch.late.to_string(),
        cell.prefetch.unused.to_string(),
        format!("{:.2}", cell.prefetch.precision),
    ];
    row.extend(cell.oracle.iter().flat_map(OracleReport::columns));
    row
}

/// Says on stderr how to repeat a replay, unless it ended well: also when it ended by a panic.
struct RepeatHint {
    seed: u64,
    is_needed: bool,
}

impl Drop for RepeatHint {
    fn drop(&mut self) {
        if self.is_needed {
            let quote = |word: String| if word.contains([' ', '\'', '"', '*']) { format!("{word:?}") } else { word };
            let command: Vec<_> = std::env::args().map(quote).collect();
            // Nothing is left to do when stderr is gone as well.
            let _ = writeln!(io::stderr(), "replay with seed {} failed; to repeat: {}", self.seed, command.join(" "));
        }
    }
}

/// The policy of a node that was not told otherwise.
const DEFAULT_POLICY: &str = "default";
