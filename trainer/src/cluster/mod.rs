//! Features on a Ballista cluster: the scheduler, the executors, and the trainer's side.
//!
//! The trainer codes the log, puts it where every executor can read it, and submits its plans: SQL as it is, and one
//! job per part of the operator that counts co-access (`operator`). A part that is lost with its executor is counted
//! again elsewhere. All three run the same binary, so that all know the operator; jobs of another version are refused.

mod client;
mod codec;
mod operator;
mod services;
mod stores;

pub use self::services::{ExecutorOptions, run_executor, run_scheduler};
pub(crate) use self::{client::Cluster, operator::PairsJob};
