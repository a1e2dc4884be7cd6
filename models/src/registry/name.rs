//! Names of versions and aliases.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A version's name: `v0001`, `v0002`, … in order of publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VersionName(pub u32);

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{:04}", self.0)
    }
}

impl FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('v').and_then(|digits| digits.parse().ok()).map(Self);
        number
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| format!("`{text}` is no version name such as v0001"))
    }
}

impl From<VersionName> for String {
    fn from(name: VersionName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for VersionName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Whether `name` may be an alias: lower-case letters, digits and `-`, beginning with a letter, no version's form.
pub(crate) fn is_alias(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    begins_well && name.len() <= 64 && name.chars().all(allowed) && name.parse::<VersionName>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_names_round_trip_and_nothing_else_parses() {
        for number in [1, 9_999, 10_000, u32::MAX] {
            assert_eq!(VersionName(number).to_string().parse(), Ok(VersionName(number)));
        }
        for text in ["", "v", "v1", "0001", "v00001", "v-001", "V0001", "v0001 "] {
            assert!(text.parse::<VersionName>().is_err(), "{text}");
        }
    }

    #[test]
    fn aliases_cannot_look_like_versions_or_paths() {
        assert!(is_alias("champion") && is_alias("challenger-2"));
        for name in ["", "v0001", "a/b", "..", "Champion", "-x", "1st"] {
            assert!(!is_alias(name), "{name}");
        }
    }
}
