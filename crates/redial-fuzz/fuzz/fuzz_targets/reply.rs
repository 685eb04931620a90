//! Lets libFuzzer look for bytes that fail `redial_fuzz::reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| redial_fuzz::reply::check(data));
