//! The container files: what they copy, start, publish and probe is there.

use std::{fs, path::Path, process::Command};

use crate::{
    configs,
    files::{deploy, port, read, root, table, values, words},
    service::{LOG, Service, nearcast},
};

const CONTAINERFILE: &str = "container/Containerfile";
const COMPOSE: &str = "container/compose.yaml";

/// The lines of one stage of the Containerfile.
fn stage(name: &str) -> Vec<String> {
    let text = read(CONTAINERFILE);
    let ends = format!(" AS {name}");
    let after = text.lines().skip_while(move |line| !(line.starts_with("FROM ") && line.ends_with(&ends))).skip(1);
    after.take_while(|line| !line.starts_with("FROM ")).map(str::to_owned).collect()
}

/// The words of an instruction in a stage.
fn instruction(lines: &[String], name: &str) -> String {
    let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name} in {lines:?}")).to_owned()
}

/// What a stage starts, as arguments of the CLI.
fn started(lines: &[String]) -> Vec<String> {
    let mut started = words(&instruction(lines, "ENTRYPOINT"));
    match started[0].as_str() {
        "nearcast-node" => "node".clone_into(&mut started[0]),
        program => {
            assert_eq!(program, "nearcast");
            started.remove(0);
        }
    }
    started.extend(words(&instruction(lines, "CMD")));
    started
}

#[test]
fn images_start_what_they_copied_with_flags_that_it_takes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, service, files) in [
        ("node", "node", &["container/node-eu.toml", "container/node-us.toml"][..]),
        ("nearcast", "predictor", &["container/predictor.toml"]),
    ] {
        let lines = stage(name);
        let copied = instruction(&lines, "COPY");
        let program = words(&instruction(&lines, "ENTRYPOINT")).remove(0);
        assert_eq!(copied, format!("--from=build /src/target/dist/{program} /usr/local/bin/{program}"));
        let mut arguments = started(&lines);
        for file in files {
            assert!(configs::check(folder.path(), service, &read(file)).status.success(), "{file}");
            let config = format!("/etc/nearcast/{service}.toml");
            let place = arguments.iter().position(|word| *word == config || word.ends_with("checked.toml"));
            arguments[place.expect("a configuration")] = folder.path().join("checked.toml").display().to_string();
            let given: Vec<&str> = arguments.iter().map(String::as_str).chain(["--check-config"]).collect();
            assert!(nearcast(&given).status().expect("it runs").success(), "{given:?}");
            let config = table(file);
            let ports: Vec<&str> = ["listen", "http_listen"]
                .into_iter()
                .filter_map(|key| Some(port(config.get(key)?.as_str()?)))
                .collect();
            assert_eq!(instruction(&lines, "EXPOSE").split(' ').collect::<Vec<_>>(), ports, "{file}");
            assert_eq!(config["data_dir"].as_str(), Some(instruction(&stage("base"), "VOLUME").as_str()), "{file}");
        }
    }
}

#[test]
fn the_build_has_the_toolchain_and_the_sources_that_it_needs() {
    let text = read(CONTAINERFILE);
    let workspace: toml::Table =
        toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).expect("readable")).expect("TOML");
    let rust = workspace["workspace"]["package"]["rust-version"].as_str().expect("text");
    assert!(text.contains(&format!("FROM rust:{rust}-bookworm AS build")), "the workspace asks for Rust {rust}");
    assert!(workspace["profile"].get("dist").is_some());
    let packages = [("nearcast-cache-node", "cache-node/Cargo.toml"), ("nearcast", "Cargo.toml")];
    for (package, manifest) in packages {
        assert!(text.contains(&format!(" -p {package}")));
        let manifest = fs::read_to_string(root().join(manifest)).expect("readable");
        assert!(manifest.contains(&format!("name = \"{package}\"")));
    }
    assert!(root().join("cache-node/src/bin/nearcast-node.rs").exists());
    let ignored = read("container/Containerfile.dockerignore");
    let members = workspace["workspace"]["members"].as_array().expect("a list").iter();
    let folders = members.map(|member| member.as_str().expect("text").split('/').next().expect("a folder"));
    for needed in folders.chain(["src", "Cargo.toml", "Cargo.lock", "deploy/container/healthy"]) {
        assert!(ignored.lines().any(|line| line == format!("!{needed}")), "{needed} does not reach the build");
        assert!(root().join(needed).exists(), "{needed}");
    }
}

