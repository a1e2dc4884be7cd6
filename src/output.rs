//! Where results and talk go: data on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// How a command shows its result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether the user asked for one JSON document.
    pub(crate) json: bool,
}

impl Output {
    /// Prints `document` as JSON when asked for, else the text that `text` makes of it.
    pub(crate) fn show<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let rendered = if self.json { serde_json::to_string_pretty(document)? } else { text(document) };
        print(&rendered).map(drop)
    }

    /// Prints one of several documents: a line each as JSON, else the text. False when nobody reads any more.
    pub(crate) fn stream<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<bool> {
        print(&if self.json { serde_json::to_string(document)? } else { text(document) })
    }

    /// As [`Self::stream`], with each text in the place of the one before where there is a terminal.
    pub(crate) fn screen<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<bool> {
        let clear = if !self.json && io::stdout().is_terminal() { CLEAR } else { "" };
        self.stream(document, |document| format!("{clear}{}", text(document)))
    }
}

/// False when nobody reads any more.
fn print(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough, such as `head`, is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).map_err(Into::into),
    }
}

/// Clears the screen and starts at its top.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Sends `tracing` to stderr; `RUST_LOG` overrides the level that `-v` chose.
pub(crate) fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}

/// Says something on stderr that the user should know and that is no error.
pub(crate) fn note(text: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says on stderr what failed and why, one cause per line.
pub(crate) fn report_error(error: &anyhow::Error) {
    let mut stderr = io::stderr().lock();
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(stderr, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(stderr, "  caused by: {cause}");
    }
}
