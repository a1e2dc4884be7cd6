//! The training pipeline and the trace-driven replay.

pub mod replay;
