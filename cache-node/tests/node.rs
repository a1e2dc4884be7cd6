//! A whole node with real sockets, against a small origin, peers and a small predictor.

#[path = "node/ca.rs"]
mod ca;
#[path = "node/origin.rs"]
mod origin;
#[path = "node/pki.rs"]
mod pki;
#[path = "node/predictor.rs"]
mod predictor;
#[path = "../../tests/support/promtool.rs"]
mod promtool;
#[path = "../../tests/support/python.rs"]
mod python;
#[path = "node/raw.rs"]
mod raw;
#[path = "node/running.rs"]
mod running;

#[path = "node/access_log.rs"]
mod access_log;
#[path = "node/bounds.rs"]
mod bounds;
#[path = "node/caching.rs"]
mod caching;
#[path = "node/clients.rs"]
mod clients;
#[path = "node/cluster.rs"]
mod cluster;
#[path = "node/failover.rs"]
mod failover;
#[path = "node/hostile_origin.rs"]
mod hostile_origin;
#[path = "node/http.rs"]
mod http;
#[path = "node/log.rs"]
mod log;
#[path = "node/metrics.rs"]
mod metrics;
#[path = "node/mutual_tls.rs"]
mod mutual_tls;
#[path = "node/operate.rs"]
mod operate;
#[path = "node/placement.rs"]
mod placement;
#[path = "node/process.rs"]
mod process;
#[path = "node/purge.rs"]
mod purge;
#[path = "node/ranges.rs"]
mod ranges;
#[path = "node/recall.rs"]
mod recall;
#[path = "node/reload.rs"]
mod reload;
#[path = "node/restart.rs"]
mod restart;
#[path = "node/smuggling.rs"]
mod smuggling;
#[path = "node/targets.rs"]
mod targets;
#[path = "node/tls.rs"]
mod tls;
