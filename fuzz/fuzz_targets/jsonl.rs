#![no_main]
//! Examples as JSON lines.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    foils_fuzz::examples("a.jsonl", bytes);
});
