//! The tools that will read what deploy/ ships take it: hadolint, docker compose, kubectl's kustomize and the schemas of
//! Kubernetes. Those that are not there are said to be skipped; `.ci/run` installs the Python ones below target.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::files::{deploy, root};

/// A tool: in the folder `NEARCAST_DEPLOY_TOOLS`, where it must be when that is set, below target, or the system's.
fn tool(name: &str) -> Option<PathBuf> {
    if let Some(folder) = env::var_os("NEARCAST_DEPLOY_TOOLS") {
        let demanded = Path::new(&folder).join(name);
        assert!(demanded.exists(), "NEARCAST_DEPLOY_TOOLS has no {name}");
        return Some(demanded);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let below_target = root().join("target/deploy-tools/bin");
    std::iter::once(below_target)
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|tool| tool.exists())
}

/// Runs a tool, or says that it is skipped. Returns what it wrote.
#[expect(clippy::print_stdout, reason = "a test that skips something says so")]
fn take(name: &str, tool: Option<PathBuf>, arguments: &[&str]) -> Option<String> {
    let Some(tool) = tool else {
        println!("skipped: no {name}; install deploy/requirements.txt, or set NEARCAST_DEPLOY_TOOLS");
        return None;
    };
    let output = Command::new(tool).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let wrote = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {said}{wrote}");
    Some(wrote)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn hadolint_finds_nothing_in_the_containerfile() {
    take("hadolint", tool("hadolint"), &[text(&deploy("container/Containerfile"))]);
}

#[test]
fn docker_compose_takes_the_compose_file() {
    let file = deploy("container/compose.yaml");
    take("docker-compose", tool("docker-compose"), &["-f", text(&file), "config", "--quiet"]);
}

#[test]
fn kubernetes_takes_the_manifests() {
    let kubectl = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("kubectl"))
        .find(|tool| tool.exists());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifests = if kubectl.is_some() {
        take("kubectl", kubectl, &["kustomize", text(&deploy("kubernetes"))]).expect("it ran")
    } else {
        println!("no kubectl: the manifests are checked without their kustomization");
        ["namespace", "predictor", "node", "network"]
            .map(|name| fs::read_to_string(deploy("kubernetes").join(format!("{name}.yaml"))).expect("readable"))
            .join("\n---\n")
    };
    let path = folder.path().join("manifests.yaml");
    fs::write(&path, manifests).expect("writable");
    take("kubernetes-validate", tool("kubernetes-validate"), &["--strict", text(&path)]);
}
