//! No parser may panic, whatever the bytes: random ones, and files that were good before some bytes were changed.

use super::*;
use crate::data::formats::{beir, trec, vectors};
use crate::data::{Collection, Embeddings};

/// Reads `bytes` as every format; only that it comes back counts.
fn parse_all(bytes: &[u8]) {
    let folder = Folder::new();
    for name in ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz"] {
        let path = folder.file(name, bytes);
        for columns in [Columns::default(), Columns { group: true, skip_bad: true, no_quotes: true, ..Columns::default() }] {
            let _ = read_all(&path, &columns);
        }
    }
    let path = folder.file("a.trec", bytes);
    let _ = (trec::read_run(&path), trec::read_qrels(&path));
    for name in ["a.npy", "a.safetensors"] {
        let _ = vectors::read(folder.file(name, bytes));
    }
    std::fs::create_dir(folder.path("qrels")).unwrap();
    for broken in ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"] {
        folder.file("corpus.jsonl", "{\"_id\":\"a\",\"text\":\"b\"}");
        folder.file("queries.jsonl", "{\"_id\":\"a\",\"text\":\"b\"}");
        folder.file("qrels/test.tsv", "a\ta\t1\n");
        folder.file(broken, bytes);
        let _ = beir::read(folder.0.path());
    }
}

/// A good file of each kind.
fn good_files() -> Vec<Vec<u8>> {
    let folder = Folder::new();
    let mut first = example("query \"1\"", &["pos,\n1"], &["neg\t1", "neg 2"]);
    first.positive_scores = vec![0.5];
    first.negative_scores = vec![0.25, -1.0];
    let examples = [first, example("query 2", &["p"], &["n", "m"])];
    let mut out = Vec::new();
    for name in ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.jsonl.zst"] {
        for shape in [Shape::LabeledPairs, Shape::LabeledLists, Shape::NTuples, Shape::Lists] {
            let path = folder.path(name);
            if write_examples(&path, shape, examples.iter().cloned().map(Ok)).is_ok() {
                out.push(std::fs::read(path).unwrap());
            }
        }
    }
    for name in ["a.npy", "a.safetensors"] {
        vectors::write(folder.path(name), &Embeddings::new(2, vec![1.0; 6]).unwrap()).unwrap();
        out.push(std::fs::read(folder.path(name)).unwrap());
    }
    beir::write(folder.path("beir"), &Collection::from_examples(&examples).unwrap(), "test").unwrap();
    for name in ["beir/corpus.jsonl", "beir/qrels/test.tsv"] {
        out.push(std::fs::read(folder.path(name)).unwrap());
    }
    out.push(b"q Q0 d 1 0.5 x\nq Q0 e 2 0.25 x\n".to_vec());
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
    }

    #[test]
    fn random_text_never_panics(text in "[\"{}\\[\\],:\t\n\r a-c0-1é]{0,80}") {
        parse_all(text.as_bytes());
        parse_all(format!("query\tpos\tneg\n{text}").as_bytes());
        parse_all(format!("query,text,label\n{text}").as_bytes());
    }

    #[test]
    fn changed_files_never_panic(
        which in any::<proptest::sample::Index>(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let files = good_files();
        let mut bytes = which.get(&files).clone();
        for (at, value, edit) in edits {
            if bytes.is_empty() { break; }
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes.insert(at, value),
                _ => { bytes.remove(at); }
            }
        }
        parse_all(&bytes);
    }
}
