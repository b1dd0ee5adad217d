#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringdex_fuzz::run("coordination", data));
