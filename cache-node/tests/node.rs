//! A whole node with real sockets, against a small origin, peers and a small predictor.

#[path = "node/origin.rs"]
mod origin;
#[path = "node/running.rs"]
mod running;

#[path = "node/http.rs"]
mod http;
#[path = "node/restart.rs"]
mod restart;
