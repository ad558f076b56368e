#![no_main]
//! Embeddings as .npy.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = foils::data::formats::vectors::read(foils_fuzz::file("a.npy", bytes));
});
