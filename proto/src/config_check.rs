//! What checking a configuration says: that it is valid, and what the service would do with it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// The result of `--check-config`, schema `nearcast.config-check/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigCheck {
    /// Names this document's shape.
    pub schema: &'static str,
    /// The file.
    pub config: PathBuf,
    /// True: a file that is not valid is an error and no document.
    pub valid: bool,
    /// What the service would do, a sentence without a subject each.
    pub would: Vec<String>,
}

impl ConfigCheck {
    /// A file that is valid.
    pub fn passed(config: &Path, would: Vec<String>) -> Self {
        Self { schema: "nearcast.config-check/1", config: config.to_owned(), valid: true, would }
    }
}

impl fmt::Display for ConfigCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is valid; with it, the service would", self.config.display())?;
        self.would.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
