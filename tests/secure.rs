//! The commands that operate nodes, against a node that speaks TLS and knows whom it trusts.

#[path = "support/service.rs"]
mod service;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::service::{LOG, Service, nearcast};

/// A CA, and a pair for this machine that it signed.
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

fn issue(folder: &Path, name: &str) -> Files {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let own = authority.self_signed(&authority_key).expect("a certificate");
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("valid names");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).expect("a certificate");
    let path = |end: &str| folder.join(format!("{name}.{end}"));
    let files = Files { ca: path("ca.crt"), certificate: path("crt"), key: path("key") };
    fs::write(&files.ca, own.pem()).expect("writable");
    fs::write(&files.certificate, certificate.pem()).expect("writable");
    fs::write(&files.key, key.serialize_pem()).expect("writable");
    files
}

fn run(command: &str, node: &Service, more: &[&str]) -> Output {
    nearcast(&[command, "--to", &node.ready]).args(more).output().expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_node_with_tls_is_operated_by_those_whom_it_knows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (known, stranger) = (issue(folder.path(), "known"), issue(folder.path(), "stranger"));
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

    let trusting = ["--ca".to_owned(), path(&known.ca)];
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