#[test]
fn the_compose_file_mounts_what_is_there_where_it_is_looked_for() {
    let text = read(COMPOSE);
    let mut mounts = 0;
    for line in text.lines().map(|line| line.trim().trim_start_matches("- ").trim_start_matches("volumes: ")) {
        let line = line.trim_matches(['[', ']', '"']);
        let Some((source, target)) = line.strip_suffix(":ro").and_then(|line| line.split_once(':')) else { continue };
        assert!(deploy("container").join(source).is_file(), "{source} is not there");
        let is_started =
            ["node", "nearcast"].into_iter().any(|name| started(&stage(name)).iter().any(|word| word == target));
        assert!(is_started || text.contains(&format!("\"{target}\", \"--listen\"")), "nothing reads {target}");
        mounts += 1;
    }
    assert_eq!(mounts, 4);
    // Nodes find origin and predictor by the names of their services.
    for file in ["container/node-eu.toml", "container/node-us.toml"] {
        let config = table(file);
        let url = |section: &str| config[section]["url"].as_str().expect("text").to_owned();
        let predictor = table("container/predictor.toml")["listen"].as_str().expect("text").to_owned();
        assert_eq!(url("predictor"), format!("http://predictor:{}", port(&predictor)));
        assert!(text.contains(&format!("0.0.0.0:{}", port(&url("origin")))), "the origin listens elsewhere");
        let own = config["advertise_url"].as_str().expect("text");
        let service = own.trim_start_matches("http://").split(':').next().expect("a host");
        for name in [service, "predictor", "origin"] {
            assert!(text.contains(&format!("\n  {name}:\n")), "there is no service {name}");
        }
    }
}

/// Asks as the image's HEALTHCHECK does.
pub(crate) fn is_healthy(url: &str, path: &str) -> bool {
    let healthy = Command::new("bash").arg(deploy("container/healthy")).args([port(url), path]).output();
    healthy.expect("bash is there").status.success()
}

/// A node, a predictor and an origin that run.
pub(crate) fn services(folder: &Path) -> (Service, Service, Service) {
    let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).expect("writable");
        folder.join(name).display().to_string()
    };
    let predictor = write(
        "predictor.toml",
        "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"predictor\"\n".to_owned(),
    );
    let node = write(
        "node.toml",
        format!(
            "name = \"n\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"node\"\ncapacity = \"8MiB\"\n\
             [origin]\nurl = \"{}\"\n",
            origin.ready
        ),
    );
    (Service::start(&["node", "-c", &node]), Service::start(&["predictor", "-c", &predictor]), origin)
}

#[test]
fn health_checks_are_answered_and_tell_the_well_from_the_ill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, predictor, origin) = services(folder.path());
    let check = |name: &str| {
        let line = instruction(&stage(name), "HEALTHCHECK");
        let command = words(line.split_once("CMD ").expect("a command").1);
        assert_eq!((command.len(), command[0].as_str()), (3, "healthy"));
        command[2].clone()
    };
    assert!(is_healthy(&node.ready, &check("node")));
    assert!(is_healthy(predictor.addresses().0, &check("nearcast")));
    let compose = read(COMPOSE);
    let asked = compose.lines().find_map(|line| line.trim().strip_prefix("test: ")).expect("the origin's");
    let asked = words(asked);
    assert_eq!(asked[1], "healthy");
    assert!(is_healthy(&origin.ready, &asked[3]), "{}", asked[3]);
    // What it asks for and does not get, and who is not there.
    assert!(!is_healthy(&node.ready, "/_nearcast/nowhere"));
    let gone = node.ready.clone();
    assert!(node.terminate().success());
    assert!(!is_healthy(&gone, &check("node")));
    assert_eq!(values(&compose, "image:").into_iter().filter(|image| image.starts_with("nearcast")).count(), 3);
}
