#![no_main]
//! TREC runs and judgements.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = foils_fuzz::file("a.trec", bytes);
    let _ = foils::data::formats::trec::read_run(&path);
    let _ = foils::data::formats::trec::read_qrels(&path);
});
