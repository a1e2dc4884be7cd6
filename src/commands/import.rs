//! `nearcast import`: converts the logs of other systems, and exports to libCacheSim.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context, bail};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nearcast_datasets::{
    LogSource, PseudonymKey,
    import::{
        ColumnMap, ExportOptions, ExportReport, Filter, Format, ImportOptions, ImportReport, Input, KeyRule,
        NetworkMap, Progress, RegionRule, TimeFormat, export_oracle_general, import,
    },
};

use crate::{
    destination::Destination,
    output::{self, Output},
};

/// Arguments of `nearcast import`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to import: files, or `-` for standard input; .gz and .zst are known by their content.
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<Input>,
    /// Where the log goes: a folder with one `date=YYYY-MM-DD/` a day, or one file when it ends in .parquet; local, or a
    /// URL of an object store.
    #[arg(short, long, value_name = "OUT")]
    output: String,
    /// auto, combined, common, delimited, jsonl or oracle-general; auto looks at the beginning of each input.
    #[arg(long, default_value = "auto", value_parser = format)]
    format: FormatChoice,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    requests: Requests,
    #[command(flatten)]
    clients: Clients,
    /// Size of objects of which no line tells it, in bytes; else the median of the known sizes.
    #[arg(long, value_name = "BYTES")]
    default_size: Option<u64>,
    /// Share of lines that may be rejected before the import fails.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    max_reject_share: f64,
    /// Where rejected lines go [default: OUT.rejects.jsonl].
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Rows held in memory before they are sorted on disk.
    #[arg(long, value_name = "ROWS")]
    rows_in_memory: Option<usize>,
    #[command(flatten)]
    export: Export,
}

/// Where delimited text and JSON lines have their columns.
#[derive(Debug, clap::Args)]
struct Fields {
    /// Which field holds what: header names, 1-based numbers or dotted JSON paths. Columns are timestamp, key, client,
    /// region, size (of the object), bytes (of the response), status, method, `range_start` and `range_end`.
    #[arg(long, value_name = "COLUMN=FIELD,…")]
    columns: Option<ColumnMap>,
    /// tab, comma, semicolon, pipe, space or any single character [default: the one that fits].
    #[arg(long, value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Leave out the first line although columns are numbered.
    #[arg(long)]
    header: bool,
    /// auto, epoch-s, epoch-ms, epoch-us, epoch-ns, rfc3339, or a strftime pattern.
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    time_format: TimeFormat,
}

/// Which requests are kept, and under which keys.
#[derive(Debug, clap::Args)]
struct Requests {
    /// Methods that are kept.
    #[arg(long, value_delimiter = ',', default_value = "GET", value_name = "METHOD,…")]
    methods: Vec<String>,
    /// Statuses that are kept.
    #[arg(long, value_delimiter = ',', default_value = "200,206,304", value_name = "STATUS,…")]
    statuses: Vec<u16>,
    /// Drop the query string from keys.
    #[arg(long)]
    strip_query: bool,
    /// Keep the host in front of the path where a line names one.
    #[arg(long)]
    keep_host: bool,
    /// What stands before an object's number in an oracleGeneral trace.
    #[arg(long, default_value = "object/", value_name = "TEXT")]
    key_prefix: String,
    /// The instant of time 0 in an oracleGeneral trace, RFC 3339 [default: 1970-01-01].
    #[arg(long, value_name = "TIME", value_parser = instant)]
    start: Option<nearcast_datasets::Timestamp>,
}

/// How clients become pseudonyms, and where they are.
#[derive(Debug, clap::Args)]
struct Clients {
    /// File with the secret behind pseudonyms; else NEARCAST_PSEUDONYM_KEY, else a fresh secret for this run.
    #[arg(long, value_name = "FILE")]
    pseudonym_key_file: Option<PathBuf>,
    /// The region of everybody.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// TOML file that maps networks to regions: `[regions]` with `eu = ["192.0.2.0/24"]`, and `default = "…"`.
    #[arg(long, value_name = "FILE", conflicts_with = "region")]
    region_map: Option<PathBuf>,
}

