//! The project's own rules, checked by reading the tree.

mod dependencies;
mod sources;

use anyhow::bail;

use crate::steps::say;

/// Checks every rule and reports every breach.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut breaches = sources::breaches()?;
    breaches.extend(dependencies::breaches()?);
    for breach in &breaches {
        say(breach);
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{} rule(s) broken", breaches.len()) }
}
