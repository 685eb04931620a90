//! Lets libFuzzer look for bytes that fail `redial_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| redial_fuzz::frames::check(data));
