//! `nearcast_cache_node::fuzzing::ranges`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nearcast_cache_node::fuzzing::ranges(data));
