#![no_main]
//! The judgements of a BEIR folder.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = foils_fuzz::folder();
    if !folder.join("qrels").is_dir() {
        std::fs::create_dir(folder.join("qrels")).expect("a folder for judgements");
        foils_fuzz::file("corpus.jsonl", b"{\"_id\":\"d\",\"text\":\"x\"}\n{\"_id\":\"e\",\"text\":\"y\"}\n");
        foils_fuzz::file("queries.jsonl", b"{\"_id\":\"q\",\"text\":\"z\"}\n");
    }
    foils_fuzz::file("qrels/test.tsv", bytes);
    let _ = foils::data::formats::beir::read(folder);
});
