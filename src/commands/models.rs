//! `nearcast models`: looks after the registry.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use nearcast_datasets::rfc3339;
use nearcast_models::{Manifest, Registry, VersionName, VersionSummary};
use serde::Serialize;

use crate::output::Output;

/// Arguments of `nearcast models`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The registry: a directory or a URL (s3, gs, az, file).
    #[arg(long, global = true, env = "NEARCAST_REGISTRY", default_value = "models")]
    registry: String,
    #[command(subcommand)]
    action: Action,
}

/// What to do with the registry.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Shows every version and the aliases that point at it.
    List,
    /// Shows where a version comes from, how it did and what it consists of.
    Show {
        /// A version such as v0001, or an alias.
        name: String,
    },
    /// Reads every byte of a version and compares it with its manifest.
    Verify {
        /// A version such as v0001, or an alias.
        name: String,
    },
    /// Points an alias such as `champion` at a version, in one atomic step.
    Alias {
        /// The alias: lower-case letters, digits and `-`.
        alias: String,
        /// A version such as v0001, or another alias.
        name: String,
    },
    /// Deletes a version that no alias points at.
    Delete {
        /// A version such as v0001; aliases are not taken, so that nobody deletes what they did not name.
        name: VersionName,
    },
}

const EXAMPLES: &str = "\
Examples:
  nearcast models list --registry models/
  nearcast models show champion --registry s3://bucket/models --json
  nearcast models alias champion v0002";

/// The `--json` document of every action that is not `list`.
#[derive(Debug, Serialize)]
struct VersionDocument {
    schema: &'static str,
    registry: String,
    action: &'static str,
    version: VersionName,
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<serde_json::Value>,
    #[serde(skip)]
    card: Option<String>,
}

/// The `--json` document of `list`.
#[derive(Debug, Serialize)]
struct ListDocument {
    schema: &'static str,
    registry: String,
    versions: Vec<VersionSummary>,
}

/// Lists, shows, verifies, aliases and deletes model versions.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let registry = Registry::open(&args.registry)?;
    match args.action {
        Action::List => {
            let versions = registry.list()?;
            let document = ListDocument { schema: "nearcast.models/1", registry: args.registry, versions };
            output.show(&document, list_text)?;
        }
        Action::Show { name } => {
            let (version, model) = registry.load(&name)?;
            let document = VersionDocument {
                metrics: Some(model.metrics),
                card: Some(model.card),
                ..document(&registry, "show", version, Some(model.manifest))?
            };
            output.show(&document, show_text)?;
        }
        Action::Verify { name } => {
            let version = registry.resolve(&name)?;
            let manifest = registry.verify(version)?;
            let document = document(&registry, "verify", version, Some(manifest))?;
            output.show(&document, |document| {
                let files = document.manifest.as_ref().map_or(0, |manifest| manifest.files.len());
                format!("{version} is whole: {files} files match their hashes")
            })?;
        }
        Action::Alias { alias, name } => {
            let version = registry.resolve(&name)?;
            registry.alias(&alias, version)?;
            let document = document(&registry, "alias", version, None)?;
            output.show(&document, |_| format!("{alias} is now {version}"))?;
        }
        Action::Delete { name: version } => {
            registry.delete(version)?;
            let document = document(&registry, "delete", version, None)?;
            output.show(&document, |_| format!("{version} is deleted"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn document(
    registry: &Registry,
    action: &'static str,
    version: VersionName,
    manifest: Option<Manifest>,
) -> anyhow::Result<VersionDocument> {
    let aliases = registry.aliases()?.into_iter().filter(|(_, target)| *target == version);
    Ok(VersionDocument {
        schema: "nearcast.model-version/1",
        registry: registry.location().to_owned(),
        action,
        version,
        aliases: aliases.map(|(alias, _)| alias).collect(),
        manifest,
        metrics: None,
        card: None,
    })
}

fn list_text(document: &ListDocument) -> String {
    if document.versions.is_empty() {
        return format!("no version in {} yet; `nearcast train` publishes one", document.registry);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["version", "aliases", "created", "trained on", "requests", "bytes"]);
    for VersionSummary { version, aliases, manifest } in &document.versions {
        let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
        table.add_row([
            version.to_string(),
            aliases.join(", "),
            rfc3339(manifest.created),
            format!("{} to {}", rfc3339(manifest.training.first), rfc3339(manifest.training.last)),
            manifest.training.requests.to_string(),
            bytes.to_string(),
        ]);
    }
    table.trim_fmt()
}

fn show_text(document: &VersionDocument) -> String {
    let mut text = document.card.clone().unwrap_or_default();
    if let Some(manifest) = &document.manifest {
        let aliases = if document.aliases.is_empty() { "none".to_owned() } else { document.aliases.join(", ") };
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for (name, file) in &manifest.files {
            table.add_row([name.clone(), file.bytes.to_string(), file.blake3.clone()]);
        }
        text = format!(
            "{}\n\nversion  {}\naliases  {aliases}\ncreated  {} by nearcast {}, seed {}\n\n{}",
            text.trim_end(),
            document.version,
            rfc3339(manifest.created),
            manifest.code_version,
            manifest.seed,
            table.trim_fmt(),
        );
    }
    text
}
