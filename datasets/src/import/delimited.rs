//! Delimited text: one record a line, columns by header name or by number, quoted as RFC 4180 has it.

use std::borrow::Cow;

use super::{
    columns::{Column, ColumnMap},
    fields::FieldRules,
    record::{LineParser, Parsed, Reason},
};

/// Reads delimited lines.
#[derive(Clone, Debug)]
pub(crate) struct Delimited {
    delimiter: u8,
    rules: FieldRules,
    layout: Layout,
    spans: Vec<Span>,
}

/// Where the columns are.
#[derive(Clone, Debug)]
enum Layout {
    /// Not known before the header line is read.
    Awaited(ColumnMap),
    /// Column positions, from zero, and whether the next line is a header to leave out.
    Known { places: Vec<(Column, usize)>, skip_header: bool },
}

impl Delimited {
    /// A parser that finds columns by number when all are numbers (`header` then says whether to leave out the first
    /// line), else by the names in the first line.
    pub(crate) fn new(delimiter: u8, columns: ColumnMap, header: bool, rules: FieldRules) -> Self {
        let layout = if columns.is_numbered() {
            let place = |column| Some((column, columns.field(column)?.parse::<usize>().ok()?.checked_sub(1)?));
            Layout::Known { places: Column::ALL.into_iter().filter_map(place).collect(), skip_header: header }
        } else {
            Layout::Awaited(columns)
        };
        Self { delimiter, rules, layout, spans: Vec::new() }
    }

    /// Reads the header line; an empty map means the well-known names.
    fn read_header(&mut self, line: &[u8]) -> Result<(), Reason> {
        let Layout::Awaited(columns) = &self.layout else { return Ok(()) };
        let columns = if columns.is_empty() { guess(line, self.delimiter) } else { columns.clone() };
        let names = header_names(line, self.delimiter);
        let places: Vec<_> = Column::ALL
            .into_iter()
            .filter_map(|column| Some((column, columns.field(column)?)))
            .map(|(column, name)| Some((column, names.iter().position(|found| found == name)?)))
            .collect::<Option<_>>()
            .ok_or(Reason::MissingField)?;
        if columns.missing().is_some() {
            return Err(Reason::MissingField);
        }
        self.layout = Layout::Known { places, skip_header: false };
        Ok(())
    }
}

impl LineParser for Delimited {
    fn parse<'a>(&mut self, line: &'a [u8]) -> Result<Parsed<'a>, Reason> {
        if matches!(self.layout, Layout::Awaited(_)) {
            self.read_header(line)?;
            return Ok(Parsed::Header);
        }
        let Layout::Known { places, skip_header } = &mut self.layout else { return Err(Reason::MissingField) };
        if std::mem::take(skip_header) {
            return Ok(Parsed::Header);
        }
        split(line, self.delimiter, &mut self.spans)?;
        let (places, spans) = (&*places, &*self.spans);
        self.rules.record(|column| {
            let Some((_, place)) = places.iter().find(|(placed, _)| *placed == column) else { return Ok(None) };
            let span = spans.get(*place).ok_or(Reason::MissingField)?;
            span.text(line).map(Some)
        })
    }

    fn client<'a>(&self, line: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let Layout::Known { places, .. } = &self.layout else { return None };
        let (_, place) = places.iter().find(|(column, _)| *column == Column::Client)?;
        // A broken line may not split; its fields are then taken as they come.
        let field = line.split(|byte| *byte == self.delimiter).nth(*place)?;
        Some(Cow::Borrowed(field.trim_ascii()))
    }
}

/// Where one field lies in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    has_quotes: bool,
}

impl Span {
    fn text(self, line: &[u8]) -> Result<Cow<'_, str>, Reason> {
        let text = std::str::from_utf8(&line[self.start..self.end]).map_err(|_| Reason::NotText)?;
        Ok(if self.has_quotes { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) })
    }
}

/// Finds the fields of a line. A field that starts with a quote runs to its closing quote; `""` is a quote inside.
fn split(line: &[u8], delimiter: u8, spans: &mut Vec<Span>) -> Result<(), Reason> {
    spans.clear();
    let mut at = 0;
    loop {
        if line.get(at) == Some(&b'"') {
            let (end, has_quotes) = closing_quote(line, at + 1).ok_or(Reason::OpenQuote)?;
            spans.push(Span { start: at + 1, end, has_quotes });
            at = end + 1;
            if line.get(at).is_some_and(|byte| *byte != delimiter) {
                return Err(Reason::OpenQuote);
            }
        } else {
            let length = line[at..].iter().position(|byte| *byte == delimiter).unwrap_or(line.len() - at);
            spans.push(Span { start: at, end: at + length, has_quotes: false });
            at += length;
        }
        if at >= line.len() {
            return Ok(());
        }
        at += 1;
    }
}

