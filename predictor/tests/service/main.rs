//! The running service, seen from outside: a real server in the process, on free ports, and test nodes that connect to
//! it over gRPC.

mod harness;
mod membership;
mod models;
mod operation;
mod page;
mod purge;
mod streams;
