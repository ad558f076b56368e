//! Conversions from each kind of input to each kind of output.

use super::*;
use crate::data::Embeddings;
use crate::data::formats::read_all;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn convert(&self, from: &str, to: &str, shape: Option<Shape>) -> Result<Converted> {
        convert(self.path(from), self.path(to), &Conversion { to: shape, ..Conversion::default() })
    }
}

const TRIPLETS: &str = "anchor,positive,negative\na,p,n1\na,p,n2\nb,q,n1\nb,q,n2\nb,q,n3\nc,r,n1\n";

#[test]
fn triplets_become_all_other_shapes_and_lists_become_triplets_again() {
    let folder = Folder::new();
    std::fs::write(folder.path("a.csv"), TRIPLETS).unwrap();
    let lists = folder.convert("a.csv", "a.jsonl", Some(Shape::Lists)).unwrap();
    let counts = (lists.rows_read, lists.examples, lists.rows_written, lists.dropped);
    assert_eq!((lists.from.as_str(), lists.to.as_str(), counts), ("csv triplets", "jsonl lists", (6, 3, 3, 0)));
    let first = "{\"query\":\"a\",\"pos\":[\"p\"],\"neg\":[\"n1\",\"n2\"]}\n";
    assert!(folder.text("a.jsonl").starts_with(first));
    folder.convert("a.jsonl", "b.parquet", None).unwrap();
    folder.convert("b.parquet", "b.csv.gz", Some(Shape::Triplets)).unwrap();
    folder.convert("b.csv.gz", "c.tsv.zst", None).unwrap();
    folder.convert("c.tsv.zst", "c.csv", None).unwrap();
    assert_eq!(folder.text("c.csv"), TRIPLETS);
    // Two negatives keep four of six; three or one keep only three.
    let tuples = folder.convert("a.csv", "t.csv", Some(Shape::NTuples)).unwrap();
    assert_eq!((tuples.rows_written, tuples.dropped, tuples.negatives_left_out), (2, 1, 1));
    assert_eq!(folder.text("t.csv"), "anchor,positive,negative_1,negative_2\na,p,n1,n2\nb,q,n1,n2\n");
    let one = Conversion { to: Some(Shape::NTuples), negatives: Some(3), ..Conversion::default() };
    assert_eq!(convert(folder.path("a.csv"), folder.path("t.csv"), &one).unwrap().dropped, 2);
    folder.convert("a.jsonl", "l.csv", Some(Shape::LabeledPairs)).unwrap();
    folder.convert("l.csv", "l.jsonl", Some(Shape::Lists)).unwrap();
    assert_eq!(folder.text("l.jsonl"), folder.text("a.jsonl"));
}

#[test]
fn pairs_become_a_beir_folder_and_again_pairs() {
    let folder = Folder::new();
    std::fs::write(folder.path("a.csv"), "question,answer\na,p\nb,q\na,r\n").unwrap();
    let written = folder.convert("a.csv", "beir", None).unwrap();
    assert_eq!((written.to.as_str(), written.rows_read, written.rows_written), ("beir", 3, 3));
    assert_eq!(folder.text("beir/qrels/test.tsv"), "query-id\tcorpus-id\tscore\nq0\td0\t1\nq0\td2\t1\nq1\td1\t1\n");
    let read = folder.convert("beir", "b.csv", None).unwrap();
    assert_eq!((read.from.as_str(), read.rows_read, read.examples, read.rows_written), ("beir", 3, 2, 3));
    assert_eq!(folder.text("b.csv"), "anchor,positive\na,p\na,r\nb,q\n");
    let copy = folder.convert("beir", "copy", None).unwrap();
    assert_eq!((copy.rows_written, folder.text("copy/corpus.jsonl")), (3, folder.text("beir/corpus.jsonl")));
}

#[test]
fn embeddings_change_their_container() {
    let folder = Folder::new();
    let embeddings = Embeddings::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    vectors::write(folder.path("a.npy"), &embeddings).unwrap();
    let done = folder.convert("a.npy", "b.safetensors", None).unwrap();
    assert_eq!((done.from.as_str(), done.to.as_str(), done.rows_written), ("npy", "safetensors", 2));
    assert_eq!(vectors::read(folder.path("b.safetensors")).unwrap(), embeddings);
    assert!(folder.convert("a.npy", "b.csv", None).unwrap_err().to_string().contains("embeddings can only become"));
    assert!(folder.convert("a.csv", "b.npy", None).unwrap_err().to_string().contains("without an encoder"));
}

#[test]
fn bad_rows_are_left_out_only_when_asked() {
    let folder = Folder::new();
    std::fs::write(folder.path("a.csv"), "anchor,positive\na,p\n,q\n").unwrap();
    for output in ["b.jsonl", "beir"] {
        assert!(folder.convert("a.csv", output, None).unwrap_err().to_string().ends_with("a.csv:3: the anchor is empty"));
        assert!(!folder.path(output).exists());
        let columns = Columns { skip_bad: true, ..Columns::default() };
        let done = convert(folder.path("a.csv"), folder.path(output), &Conversion { columns, ..Conversion::default() }).unwrap();
        assert_eq!((done.rows_read, done.skipped, done.rows_written), (2, 1, 1));
    }
    assert_eq!(read_all(folder.path("b.jsonl"), &Columns::default()).unwrap(), [Example::pair("a", "p")]);
}
