//! The whole loop in processes of their own: origin, predictor with an admin token and a registry, and two nodes.

use std::{fs, path::Path};

use nearcast_models::Registry;
use tempfile::TempDir;

use crate::{
    service::{LOG, Service, nearcast},
    version,
};

/// What runs. Dropped, it is killed.
pub(crate) struct Loop {
    /// The predictor's HTTP address, without a slash at the end.
    pub(crate) http: String,
    pub(crate) grpc: String,
    /// com, then edu.
    pub(crate) nodes: Vec<Service>,
    _predictor: Service,
    _origin: Service,
    _folder: TempDir,
}

impl Loop {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
        publish(folder.path());
        fs::write(folder.path().join("token"), format!("{TOKEN}\n")).expect("writable");
        let predictor = start_predictor(folder.path());
        let (http, grpc) = predictor.addresses();
        let (http, grpc) = (http.trim_end_matches('/').to_owned(), grpc.to_owned());
        let nodes = ["com", "edu"].map(|region| start_node(folder.path(), region, &origin.ready, &grpc));
        Self { http, grpc, nodes: nodes.into(), _predictor: predictor, _origin: origin, _folder: folder }
    }

    /// Plays the beginning of the bundled log.
    pub(crate) fn play(&self, requests: u32) {
        let mut command = nearcast(&["load", LOG, "--limit", &requests.to_string(), "--speed", "400", "--to"]);
        for (region, node) in ["com", "edu"].iter().zip(&self.nodes) {
            command.arg(format!("{region}={}", node.ready));
        }
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Publishes a small version as the champion.
fn publish(folder: &Path) {
    version::save(&folder.join("version"), 7).expect("a version");
    let registry = Registry::open(&folder.join("models").to_string_lossy()).expect("a registry");
    let name = registry.publish(&folder.join("version")).expect("published");
    registry.alias("champion", name).expect("an alias");
}

fn start_predictor(folder: &Path) -> Service {
    let config = folder.join("predictor.toml");
    let text = "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"predictor\"\n\
                registry = \"models\"\nadmin_token_file = \"token\"\n\
                [page]\nsample_seconds = 0.5\n[engine]\nbudget_share = 1.0\n";
    fs::write(&config, text).expect("writable");
    Service::start(&["predictor", "-c", config.to_str().expect("UTF-8")])
}

fn start_node(folder: &Path, region: &str, origin: &str, predictor: &str) -> Service {
    let config = folder.join(format!("{region}.toml"));
    let text = format!(
        "name = \"{region}-1\"\nregion = \"{region}\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{region}\"\n\
         capacity = \"4MiB\"\nsegment_size = \"1MiB\"\n[origin]\nurl = \"{origin}\"\n[predictor]\nurl = \"{predictor}\"\n"
    );
    fs::write(&config, text).expect("writable");
    Service::start(&["node", "-c", config.to_str().expect("UTF-8")])
}

/// The word that changes something.
pub(crate) const TOKEN: &str = "open sesame";
