#![no_main]
//! Examples as CSV and TSV.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    foils_fuzz::examples("a.csv", bytes);
    foils_fuzz::examples("a.tsv", bytes);
});
