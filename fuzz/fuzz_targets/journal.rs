//! `nearcast_cache_node::fuzzing::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nearcast_cache_node::fuzzing::journal(data));
