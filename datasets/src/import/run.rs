//! Runs an import from its inputs to the finished log.

use std::{
    collections::BTreeMap,
    io::BufRead,
    path::{Path, PathBuf},
};

use super::{
    Input, InputReport, Progress,
    catalog::Catalog,
    detect::choose,
    error::ImportError,
    input::{Line, Lines},
    options::ImportOptions,
    oracle_general::{Next, Records},
    record::{LineParser, Parsed, Reason, Record, Skip},
    rejects::Rejects,
    report::{ImportReport, SizeReport},
    sorter::{Row, Sorter},
};
use crate::{LogWriter, RequestEvent, Summary, WriteOptions, rfc3339};

/// Converts the inputs into one log at `out`: a folder partitioned by date, or one file when its name ends in
/// `.parquet`. Unless this returns `Ok`, nothing is left at `out`; the rejects file stays either way.
///
/// # Errors
/// [`Error::Import`](crate::Error::Import), and those of [`LogWriter`].
pub fn import(
    inputs: &[Input],
    out: &Path,
    options: &ImportOptions,
    mut progress: impl FnMut(Progress<'_>),
) -> crate::Result<ImportReport> {
    // Created and dropped, so that a place that cannot be written to is known before anything is read.
    drop(create(out, false)?);
    remove_stale(&options.rejects_path)?;
    let mut run = Run::new(options, spill_folder(out), &mut progress);
    for input in inputs {
        run.read(input)?;
    }
    run.check()?;
    run.write(out)
}

struct Run<'o, 'p> {
    options: &'o ImportOptions,
    catalog: Catalog<'o>,
    sorter: Sorter,
    spill_folder: PathBuf,
    rejects: Rejects,
    skipped: BTreeMap<Skip, u64>,
    lines: u64,
    kept: u64,
    inputs: Vec<InputReport>,
    progress: &'p mut dyn FnMut(Progress<'_>),
}

