//! Reading, writing and splitting request logs, through the public interface.

mod bad_input;
mod merging;
mod read;
mod remote;
mod split;
mod support;
mod write;
