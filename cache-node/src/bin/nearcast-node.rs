//! The lean node binary.
fn main() {}
