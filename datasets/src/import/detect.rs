//! Chooses how to read an input by trying its beginning.

use super::{
    access_log::AccessLog,
    columns::ColumnMap,
    delimited::{self, Delimited},
    error::ImportError,
    input::{Line, Lines, SAMPLE_BYTES},
    json_lines::{self, JsonLines},
    options::{Format, ImportOptions},
    oracle_general,
    record::{LineParser, Parsed},
};

/// How an input will be read.
pub(crate) struct Choice {
    pub(crate) format: Format,
    /// Why, in words for the user.
    pub(crate) decision: String,
    /// Reads its lines; `None` for binary records.
    pub(crate) parser: Option<Box<dyn LineParser>>,
}

/// Chooses by what the user said, else by which format fits the sample.
pub(crate) fn choose(input: &str, sample: &[u8], options: &ImportOptions) -> Result<Choice, ImportError> {
    match options.format {
        Some(format) => named(format, sample, options),
        None => detect(input, sample, options),
    }
}

fn named(format: Format, sample: &[u8], options: &ImportOptions) -> Result<Choice, ImportError> {
    let (parser, decision): (Option<Box<dyn LineParser>>, _) = match format {
        Format::OracleGeneral => (None, "records of 24 bytes".to_owned()),
        Format::Delimited => {
            let delimiter = options.delimiter.or_else(|| best_delimiter(sample, options)).unwrap_or(b',');
            let columns = columns_or(options, || delimited::guess(first_line(sample), delimiter))?;
            let decision = format!("fields separated by '{}', {columns}", char::from(delimiter).escape_default());
            (Some(delimited_parser(delimiter, columns, options)), decision)
        }
        Format::Jsonl => {
            let first = json_lines::object(first_line(sample));
            let columns = columns_or(options, || first.map(|first| json_lines::guess(&first)).unwrap_or_default())?;
            let decision = columns.to_string();
            (Some(Box::new(JsonLines::new(columns, options.field_rules()))), decision)
        }
        Format::Combined => (Some(access_parser(format, options)), "with referer and user agent".to_owned()),
        Format::Common => (Some(access_parser(format, options)), "without referer and user agent".to_owned()),
    };
    Ok(Choice { format, decision, parser })
}

fn detect(input: &str, sample: &[u8], options: &ImportOptions) -> Result<Choice, ImportError> {
    let mut tried = Vec::new();
    if sample.starts_with(b"PAR1") {
        tried.push("  parquet: this is a Parquet file; if it is a request log already, it needs no import".to_owned());
    }
    match oracle_general::fits(sample) {
        Ok(count) => {
            let decision = format!("all {count} sampled records have sound links to their successors");
            return Ok(Choice { format: Format::OracleGeneral, decision, parser: None });
        }
        Err(problem) => tried.push(format!("  {}: {problem}", Format::OracleGeneral)),
    }
    for format in [Format::Jsonl, Format::Combined, Format::Common, Format::Delimited] {
        let choice = named(format, sample, options).map_err(|error| error.to_string());
        match choice.and_then(|mut choice| Ok((try_lines(&mut choice, sample)?, choice.decision))) {
            Ok((fit, decision)) => {
                // A parser of its own: the one that was tried has learned from the sample.
                return Ok(Choice { decision: format!("{decision}; {fit}"), ..named(format, sample, options)? });
            }
            Err(problem) => tried.push(format!("  {format}: {problem}")),
        }
    }
    Err(ImportError::Unrecognised { input: input.to_owned(), tried: tried.join("\n") })
}

/// Reads the sample; says how many of its lines fit when they are enough.
fn try_lines(choice: &mut Choice, sample: &[u8]) -> Result<String, String> {
    let parser = choice.parser.as_deref_mut().ok_or("not text")?;
    let trial = Trial::of(parser, sample);
    let fit = format!("{} of {} sampled lines fit", trial.fitting, trial.lines);
    if trial.fitting > 0 && trial.fitting as f64 >= FITTING_SHARE_MIN * trial.lines as f64 {
        return Ok(fit);
    }
    Err(match trial.first_problem {
        Some((line, reason)) => format!("{fit}; line {line}: {reason}"),
        None => fit,
    })
}