fn closing_quote(line: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    let mut has_quotes = false;
    loop {
        at += line.get(at..)?.iter().position(|byte| *byte == b'"')?;
        if line.get(at + 1) != Some(&b'"') {
            return Some((at, has_quotes));
        }
        has_quotes = true;
        at += 2;
    }
}

/// The names in a header line.
pub(crate) fn header_names(line: &[u8], delimiter: u8) -> Vec<String> {
    let mut spans = Vec::new();
    if split(line, delimiter, &mut spans).is_err() {
        return Vec::new();
    }
    let name = |span: &Span| span.text(line).map(|name| name.trim().to_owned()).unwrap_or_default();
    spans.iter().map(name).collect()
}

/// The columns whose well-known names stand in a header line.
pub(crate) fn guess(line: &[u8], delimiter: u8) -> ColumnMap {
    let names = header_names(line, delimiter);
    ColumnMap::guess(|name| names.iter().any(|found| found == name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::record::{Record, SizeClue, Skip};

    fn records(columns: &str, delimiter: u8, header: bool, lines: &[&str]) -> Vec<Result<Parsed<'static>, Reason>> {
        let columns = if columns.is_empty() { ColumnMap::default() } else { columns.parse().unwrap() };
        let mut parser = Delimited::new(delimiter, columns, header, FieldRules::default());
        lines.iter().map(|line| parser.parse(line.to_string().leak().as_bytes())).collect()
    }

    fn record<'f>(found: &'f Result<Parsed<'static>, Reason>) -> &'f Record<'static> {
        let Ok(Parsed::Record(record)) = found else { panic!("no record: {found:?}") };
        record
    }

    #[test]
    fn finds_columns_by_header_name_in_any_order() {
        let found = records(
            "timestamp=when,key=url,client=who,size=n",
            b',',
            true,
            &["n,url,x,when,who", "7,/a,,12,192.0.2.1"],
        );
        assert_eq!(found[0], Ok(Parsed::Header));
        let row = record(&found[1]);
        assert_eq!((&*row.key, row.timestamp.micros(), row.size), ("/a", 12_000_000, SizeClue::Object(7)));
        assert_eq!(&*row.client, b"192.0.2.1");
    }

    #[test]
    fn finds_columns_by_number_without_a_header() {
        let found = records("timestamp=1,key=3", b'\t', false, &["5\tx\tk\t1"]);
        assert_eq!(&*record(&found[0]).key, "k");
    }

    #[test]
    fn quoted_fields_hold_delimiters_and_quotes() {
        let found =
            records("timestamp=1,key=2,size=3", b',', false, &[r#"1,"a,""b""",3"#, r#"1,"open,3"#, r#"1,"a"b,3"#]);
        assert_eq!(&*record(&found[0]).key, "a,\"b\"");
        assert_eq!(found[1..], [Err(Reason::OpenQuote), Err(Reason::OpenQuote)]);
    }

    #[test]
    fn responses_follow_the_rules_of_access_logs() {
        let lines = [
            "1,/a,200,10,GET",
            "1,/a,304,0,GET",
            "1,/a,404,10,GET",
            "1,/a,200,10,PUT",
            "1,/a,2x0,1,GET",
            "1,/a",
            "1,,200,1,GET",
        ];
        let found = records("timestamp=1,key=2,status=3,bytes=4,method=5", b',', false, &lines);
        assert_eq!((record(&found[0]).size, record(&found[1]).size), (SizeClue::Body(10), SizeClue::None));
        assert_eq!(found[2..4], [Ok(Parsed::Skipped(Skip::Status(404))), Ok(Parsed::Skipped(Skip::Method))]);
        assert_eq!(found[4..], [Err(Reason::BadStatus), Err(Reason::MissingField), Err(Reason::KeyEmpty)]);
    }

    #[test]
    fn a_header_without_a_named_column_is_rejected() {
        assert_eq!(records("timestamp=when,key=url", b',', true, &["time,url"]), [Err(Reason::MissingField)]);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..4)) {
            for columns in [ColumnMap::default(), "timestamp=1,key=2,client=9".parse().unwrap()] {
                let mut parser = Delimited::new(b',', columns, false, FieldRules::default());
                for line in &lines {
                    let _ = parser.parse(line);
                    let _ = parser.client(line);
                }
            }
        }

        #[test]
        fn split_finds_what_was_joined(fields in proptest::collection::vec("[a-z,\"]{0,6}", 1..6)) {
            let line = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
            let mut spans = Vec::new();
            split(line.as_bytes(), b',', &mut spans).unwrap();
            let found: Vec<_> = spans.iter().map(|span| span.text(line.as_bytes()).unwrap().into_owned()).collect();
            prop_assert_eq!(found, fields);
        }
    }
}
