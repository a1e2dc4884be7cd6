//! Reading, writing and splitting request logs, through the public interface.

mod bad_input;
mod read;
mod split;
mod support;
mod write;
