//! The Kubernetes manifests agree with the configurations that they mount and with what processes answer.

use std::{fs, process::Command};

use crate::{
    configs,
    containers::{is_healthy, services},
    files::{deploy, port, read, table, value, values},
};

#[test]
fn manifests_and_configurations_name_the_same_ports_and_folders() {
    for (service, file) in [("node", "kubernetes/node.toml"), ("predictor", "kubernetes/predictor.toml")] {
        let (text, config) = (read(&format!("kubernetes/{service}.yaml")), table(file));
        let mut ports: Vec<&str> =
            ["listen", "http_listen"].into_iter().filter_map(|key| Some(port(config.get(key)?.as_str()?))).collect();
        assert_eq!(values(&text, "containerPort:"), ports);
        let scraped = ports.pop().expect("a port");
        assert_eq!(value(&text, "prometheus.io/port: "), scraped);
        let mounts = values(&text, "mountPath:");
        let is_mounted = |path: &str| mounts.iter().any(|mount| path.starts_with(mount.as_str()));
        assert!(is_mounted(config["data_dir"].as_str().expect("text")), "{mounts:?}");
        let token = config.get("admin_token_file").or_else(|| config.get("front")?.get("admin_token_file"));
        let token = token.and_then(|token| token.as_str()).expect("a token");
        assert!(is_mounted(token), "{token} in {mounts:?}");
        let key = token.rsplit_once('/').expect("a path").1;
        assert!(read("kubernetes/predictor.yaml").contains(&format!("--from-file={key}=")), "{key}");
        assert!(text.contains(&format!(
            "args: [{}-c, /etc/nearcast/{service}.toml]",
            if service == "node" { "" } else { "predictor, " }
        )));
        assert!(read("kubernetes/kustomization.yaml").contains(&format!("files: [{service}.toml]")));
    }
}

#[test]
fn every_node_gets_a_name_and_an_address_of_its_own() {
    let (text, config) = (read("kubernetes/node.yaml"), read("kubernetes/node.toml"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (template, rendered) = (folder.path().join("template"), folder.path().join("node.toml"));
    fs::write(&template, &config).expect("writable");
    let line =
        text.lines().map(str::trim).find(|line| line.starts_with("sed ")).expect("the line of the init container");
    let line = line
        .replace("/etc/nearcast-template/node.toml", template.to_str().expect("UTF-8"))
        .replace("/etc/nearcast/node.toml", rendered.to_str().expect("UTF-8"));
    let status = Command::new("sh").args(["-ec", &line]).env("POD", "node-7").status().expect("sh is there");
    assert!(status.success());
    let rendered = fs::read_to_string(&rendered).expect("it was written");
    let output = configs::check(folder.path(), "node", &rendered);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("be node-7 in region eu"), "{said}");
    // The headless service that gives each pod its name.
    let namespace = value(&read("kubernetes/kustomization.yaml"), "namespace:");
    let service = value(&text, "serviceName:");
    let address = format!("http://node-7.{service}.{namespace}.svc:8080");
    assert!(said.contains(&address), "{said} does not say {address}");
    assert!(text.contains(&format!("name: {service}\nspec:\n  clusterIP: None\n")), "{service} is not headless");
    let url = table("kubernetes/node.toml")["predictor"]["url"].as_str().expect("text").to_owned();
    let predictor = read("kubernetes/predictor.yaml");
    assert!(predictor.contains(&format!("{{name: grpc, port: {}, ", port(&url))));
    assert_eq!(url, format!("http://{}:{}", value(&predictor, "serviceName:"), port(&url)));
}

#[test]
fn probes_and_scrapes_are_answered() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, predictor, _origin) = services(folder.path());
    for (service, url) in [("node", node.ready.as_str()), ("predictor", predictor.addresses().0)] {
        let text = read(&format!("kubernetes/{service}.yaml"));
        let paths: Vec<String> = ["{path:", "prometheus.io/path: "].iter().flat_map(|key| values(&text, key)).collect();
        assert_eq!(paths.len(), 4, "{paths:?}");
        for path in paths {
            assert!(is_healthy(url, &path), "{service} does not answer {path}");
        }
    }
    for entry in fs::read_dir(deploy("kubernetes")).expect("a folder") {
        let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
        let is_used = name == "kustomization.yaml" || read("kubernetes/kustomization.yaml").contains(&name);
        assert!(is_used, "kustomization.yaml leaves out {name}");
    }
}
