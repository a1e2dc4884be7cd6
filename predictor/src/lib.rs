//! The predictor: a synchronous decision engine and its gRPC server.
//!
//! [`engine`] decides; it reads no clock and does no I/O, so replay drives the same type as the live service.

pub mod engine;
