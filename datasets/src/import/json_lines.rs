//! JSON lines: one object a line, fields by dotted path.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    columns::{Column, ColumnMap},
    fields::FieldRules,
    record::{LineParser, Parsed, Reason},
};

/// Reads JSON lines.
#[derive(Clone, Debug)]
pub(crate) struct JsonLines {
    /// Where each column is; empty until guessed from the first object when the user named none.
    columns: ColumnMap,
    rules: FieldRules,
}

impl JsonLines {
    /// A parser of objects in which `columns` names the fields; an empty map means the well-known names.
    pub(crate) fn new(columns: ColumnMap, rules: FieldRules) -> Self {
        Self { columns, rules }
    }
}

impl LineParser for JsonLines {
    fn parse<'a>(&mut self, line: &'a [u8]) -> Result<Parsed<'a>, Reason> {
        let object = object(line)?;
        if self.columns.is_empty() {
            let guessed = guess(&object);
            if guessed.missing().is_some() {
                return Err(Reason::MissingField);
            }
            self.columns = guessed;
        }
        let columns = &self.columns;
        self.rules.record(|column| match columns.field(column).and_then(|path| find(&object, path)) {
            Some(value) => text(value),
            None => Ok(None),
        })
    }

    fn client<'a>(&self, line: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let object = object(line).ok()?;
        let client = text(find(&object, self.columns.field(Column::Client)?)?).ok()??;
        Some(Cow::Owned(client.into_owned().into_bytes()))
    }
}

/// The object that a line holds.
pub(crate) fn object(line: &[u8]) -> Result<Value, Reason> {
    match serde_json::from_slice(line) {
        Ok(object @ Value::Object(_)) => Ok(object),
        _ => Err(Reason::BadJson),
    }
}

/// The columns whose well-known names an object has.
pub(crate) fn guess(object: &Value) -> ColumnMap {
    ColumnMap::guess(|name| find(object, name).is_some())
}

/// The value at a dotted path; a field whose own name holds the dots goes first.
fn find<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    object.get(path).or_else(|| path.split('.').try_fold(object, |value, name| value.get(name)))
}

/// The text of a scalar. It is copied: it may differ from the bytes of the line, and outlives the parsed object.
fn text(value: &Value) -> Result<Option<Cow<'static, str>>, Reason> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Cow::Owned(text.clone()))),
        Value::Number(number) => Ok(Some(Cow::Owned(number.to_string()))),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(Reason::MissingField),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::record::{Record, SizeClue};

    fn parse(columns: &str, line: &str) -> Result<Record<'static>, Reason> {
        let columns = if columns.is_empty() { ColumnMap::default() } else { columns.parse().unwrap() };
        match JsonLines::new(columns, FieldRules::default()).parse(line.to_owned().leak().as_bytes())? {
            Parsed::Record(record) => Ok(record),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn finds_fields_by_dotted_path() {
        let line = r#"{"ts":1700000000.25,"request":{"uri":"/a\u00e9","remote_ip":"192.0.2.1","method":"GET"},"status":200,"size":7}"#;
        let named = parse("timestamp=ts,key=request.uri,client=request.remote_ip,bytes=size", line).unwrap();
        assert_eq!(
            (&*named.key, named.timestamp.micros(), named.size),
            ("/a\u{e9}", 1_700_000_000_250_000, SizeClue::Body(7))
        );
        let guessed = parse("", line).unwrap();
        assert_eq!(guessed, named);
    }

    #[test]
    fn a_field_whose_name_holds_dots_goes_first() {
        assert_eq!(parse("timestamp=t,key=a.b", r#"{"t":1,"a.b":"flat","a":{"b":"deep"}}"#).unwrap().key, "flat");
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        let columns = "timestamp=t,key=k,size=s";
        for (line, reason) in [
            ("{", Reason::BadJson),
            ("[1]", Reason::BadJson),
            ("", Reason::BadJson),
            (r#"{"k":"a"}"#, Reason::MissingField),
            (r#"{"t":"soon","k":"a"}"#, Reason::BadTimestamp),
            (r#"{"t":1,"k":null}"#, Reason::KeyEmpty),
            (r#"{"t":1,"k":["a"]}"#, Reason::MissingField),
            (r#"{"t":1,"k":"a","s":-1}"#, Reason::BadBytes),
        ] {
            assert_eq!(parse(columns, line).unwrap_err(), reason, "{line}");
        }
        assert_eq!(parse("", r#"{"t":1,"k":"a"}"#).unwrap_err(), Reason::MissingField);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for columns in [ColumnMap::default(), "timestamp=t,key=k.x,client=c".parse().unwrap()] {
                let mut parser = JsonLines::new(columns, FieldRules::default());
                let _ = parser.parse(&line);
                let _ = parser.client(&line);
            }
        }
    }
}
