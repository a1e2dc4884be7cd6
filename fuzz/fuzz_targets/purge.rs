//! `nearcast_cache_node::fuzzing::purge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nearcast_cache_node::fuzzing::purge(data));
