//! The commands that operate nodes, against a node that speaks TLS and knows whom it trusts.

#[path = "../cache-node/tests/node/ca.rs"]
mod ca;
#[path = "support/service.rs"]
mod service;

use std::{fs, path::Path, process::Output};

use crate::{
    ca::{Ca, Pair},
    service::{LOG, Service, nearcast},
};

fn run(command: &str, node: &Service, more: &[&str]) -> Output {
    nearcast(&[command, "--to", &node.ready]).args(more).output().expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_node_with_tls_is_operated_by_those_whom_it_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (known_ca, stranger_ca) = (Ca::new(), Ca::new());
    let ca = known_ca.write(folder.path(), "known.ca.crt");
    let (known, stranger) = (known_ca.issue(folder.path(), "known"), stranger_ca.issue(folder.path(), "stranger"));
    let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
    let config = folder.path().join("node.toml");
    let text = format!(
        "name = \"n\"\nregion = \"com\"\nlisten = \"127.0.0.1:0\"\n\
         data_dir = \"data\"\ncapacity = \"64MiB\"\n[origin]\nurl = \"{}\"\n\
         [tls]\ncertificate = \"known.crt\"\nkey = \"known.key\"\n\
         [peers.tls]\nca = \"known.ca.crt\"\ncertificate = \"known.crt\"\nkey = \"known.key\"\n",
        origin.ready
    );
    fs::write(&config, text).expect("writable");
    let node = Service::start(&["node", "-c", config.to_str().expect("UTF-8")]);
    assert!(node.ready.starts_with("https://"), "{}", node.ready);
    let path = |file: &Path| file.to_str().expect("UTF-8").to_owned();

    let trusting = ["--ca".to_owned(), path(&ca)];
    let known = [
        trusting.to_vec(),
        vec!["--client-certificate".to_owned(), path(&known.certificate), "--client-key".to_owned(), path(&known.key)],
    ]
    .concat();
    let words = |words: &[String], more: &[&str]| -> Vec<String> {
        words.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect()
    };
    let ask = |command: &str, arguments: &[String]| {
        run(command, &node, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    // Whoever does not trust the node's CA asks it nothing.
    let output = ask("stat", &[]);
    assert!(output.status.code() == Some(1) && said(&output).contains("UnknownIssuer"), "{}", said(&output));
    let output = ask("stat", &words(&trusting, &["--json"]));
    assert!(output.status.success() && said(&output).contains("\"node\": \"n\""), "{}", said(&output));

    // Without a certificate that the node knows, and no token, it can only be looked at.
    let purge = ["--key", "/none"];
    let output = ask("purge", &words(&trusting, &purge));
    assert!(output.status.code() == Some(1) && said(&output).contains("401"), "{}", said(&output));
    let output = ask("purge", &words(&known, &purge));
    assert!(output.status.success() && said(&output).contains("n: 0 objects"), "{}", said(&output));
    let output = ask("warm", &words(&known, &["--log", LOG, "--top", "3"]));
    assert!(output.status.success() && said(&output).contains("n: 3 fetched"), "{}", said(&output));
    let strange = [
        "--client-certificate".to_owned(),
        path(&stranger.certificate),
        "--client-key".to_owned(),
        path(&stranger.key),
    ];
    let output = ask("purge", &words(&[trusting.to_vec(), strange.to_vec()].concat(), &purge));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));

    // What is wrong with a file is said before anybody is asked.
    let output = ask("stat", &["--ca".to_owned(), path(&folder.path().join("absent.crt"))]);
    assert!(output.status.code() == Some(1) && said(&output).contains("absent.crt"), "{}", said(&output));
    assert!(node.terminate().success());
    origin.kill();
}

#[test]
fn a_predictor_with_tls_lets_in_only_those_whom_it_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let known_ca = Ca::new();
    let ca = known_ca.write(folder.path(), "known.ca.crt");
    let known = known_ca.issue(folder.path(), "known");
    let config = folder.path().join("predictor.toml");
    let tls = "[tls]\ncertificate = \"known.crt\"\nkey = \"known.key\"\nclient_ca = \"known.ca.crt\"\n";
    let text = format!("listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"p\"\n{tls}");
    fs::write(&config, &text).expect("writable");
    let config = config.to_str().expect("UTF-8");
    assert!(nearcast(&["predictor", "-c", config, "--check-config"]).status().expect("it runs").success());
    let predictor = Service::start(&["predictor", "-c", config]);
    let grpc = predictor.addresses().1;
    assert!(grpc.starts_with("https://"), "{}", predictor.ready);
    let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
    let node = folder.path().join("node.toml");
    let text = format!(
        "name = \"n\"\nregion = \"com\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"data\"\ncapacity = \"64MiB\"\n\
         [origin]\nurl = \"{}\"\n[predictor]\nurl = \"{grpc}\"\n[tls]\ncertificate = \"known.crt\"\nkey = \"known.key\"\n\
         [peers.tls]\nca = \"known.ca.crt\"\ncertificate = \"known.crt\"\nkey = \"known.key\"\n",
        origin.ready
    );
    fs::write(&node, text).expect("writable");
    let node = Service::start(&["node", "-c", node.to_str().expect("UTF-8")]);

    let purge = |who: Option<&Pair>| {
        let mut command = nearcast(&["purge", "--to", &node.ready, "--predictor", grpc, "--key", "/none", "--json"]);
        command.arg("--ca").arg(&ca);
        if let Some(who) = who {
            command.arg("--client-certificate").arg(&who.certificate).arg("--client-key").arg(&who.key);
        }
        command.output().expect("it runs")
    };
    // The node has joined, or joins while the predictor waits for it: either way it is asked, and its epoch is said.
    let output = purge(Some(&known));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(output.status.success() && report["epoch"] == 1, "{}", said(&output));
    assert_eq!(report["nodes"][0]["node"], "n", "{report:#}");
    // The node would let such a one look at it; the predictor does not let it in.
    let output = purge(None);
    assert!(!output.status.success() && said(&output).contains("the predictor at"), "{}", said(&output));
    assert!(node.terminate().success() && predictor.terminate().success());

    // What is wrong with a file is said when the configuration is checked.
    fs::remove_file(&known.key).expect("it is there");
    let output = nearcast(&["predictor", "-c", config, "--check-config"]).output().expect("it runs");
    assert!(output.status.code() == Some(1) && said(&output).contains("known.key"), "{}", said(&output));
}