/// The way back.
#[derive(Debug, clap::Args)]
struct Export {
    /// Export instead: IN is one request log, OUT becomes a libCacheSim oracleGeneral trace.
    #[arg(long, conflicts_with_all = ["columns", "rejects", "pseudonym_key_file", "region", "region_map"])]
    to_oracle_general: bool,
    /// Export only the requests of this region.
    #[arg(long, value_name = "NAME", requires = "to_oracle_general")]
    only_region: Option<String>,
    /// Decides the objects' numbers in an export.
    #[arg(long, default_value_t = 1, requires = "to_oracle_general")]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  nearcast import /var/log/nginx/access.log* -o logs/
  zcat old.gz | nearcast import --format combined --region-map regions.toml - -o logs/
  nearcast import --columns timestamp=time,key=url,client=ip,size=bytes hits.csv.zst -o log.parquet
  nearcast import --columns timestamp=ts,key=request.uri,client=request.remote_ip caddy.json -o logs/
  nearcast import --to-oracle-general logs/ -o trace.oracleGeneral";

/// Converts access logs of other systems into the request-log schema.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    if args.export.to_oracle_general {
        return export(&args, output);
    }
    let (inputs, out) = (args.inputs.clone(), Destination::open(&args.output)?);
    let options = options(args, out.path())?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{msg} {human_pos} {per_sec}")?);
    let mut report = import(&inputs, out.path(), &options, |progress| match progress {
        Progress::Chosen { input, format, decision } => {
            bar.suspend(|| output::note(&format!("{input}: {format} ({decision})")));
        }
        Progress::Reading(lines) => {
            bar.set_message("lines read");
            bar.set_position(lines);
        }
        Progress::Writing(rows) => {
            bar.set_message("requests written");
            bar.set_position(rows);
        }
    })?;
    out.deliver()?;
    bar.finish_and_clear();
    for path in report.files.iter_mut().chain([&mut report.output]).chain(&mut report.rejects_file) {
        *path = out.shown(path);
    }
    output.show(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: Args, out: &Path) -> anyhow::Result<ImportOptions> {
    let rejects = args.rejects.unwrap_or_else(|| beside(out, ".rejects.jsonl"));
    let mut options = ImportOptions::new(pseudonym_key(args.clients.pseudonym_key_file.as_deref())?, rejects);
    options.format = args.format.0;
    options.columns = args.fields.columns.unwrap_or_default();
    options.delimiter = args.fields.delimiter;
    options.header = args.fields.header;
    options.time_format = args.fields.time_format;
    options.filter = Filter { methods: args.requests.methods, statuses: args.requests.statuses };
    options.key_rule = KeyRule { strip_query: args.requests.strip_query, keep_host: args.requests.keep_host };
    options.key_prefix = args.requests.key_prefix;
    options.start = args.requests.start.unwrap_or_default();
    options.default_size_bytes = args.default_size;
    options.region = match (args.clients.region, args.clients.region_map) {
        (_, Some(path)) => RegionRule::Networks(NetworkMap::load(&path)?),
        (Some(region), None) => RegionRule::Constant(region),
        (None, None) => RegionRule::default(),
    };
    options.max_reject_share = args.max_reject_share;
    options.bounds.rows_in_memory = args.rows_in_memory.unwrap_or(options.bounds.rows_in_memory);
    Ok(options)
}

/// The secret from the file, else from the environment, else a fresh one.
fn pseudonym_key(file: Option<&Path>) -> anyhow::Result<PseudonymKey> {
    let secret = match file {
        Some(path) => {
            Some(std::fs::read(path).with_context(|| format!("cannot read the key file {}", path.display()))?)
        }
        None => std::env::var_os(KEY_VARIABLE).map(|secret| secret.into_encoded_bytes()),
    };
    match secret {
        Some(secret) if secret.trim_ascii().len() < SECRET_BYTES_MIN => {
            bail!(
                "the pseudonym key has fewer than {SECRET_BYTES_MIN} bytes; a short one can be guessed, and with it every address"
            )
        }
        Some(secret) => Ok(PseudonymKey::from_secret(secret.trim_ascii())),
        None => {
            output::note(&format!(
                "clients get pseudonyms by a fresh secret, which match no other import; keep one with --pseudonym-key-file or {KEY_VARIABLE}"
            ));
            PseudonymKey::random().context("the system has no entropy for a pseudonym key")
        }
    }
}

