#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| afterimage_fuzz::parse("gguf", data));
