//! The gRPC contract between cache nodes and the predictor.
//!
//! [`message`] holds the domain types that both sides decide with; [`wire`] holds the generated types that travel.
//! [`convert`] is the only place where one becomes the other.

pub mod message;
