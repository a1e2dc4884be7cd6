//! `nearcast models` as a process, on a registry with two small versions.

mod support {
    pub(crate) mod version;
}

use std::{
    error::Error,
    path::Path,
    process::{Command, Output},
};

use nearcast_models::Registry;
use serde_json::Value;
use support::version;

fn publish(registry: &str, folder: &Path, seed: u64) -> nearcast_models::Result<()> {
    let dir = folder.join(format!("saved-{seed}"));
    version::save(&dir, seed)?;
    Registry::open(registry)?.publish(&dir).map(|_| ())
}

fn models(registry: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.args(["models", "--registry", registry]).args(arguments).output().expect("the command starts")
}

/// The document that a successful action prints.
fn document(registry: &str, arguments: &[&str]) -> Result<Value, Box<dyn Error>> {
    let output = models(registry, &[arguments, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() || !said.is_empty() {
        return Err(format!("{arguments:?}: {said}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a refused action says on stderr; nothing on stdout and exit code 1.
fn refusal(registry: &str, arguments: &[&str]) -> String {
    let output = models(registry, arguments);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn versions_are_listed_shown_verified_aliased_and_deleted() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let registry = folder.path().join("registry").display().to_string();
    assert_eq!(document(&registry, &["list"])?["versions"], Value::Array(Vec::new()));
    publish(&registry, folder.path(), 1)?;
    publish(&registry, folder.path(), 2)?;

    assert_eq!(document(&registry, &["alias", "champion", "v0001"])?["aliases"][0], "champion");
    let list = document(&registry, &["list"])?;
    assert_eq!(list["schema"], "nearcast.models/1");
    assert_eq!(
        (&list["versions"][0]["version"], &list["versions"][0]["aliases"][0]),
        (&"v0001".into(), &"champion".into())
    );
    let show = document(&registry, &["show", "champion"])?;
    assert_eq!((&show["version"], &show["metrics"]["hr_20"]), (&"v0001".into(), &0.25.into()));
    let shown = String::from_utf8(models(&registry, &["show", "v0002"]).stdout)?;
    assert!(shown.starts_with("# Model of seed 2") && shown.contains("model.safetensors"), "{shown}");

    assert!(refusal(&registry, &["delete", "v0001"]).contains("alias `champion` points at"));
    assert_eq!(document(&registry, &["delete", "v0002"])?["version"], "v0002");
    assert!(refusal(&registry, &["show", "v0002"]).contains("no version or alias `v0002`"));

    assert_eq!(document(&registry, &["verify", "champion"])?["manifest"]["seed"], 1);
    std::fs::write(Path::new(&registry).join("versions/v0001/metrics.json"), "{}")?;
    assert!(refusal(&registry, &["verify", "champion"]).contains("metrics.json of the model artifact"));
    Ok(())
}
