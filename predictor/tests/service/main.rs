//! The running service, seen from outside: a real server in the process, on free ports, and test nodes that connect to
//! it over gRPC.

mod experiments;
mod harness;
mod membership;
mod models;
mod operation;
mod page;
mod placement;
mod purge;
mod streams;