impl<'o, 'p> Run<'o, 'p> {
    fn new(options: &'o ImportOptions, spill_folder: PathBuf, progress: &'p mut dyn FnMut(Progress<'_>)) -> Self {
        Self {
            options,
            catalog: Catalog::new(options),
            sorter: Sorter::new(options.bounds.rows_in_memory, spill_folder.clone()),
            spill_folder,
            rejects: Rejects::new(&options.rejects_path, options.bounds.rejects_max),
            skipped: BTreeMap::new(),
            lines: 0,
            kept: 0,
            inputs: Vec::new(),
            progress,
        }
    }

    fn read(&mut self, input: &Input) -> Result<(), ImportError> {
        let source = input.to_string();
        let opened = input.open()?;
        if opened.sample.is_empty() {
            self.inputs.push(InputReport { source, format: None, decision: "empty".into(), lines: 0 });
            return Ok(());
        }
        let choice = choose(&source, &opened.sample, self.options)?;
        let (format, decision) = (choice.format, choice.decision);
        (self.progress)(Progress::Chosen { input: &source, format, decision: &decision });
        let before = self.lines;
        let failed = |error| ImportError::Input { input: input.to_string(), source: error };
        match choice.parser {
            Some(mut parser) => self.read_lines(&source, opened.reader, &mut *parser, &failed)?,
            None => self.read_records(&source, opened.reader, &failed)?,
        }
        let lines = self.lines - before;
        self.inputs.push(InputReport { source, format: Some(format), decision, lines });
        Ok(())
    }

    fn read_lines(
        &mut self,
        source: &str,
        reader: Box<dyn BufRead>,
        parser: &mut dyn LineParser,
        failed: &dyn Fn(std::io::Error) -> ImportError,
    ) -> Result<(), ImportError> {
        let mut lines = Lines::new(reader, self.options.bounds.line_bytes_max);
        while let Some((number, line)) = lines.next().map_err(failed)? {
            self.count_line();
            let (raw, parsed) = match line {
                Line::Whole(line) => (line, parser.parse(line)),
                Line::TooLong(head) => (head, Err(Reason::LineTooLong)),
            };
            let outcome = match parsed {
                Ok(Parsed::Record(record)) => self.keep(&record)?,
                Ok(Parsed::Skipped(skip)) => {
                    *self.skipped.entry(skip).or_default() += 1;
                    Ok(())
                }
                Ok(Parsed::Header) => Ok(()),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = outcome {
                self.rejects.push(source, number, reason, raw, parser.client(raw).as_deref())?;
            }
        }
        Ok(())
    }

    fn read_records(
        &mut self,
        source: &str,
        reader: Box<dyn BufRead>,
        failed: &dyn Fn(std::io::Error) -> ImportError,
    ) -> Result<(), ImportError> {
        let mut records = Records::new(reader, &self.options.key_prefix, self.options.start);
        loop {
            let (number, outcome) = match records.next().map_err(failed)? {
                Next::Record(number, record) => (number, self.keep(&record)?),
                Next::Truncated(number) => (number, Err(Reason::Truncated)),
                Next::End => return Ok(()),
            };
            self.count_line();
            if let Err(reason) = outcome {
                self.rejects.push(source, number, reason, b"", None)?;
            }
        }
    }

    fn keep(&mut self, record: &Record<'_>) -> Result<Result<(), Reason>, ImportError> {
        let row = match self.catalog.row(record)? {
            Ok(row) => row,
            Err(reason) => return Ok(Err(reason)),
        };
        self.sorter.push(row).map_err(|source| ImportError::output(&self.spill_folder, source))?;
        self.kept += 1;
        Ok(Ok(()))
    }

    fn count_line(&mut self) {
        self.lines += 1;
        if self.lines.is_multiple_of(PROGRESS_EVERY) {
            (self.progress)(Progress::Reading(self.lines));
        }
    }

    /// Refuses an import that read too little or rejected too much.
    fn check(&mut self) -> Result<(), ImportError> {
        self.rejects.flush()?;
        let (rejected, lines, max_share) = (self.rejects.total(), self.lines, self.options.max_reject_share);
        if rejected as f64 > max_share * lines as f64 {
            let reasons = self.rejects.counts().into_iter().map(|(reason, count)| format!("{reason}: {count}"));
            let rejects = self.options.rejects_path.display().to_string();
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            return Err(ImportError::TooManyRejects { rejected, lines, max_share, reasons, rejects });
        }
        if self.kept == 0 {
            return Err(ImportError::NothingKept { lines, skipped: self.skipped.values().sum(), rejected });
        }
        Ok(())
    }

    fn write(mut self, out: &Path) -> crate::Result<ImportReport> {
        let sizes = std::mem::take(&mut self.catalog.sizes).settle(self.options.default_size_bytes)?;
        let (reordered, spilled_runs) = (self.sorter.late_count(), self.sorter.run_count());
        let failed = |source| ImportError::output(&self.spill_folder, source);
        let mut sorted = self.sorter.into_sorted().map_err(failed)?;
        let mut writer = create(out, self.catalog.has_ranges)?;
        let mut event = blank_event();
        let mut written = 0;
        while let Some(row) = sorted.next().map_err(failed)? {
            let size_bytes = row.size_bytes.unwrap_or_else(|| sizes.of(row.key.0));
            fill(&mut event, &row, size_bytes, &self.catalog);
            writer.push(&event)?;
            written += 1;
            if u64::is_multiple_of(written, PROGRESS_EVERY) {
                (self.progress)(Progress::Writing(written));
            }
        }
        let Summary { files, first, last, row_count, .. } = writer.finish()?;
        Ok(ImportReport {
            schema: ImportReport::SCHEMA,
            inputs: self.inputs,
            output: out.to_owned(),
            files,
            lines: self.lines,
            requests: row_count,
            skipped: self.skipped.iter().map(|(skip, count)| (skip.to_string(), *count)).collect(),
            rejected: self.rejects.total(),
            reject_reasons: self.rejects.counts(),
            rejects_file: self.rejects.path().map(Path::to_owned),
            clients: self.catalog.pseudonyms().len(),
            keys: self.catalog.keys.len(),
            regions: self.catalog.regions.iter().map(|(_, name)| name.to_string()).collect(),
            first: rfc3339(first),
            last: rfc3339(last),
            sizes: SizeReport {
                partial_keys: sizes.partial_count,
                unknown_keys: sizes.unknown_count,
                default_bytes: sizes.default_bytes,
            },
            reordered,
            spilled_runs,
        })
    }
}

/// Lines between two calls for progress.
const PROGRESS_EVERY: u64 = 16_384;

fn create(out: &Path, optional_columns: bool) -> crate::Result<LogWriter> {
    let one_file = out.extension().is_some_and(|extension| extension == "parquet");
    let options = WriteOptions { partition_by_date: !one_file, optional_columns, ..WriteOptions::default() };
    LogWriter::create(out, options)
}

/// Where sorted runs go: beside the output, which has room for about as much.
fn spill_folder(out: &Path) -> PathBuf {
    match out.parent() {
        Some(parent) if parent.is_dir() => parent.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// Removes the rejects of an earlier run, which would look like this one's.
fn remove_stale(path: &Path) -> Result<(), ImportError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ImportError::output(path, error)),
        _ => Ok(()),
    }
}

fn blank_event() -> RequestEvent {
    RequestEvent {
        timestamp: crate::Timestamp::default(),
        client: String::new(),
        region: String::new(),
        key: String::new(),
        size_bytes: 0,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}

/// Gives the event the row's content, reusing its strings.
fn fill(event: &mut RequestEvent, row: &Row, size_bytes: u64, catalog: &Catalog<'_>) {
    event.timestamp = row.timestamp;
    event.size_bytes = size_bytes;
    event.range = row.range;
    let names = [
        (&mut event.client, catalog.pseudonyms().name(row.client.0)),
        (&mut event.region, catalog.regions.name(u32::from(row.region.0))),
        (&mut event.key, catalog.keys.name(row.key.0)),
    ];
    for (text, name) in names {
        text.clear();
        text.push_str(name.map_or("", |name| name));
    }
}
