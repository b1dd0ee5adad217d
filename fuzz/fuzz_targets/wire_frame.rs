#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringdex_fuzz::run("wire_frame", data));
