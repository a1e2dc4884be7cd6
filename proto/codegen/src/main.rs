//! Regenerates the checked-in gRPC code.
fn main() {}
