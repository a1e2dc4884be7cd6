//! What deploy/ ships works with this program: configurations are taken, flags, paths and ports exist, probes are answered,
//! and the tools that will read the files take them.

#[path = "deploy/configs.rs"]
mod configs;
#[path = "deploy/containers.rs"]
mod containers;
#[path = "deploy/docs.rs"]
mod docs;
#[path = "deploy/files.rs"]
mod files;
#[path = "support/http.rs"]
mod http;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/restore.rs"]
mod restore;
#[path = "support/service.rs"]
mod service;
#[path = "deploy/tools.rs"]
mod tools;
#[path = "deploy/units.rs"]
mod units;
#[path = "support/version.rs"]
mod version;
