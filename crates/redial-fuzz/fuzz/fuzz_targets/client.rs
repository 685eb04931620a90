//! Lets libFuzzer look for bytes that fail `redial_fuzz::client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| redial_fuzz::client::check(data));
