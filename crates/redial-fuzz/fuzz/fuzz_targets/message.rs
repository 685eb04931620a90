//! What `redial_fuzz::message` is for, found by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| redial_fuzz::message::check(data));
