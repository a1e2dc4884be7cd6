//! Rules on what the workspace depends on.

use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// Licences that a dependency may offer; keep in step with `deny.toml`.
const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that the lean node must not link.
const NOT_IN_NODE: [&str; 5] = ["candle-core", "datafusion", "linfa", "nearcast-models", "nearcast-trainer"];

/// Every breach of a rule, one line each.
pub(crate) fn breaches() -> anyhow::Result<Vec<String>> {
    let mut breaches = unlicensed(&cargo(&["metadata", "--locked", "--format-version", "1"])?)?;
    let tree = ["tree", "--locked", "--package", "nearcast-cache-node", "--edges", "normal", "--prefix", "none"];
    let linked = cargo(&tree)?;
    for name in NOT_IN_NODE {
        if linked.lines().any(|line| line.split(' ').next() == Some(name)) {
            breaches.push(format!("nearcast-node links `{name}`; a cache node is lightweight"));
        }
    }
    Ok(breaches)
}

fn unlicensed(metadata: &str) -> anyhow::Result<Vec<String>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut breaches = Vec::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        if !permitted(licence) {
            breaches.push(format!("{} {} has licence {licence:?}", package["name"], package["version"]));
        }
    }
    Ok(breaches)
}

/// Whether an SPDX expression can be met with permitted licences alone.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let alternative = |part: &str| LICENCES.contains(&part.trim());
    expression.split(" AND ").all(|clause| clause.split(" OR ").any(alternative))
}

fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("cargo").args(arguments).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo's output is not UTF-8")
}