/// How well a parser reads a sample.
#[derive(Debug, Default)]
struct Trial {
    lines: usize,
    fitting: usize,
    first_problem: Option<(u64, &'static str)>,
}

impl Trial {
    fn of(parser: &mut dyn LineParser, sample: &[u8]) -> Self {
        let mut trial = Self::default();
        // The last line of a full sample is cut.
        let end = if sample.len() < SAMPLE_BYTES { sample.len() } else { last_line_end(sample) };
        let mut lines = Lines::new(&sample[..end], SAMPLE_BYTES);
        while let Ok(Some((number, Line::Whole(line)))) = lines.next() {
            match parser.parse(line) {
                Ok(Parsed::Header) => continue,
                Ok(Parsed::Record(_) | Parsed::Skipped(_)) => trial.fitting += 1,
                Err(reason) => {
                    trial.first_problem.get_or_insert((number, reason.as_str()));
                }
            }
            trial.lines += 1;
        }
        trial
    }
}

/// Lines of a sample that must fit: access logs may start with a burst of nonsense.
const FITTING_SHARE_MIN: f64 = 0.8;

const DELIMITERS: [u8; 5] = [b'\t', b',', b';', b'|', b' '];

fn best_delimiter(sample: &[u8], options: &ImportOptions) -> Option<u8> {
    let fitting = |delimiter: &u8| {
        let guess = || delimited::guess(first_line(sample), *delimiter);
        let columns = columns_or(options, guess).ok()?;
        Some(Trial::of(&mut *delimited_parser(*delimiter, columns, options), sample).fitting)
    };
    let best = DELIMITERS.into_iter().rev().max_by_key(|delimiter| fitting(delimiter).unwrap_or(0))?;
    (fitting(&best)? > 0).then_some(best)
}

fn columns_or(options: &ImportOptions, guess: impl FnOnce() -> ColumnMap) -> Result<ColumnMap, ImportError> {
    let columns = if options.columns.is_empty() { guess() } else { options.columns.clone() };
    match columns.missing() {
        Some(column) => Err(ImportError::MissingColumn { column }),
        None => Ok(columns),
    }
}

fn delimited_parser(delimiter: u8, columns: ColumnMap, options: &ImportOptions) -> Box<dyn LineParser> {
    Box::new(Delimited::new(delimiter, columns, options.header, options.field_rules()))
}

fn access_parser(format: Format, options: &ImportOptions) -> Box<dyn LineParser> {
    let combined = format == Format::Combined;
    Box::new(AccessLog { combined, filter: options.filter.clone(), key_rule: options.key_rule })
}

fn first_line(sample: &[u8]) -> &[u8] {
    let sample = sample.strip_prefix(b"\xef\xbb\xbf").unwrap_or(sample);
    let lines = sample.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.into_iter().find(|line| !line.is_empty()).unwrap_or_default()
}

fn last_line_end(sample: &[u8]) -> usize {
    sample.iter().rposition(|byte| *byte == b'\n').map_or(sample.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PseudonymKey;

    fn check(sample: &[u8], columns: &str, expected: Result<Format, &[&str]>) {
        let mut options = ImportOptions::new(PseudonymKey::from_secret(b"test"), "unused".into());
        if !columns.is_empty() {
            options.columns = columns.parse().unwrap();
        }
        let found = choose("a.log", sample, &options).map(|choice| choice.format).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(parts)) => parts.iter().for_each(|part| assert!(error.contains(part), "{part}: {error}")),
            (found, expected) => panic!("found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn knows_formats_by_their_content() {
        let common = r#"192.0.2.7 - - [05/Mar/2024:10:20:30 +0100] "GET / HTTP/1.1" 200 8"#;
        check(common.as_bytes(), "", Ok(Format::Common));
        check(format!("{common} \"-\" \"agent\"\n{common} \"-\" \"agent\"").as_bytes(), "", Ok(Format::Combined));
        check(b"{\"ts\":1,\"uri\":\"/a\"}\n", "", Ok(Format::Jsonl));
        check(b"{\"when\":1,\"what\":\"/a\"}\n", "timestamp=when,key=what", Ok(Format::Jsonl));
        check(b"url\ttimestamp\n/a\t1\n/b\t2\n", "", Ok(Format::Delimited));
        check(b"1;/a\n2;/b\n", "timestamp=1,key=2", Ok(Format::Delimited));
        check(&oracle_general::encode(5, 9, 1, -1), "", Ok(Format::OracleGeneral));
    }

    #[test]
    fn refusals_list_what_was_tried() {
        let tried = ["combined: 0 of 2", "line 1: missing_field", "jsonl: column timestamp", "delimited:", "--columns"];
        check(b"some prose\nand more\n", "", Err(&tried));
        check(b"PAR1\0\0\0\0", "", Err(&["needs no import"]));
        check(b"", "", Err(&["0 of 0"]));
    }
}
