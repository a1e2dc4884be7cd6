//! The types that travel, generated from `nearcast/v1/predictor.proto`; only [`convert`](crate::convert) and gRPC shells
//! may touch them.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::match_wildcard_for_single_variants,
    clippy::missing_errors_doc,
    clippy::needless_pass_by_value,
    clippy::str_to_string,
    clippy::too_many_lines,
    clippy::use_self,
    reason = "generated code; which of these it breaks changes with the generator"
)]

include!("nearcast.v1.rs");

/// The encoded descriptors of the contract, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("nearcast.v1.bin");
