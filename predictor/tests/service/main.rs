//! The running service, seen from outside: a real server in the process, on free ports, and test nodes that connect to
//! it over gRPC.

mod experiments;
mod fleet;
mod fleet_experiments;
mod fleet_placement;
mod harness;
mod membership;
mod models;
#[path = "../../../tests/support/nats.rs"]
mod nats;
mod operation;
mod page;
mod placement;
#[path = "../../../tests/support/port.rs"]
mod port;
mod purge;
mod streams;
