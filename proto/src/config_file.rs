//! Reading of TOML configuration files, with errors that name the nearest known key.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result, error::did_you_mean};

/// Reads and parses a TOML file. `T` should deny unknown fields, so that a misspelt key is an error and not a surprise.
///
/// # Errors
/// [`Error::ReadConfig`] when the file cannot be read, [`Error::ParseConfig`] when it does not say what `T` wants.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::ReadConfig { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Parses the text of a TOML file; `path` is only named in errors.
///
/// # Errors
/// [`Error::ParseConfig`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| Error::ParseConfig { path: path.to_owned(), reason: explain(&error, text) })
}

/// Converts a table that is no file's, such as one that single settings were merged into; `name` stands for it in
/// errors.
///
/// # Errors
/// [`Error::ParseConfig`].
pub fn from_table<T: DeserializeOwned>(name: &Path, table: toml::Table) -> Result<T> {
    let refused = |error: toml::de::Error| Error::ParseConfig { path: name.to_owned(), reason: explain(&error, "") };
    table.try_into().map_err(refused)
}

/// The known name that is closest to `name`, unless none is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Below this the suggestion would be a guess.
const SIMILARITY_MIN: f64 = 0.7;

fn explain(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{place}{}{}", error.message(), did_you_mean(suggestion(error.message())))
}

/// Serde says "unknown field `x`, expected one of `a`, `b`"; this finds which of the latter was meant.
fn suggestion(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        listen: String,
        #[expect(dead_code, reason = "only parsed")]
        registry: Option<String>,
    }

    #[test]
    fn names_file_line_and_nearest_key() {
        let error = parse::<Sample>(Path::new("a.toml"), "listen = \"x\"\nregistri = \"y\"\n").unwrap_err();
        let message = error.to_string();
        for part in ["a.toml", "line 2", "unknown field `registri`", "did you mean `registry`?"] {
            assert!(message.contains(part), "{part} not in: {message}");
        }
    }

    #[test]
    fn suggests_nothing_for_a_name_far_from_all() {
        assert_eq!(nearest("zzz", ["listen", "registry"]), None);
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = load::<Sample>(Path::new("/nonexistent/p.toml")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/p.toml"), "{error}");
    }
}
