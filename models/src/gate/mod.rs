//! The gate: whether a candidate is worth its bytes, learned online from what became of earlier ones.

mod config;
pub mod features;
mod ftrl;
mod hidden;

pub use config::GateConfig;
pub use features::{GATE_FEATURE_COUNT, GateFeatures};
pub use ftrl::{Gate, GateState};
pub use hidden::HiddenState;