fn export(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let [Input::File(path)] = &*args.inputs else { bail!("--to-oracle-general takes one request log") };
    let source = LogSource::parse(&path.to_string_lossy())?;
    let options = ExportOptions { region: args.export.only_region.clone(), seed: args.export.seed };
    let out = Destination::open(&args.output)?;
    let mut report = export_oracle_general(&source, out.path(), &options)?;
    out.deliver()?;
    report.output = out.shown(&report.output);
    output.show(&report, export_text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(report: &ImportReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<16}{value}");
    };
    line("requests", format!("{} of {} lines", HumanCount(report.requests), HumanCount(report.lines)));
    if !report.skipped.is_empty() {
        line("left out", counts(report.skipped.iter()));
    }
    if let Some(file) = &report.rejects_file {
        line("rejected", format!("{} (in {})", counts(report.reject_reasons.iter()), file.display()));
    }
    line("keys", HumanCount(report.keys as u64).to_string());
    line("clients", HumanCount(report.clients as u64).to_string());
    line("regions", report.regions.join(", "));
    line("span", format!("{} to {}", report.first, report.last));
    let sizes = &report.sizes;
    if sizes.partial_keys > 0 {
        line("sizes", format!("{} keys only in parts: at least so large", HumanCount(sizes.partial_keys)));
    }
    if let Some(bytes) = sizes.default_bytes {
        line("sizes", format!("{} keys of unknown size taken as {bytes} bytes", HumanCount(sizes.unknown_keys)));
    }
    if report.reordered > 0 {
        line("reordered", format!("{} requests that were logged late", HumanCount(report.reordered)));
    }
    line("written", report.output.display().to_string());
    text
}

fn export_text(report: &ExportReport) -> String {
    let mut text = format!(
        "{} requests to {} objects written to {}\nlibCacheSim: cachesim {} oracleGeneral lru 0.1\n",
        HumanCount(report.requests),
        HumanCount(u64::from(report.objects)),
        report.output.display(),
        report.output.display(),
    );
    for (count, what) in
        [(report.sizes_cut, "sizes above 4 GiB cut to it"), (report.sizes_raised, "sizes of 0 written as 1")]
    {
        if count > 0 {
            let _ = writeln!(text, "{} {what}", HumanCount(count));
        }
    }
    text
}

fn counts<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> String {
    let counts: Vec<_> = counts.map(|(name, count)| format!("{} {name}", HumanCount(*count))).collect();
    counts.join(", ")
}

/// `OUT` with something behind its name, also when it ends in a slash.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let name = out.file_name().map_or_else(|| "import".into(), |name| name.to_string_lossy());
    out.with_file_name(format!("{name}{suffix}"))
}

/// A format, or `auto`.
#[derive(Clone, Copy, Debug)]
struct FormatChoice(Option<Format>);

fn format(text: &str) -> Result<FormatChoice, String> {
    if text == "auto" {
        Ok(FormatChoice(None))
    } else {
        Format::from_str(text).map(|format| FormatChoice(Some(format)))
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "tab" | "\\t" => Ok(b'\t'),
        "comma" => Ok(b','),
        "semicolon" => Ok(b';'),
        "pipe" => Ok(b'|'),
        "space" => Ok(b' '),
        other => match other.as_bytes() {
            [byte] if *byte != b'"' => Ok(*byte),
            _ => Err("use tab, comma, semicolon, pipe, space or a single character".into()),
        },
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("\"{text}\" is no number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".into()) }
}

fn instant(text: &str) -> Result<nearcast_datasets::Timestamp, String> {
    TimeFormat::Rfc3339.read(text).ok_or_else(|| format!("\"{text}\" is no RFC 3339 time"))
}

const KEY_VARIABLE: &str = "NEARCAST_PSEUDONYM_KEY";

/// Fewer could be guessed; what is asked for is not strength but that nobody types a word.
const SECRET_BYTES_MIN: usize = 8;
