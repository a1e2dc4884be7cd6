//! The training pipeline and the trace-driven replay.
