//! The report as one self-contained HTML page: charts of what clients felt and what prefetching did, and numbers.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    CellReport, OracleReport, Part, ReplayError, ReplayReport, Result,
    charts::{self, Chart},
};

/// Writes the page to `path` as a whole or not at all; a device or pipe there is written to as it is.
///
/// # Errors
/// When a chart cannot be drawn or the file cannot be written, for example because the disk is full; nothing is left
/// behind then.
pub fn write_page(report: &ReplayReport, path: &Path) -> Result<()> {
    write_document(&page(report)?, path)
}

/// Writes a page as [`write_page`] does.
///
/// # Errors
/// When the file cannot be written; nothing is left behind then.
pub fn write_document(page: &str, path: &Path) -> Result<()> {
    let failed = |source| ReplayError::Report { path: path.display().to_string(), source };
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, page).map_err(failed);
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let mut file = page_file(&folder).map_err(failed)?;
    file.write_all(page.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// The page's text: HTML without scripts, fonts or anything else to fetch.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn page(report: &ReplayReport) -> Result<String> {
    let body = format!(
        "<h1>Replay of {}</h1><p>{} requests of {} keys from {} regions, counted after the first {:.0} %; seed {}{}.</p>",
        escape(&report.log),
        report.requests,
        report.keys,
        report.regions,
        report.warmup * 100.0,
        report.seed,
        flags(report),
    );
    Ok(document("Nearcast replay", &(body + &sections(report)?)))
}

/// A page with this title around `body`, styled as all reports are.
pub fn document(title: &str, body: &str) -> String {
    format!("{HEAD}<title>{}</title></head><body><main>{body}</main></body></html>\n", escape(title))
}

/// The part of the page below its heading: charts and numbers.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn sections(report: &ReplayReport) -> Result<String> {
    let mut html = String::new();
    let cells = &report.cells;
    for (title, explanation, chart) in [
        ("Miss ratio", MISSES, charts::miss_ratios(cells)?),
        ("Miss ratio and cache size", BY_CACHE, charts::misses_by_cache(report)?),
        ("Miss ratio and extra fetch", BY_EXTRA_FETCH, charts::misses_by_extra_fetch(report)?),
        ("Latency", LATENCY, charts::latency_curves(cells)?),
        ("Prefetches", PREFETCHES, charts::prefetch_outcomes(cells)?),
        ("Prefetches over time", OVER_TIME, charts::outcomes_over_time(cells)?),
        ("Reliability", RELIABILITY, charts::reliability(cells)?),
    ] {
        if let Some(Chart { svg, note }) = chart {
            // Writing to a string cannot fail, here and below.
            let _ = write!(html, "<h2>{title}</h2><p>{explanation} {note}</p>{svg}");
        }
    }
    html.push_str("<h2>Numbers</h2>");
    numbers(&mut html, &report.cells);
    Ok(html)
}

/// A temporary file that others may read once it has its name, as far as the user's mask lets them.
fn page_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn flags(report: &ReplayReport) -> String {
    let mut text = String::new();
    for (is_set, words) in [
        (report.instant, "transfers take no time"),
        (report.unit_size, "sizes ignored"),
        (report.single_region, "all regions as one"),
    ] {
        if is_set {
            let _ = write!(text, "; {words}");
        }
    }
    if !report.without.is_empty() {
        let parts: Vec<_> = report.without.iter().copied().map(Part::as_str).collect();
        let _ = write!(text, "; without {}", parts.join(", "));
    }
    if let Some(version) = &report.model_version {
        let _ = write!(text, "; model {}", escape(version));
    }
    text
}

fn numbers(html: &mut String, cells: &[CellReport]) {
    let has_oracle = cells.iter().any(|cell| cell.oracle.is_some());
    html.push_str("<table><thead><tr>");
    for name in COLUMNS.iter().chain(OracleReport::COLUMNS.iter().filter(|_| has_oracle)) {
        let _ = write!(html, "<th>{name}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    for cell in cells {
        let columns = [
            cell.policy.as_str().to_owned(),
            cell.prefetcher.as_str().to_owned(),
            cell.model_version.as_deref().map_or_else(String::new, escape),
            cell.placement.as_str().to_owned(),
            escape(&cell.cache),
            cell.budget.map_or_else(String::new, |budget| format!("{budget}")),
            format!("{:.4}", cell.miss_ratio),
            format!("{:.4}", cell.byte_miss_ratio),
            format!("{:+.1} %", cell.extra_fetch_ratio * 100.0),
            format!("{:.1}", cell.latency_ms.mean),
            format!("{:.1}", cell.latency_ms.p95),
            format!("{:.1}", cell.latency_ms.p99),
            format!("{:.2}", cell.prefetch.precision),
            format!("{:.2}", cell.prefetch.coverage),
            cell.calibration_error.map_or_else(String::new, |error| format!("{error:.3}")),
        ];
        html.push_str("<tr>");
        for column in columns.into_iter().chain(cell.oracle.iter().flat_map(OracleReport::columns)) {
            let _ = write!(html, "<td>{column}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const COLUMNS: [&str; 15] = [
    "policy",
    "prefetch",
    "model",
    "placement",
    "cache",
    "budget",
    "miss ratio",
    "byte miss ratio",
    "extra fetch",
    "mean ms",
    "p95 ms",
    "p99 ms",
    "precision",
    "coverage",
    "calibration error",
];

const MISSES: &str = "Share of the requests that the region's own node could not answer, by policy, cache size, \
    prefetcher and budget.";
const BY_CACHE: &str = "What a larger cache brings; the size axis is logarithmic.";
const BY_EXTRA_FETCH: &str = "What prefetching buys and what it costs: each line begins without prefetching and joins the \
    budgets, triangles have none; extra fetch is in bytes, as a share of what is fetched without prefetching.";
const LATENCY: &str = "Share of the requests answered within a time; the time axis is logarithmic.";
const PREFETCHES: &str = "What became of prefetched segments: used in time (green), asked for before they had landed (amber), or in \
    vain (red).";

const OVER_TIME: &str = "Left, what became of prefetched segments, by when it was known: used in time (green), late (amber) \
    or in vain (red); right, the miss ratio with prefetching (blue) and without (grey).";
const RELIABILITY: &str = "Probabilities that the engine claimed, over the whole log, against the share that came true: of what \
    it ordered (blue) and of all candidates whose fate it followed (red); on the diagonal they are the same. Ten times \
    the claims make a circle a step larger; the error is the mean distance from the diagonal, by claims.";

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><style>\
    body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;margin:0}main{max-width:62rem;margin:2rem auto;padding:0 1rem}\
    h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}svg{max-width:100%;height:auto}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;display:block;overflow-x:auto}\
    th,td{padding:.3rem .6rem;border-bottom:1px solid #d8dee6;text-align:right;white-space:nowrap}\
    </style>";
