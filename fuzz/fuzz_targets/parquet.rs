#![no_main]
//! Examples as Parquet.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    foils_fuzz::examples("a.parquet", bytes);
});
