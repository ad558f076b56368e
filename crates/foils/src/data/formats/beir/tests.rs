//! BEIR folders that are whole, and all the ways in which they are not.

use super::*;
use proptest::prelude::*;

struct Folder(tempfile::TempDir);

impl Folder {
    /// Two documents, two queries (and one of another split), judged.
    fn new() -> Self {
        let out = Self(tempfile::tempdir().unwrap());
        out.write(
            "corpus.jsonl",
            "{\"_id\":\"d1\",\"title\":\"T\",\"text\":\"one\"}\n{\"_id\":\"d2\",\"title\":\"\",\"text\":\"two\",\"metadata\":{}}\n",
        );
        out.write(
            "queries.jsonl",
            "{\"_id\":\"q1\",\"text\":\"first\"}\n{\"_id\":\"x\",\"text\":\"\"}\n{\"_id\":\"q2\",\"text\":\"second\"}\n",
        );
        out.write("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq2\td1\t1\nq1\td2\t2\nq2\td2\t0\n");
        out
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn error(&self) -> String {
        self.shorter(read(self.0.path()).unwrap_err())
    }

    fn shorter(&self, error: Error) -> String {
        let folder = self.0.path().display().to_string();
        error.to_string().replace(&format!("{folder}/"), "").replace(&folder, "HERE")
    }

    /// The error when one file is replaced.
    fn error_with(name: &str, content: &str) -> String {
        let folder = Self::new();
        folder.write(name, content);
        folder.error()
    }
}

fn texts(pairs: &[(&str, &str)]) -> Texts {
    let mut out = Texts::default();
    pairs.iter().for_each(|(id, text)| {
        out.push(*id, *text);
    });
    out
}

#[test]
fn titles_are_joined_and_only_judged_queries_are_kept() {
    let folder = Folder::new();
    let expected = Collection {
        queries: texts(&[("q1", "first"), ("q2", "second")]),
        corpus: texts(&[("d1", "T one"), ("d2", "two")]),
        qrels: Qrels::new(vec![vec![(1, 2)], vec![(0, 1)]]).unwrap(),
    };
    assert_eq!(read(folder.0.path()).unwrap(), expected);
    let pairs: Vec<Example> = examples(&expected).collect();
    assert_eq!(pairs, [Example::pair("first", "two"), Example::pair("second", "T one")]);
}

#[test]
fn the_split_is_the_one_asked_for_or_test_or_the_only_one() {
    let folder = Folder::new();
    folder.write("qrels/train.tsv", "q1\td1\t1\n");
    folder.write("qrels/notes.txt", "not a table");
    assert_eq!(read_with(folder.0.path(), &Options::default()).unwrap().split, "test");
    let train = Options { split: Some("train".into()), ..Options::default() };
    let read_train = read_with(folder.0.path(), &train).unwrap();
    assert_eq!((read_train.split.as_str(), read_train.collection.queries.ids), ("train", ["q1"].iter().collect()));
    let dev = Options { split: Some("dev".into()), ..Options::default() };
    assert_eq!(folder.shorter(read_with(folder.0.path(), &dev).unwrap_err()), "qrels: has no split `dev`; there are: test, train");
    std::fs::remove_file(folder.0.path().join("qrels/test.tsv")).unwrap();
    assert_eq!(read_with(folder.0.path(), &Options::default()).unwrap().split, "train");
    folder.write("qrels/dev.tsv", "q1\td1\t1\n");
    assert_eq!(folder.error(), "qrels: has no split `test`; there are: dev, train; name one");
}

#[test]
fn bad_folders_are_named_with_file_and_line() {
    let e = Folder::error_with;
    let head = "query-id\tcorpus-id\tscore\n";
    assert_eq!(e("qrels/test.tsv", &format!("{head}q1\td9\t1\n")), "qrels/test.tsv:2: the id `d9` is not in corpus.jsonl");
    assert_eq!(e("qrels/test.tsv", &format!("{head}\nq9\td1\t1\n")), "qrels/test.tsv:3: the id `q9` is not in queries.jsonl");
    assert_eq!(e("qrels/test.tsv", &format!("{head}q1\td1\t-1\n")), "qrels/test.tsv:2: the score -1 is negative");
    assert_eq!(e("qrels/test.tsv", &format!("{head}q1\td1\t0.5\n")), "qrels/test.tsv:2: the score `0.5` is not a whole number");
    assert_eq!(e("qrels/test.tsv", "q1\td1\t0.5\n"), "qrels/test.tsv:1: the score `0.5` is not a whole number");
    assert!(e("qrels/test.tsv", &format!("{head}q1 d1 1\n")).starts_with("qrels/test.tsv:2: 1 fields; `query-id`"));
    assert_eq!(
        e("qrels/test.tsv", &format!("{head}q1\td1\t0\n")),
        "qrels/test.tsv:2: the query `q1` has no relevant document (no score above 0)"
    );
    assert_eq!(
        e("qrels/test.tsv", &format!("{head}q1\td1\t1\nq1\td1\t2\n")),
        "qrels/test.tsv:3: the document `d1` is judged twice for the query `q1`"
    );
    assert_eq!(e("qrels/test.tsv", head), "qrels/test.tsv: there are no judgements in it");
    assert_eq!(e("qrels/test.tsv", ""), "qrels/test.tsv: there are no judgements in it");
    let one = "{\"_id\":\"d1\",\"text\":\"one\"}\n";
    assert_eq!(e("corpus.jsonl", &format!("{one}{one}")), "corpus.jsonl:2: the id `d1` stands twice");
    assert_eq!(
        e("corpus.jsonl", &format!("{one}{{\"_id\":\"d2\",\"title\":\" \",\"text\":\"\"}}")),
        "corpus.jsonl:2: the text of `d2` is empty"
    );
    assert_eq!(e("corpus.jsonl", "{\"text\":\"one\"}"), "corpus.jsonl:1: there is no `_id`");
    assert_eq!(e("corpus.jsonl", "{\"_id\":\"d1\"}"), "corpus.jsonl:1: there is no `text`");
    assert_eq!(e("corpus.jsonl", "{\"_id\":\"d1\",\"text\":[]}"), "corpus.jsonl:1: `text` is an array; a text is needed");
    assert_eq!(e("corpus.jsonl", ""), "corpus.jsonl: is empty");
    assert_eq!(
        e("queries.jsonl", "{\"_id\":\"x\",\"text\":\"a\"}\n{\"_id\":\"x\",\"text\":\"a\"}"),
        "queries.jsonl:2: the id `x` stands twice"
    );
    assert_eq!(e("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"\"}\n"), "queries.jsonl:1: the text of `q1` is empty");
    assert_eq!(e("queries.jsonl", "no"), "queries.jsonl:1: not a JSON object, at column 2: expected ident");
    let folder = Folder::new();
    std::fs::remove_file(folder.0.path().join("corpus.jsonl")).unwrap();
    assert_eq!(folder.error(), "HERE: is no BEIR folder: there is no corpus.jsonl (or corpus.jsonl.gz, .zst) in it");
    assert!(
        read(folder.0.path().join("queries.jsonl")).unwrap_err().to_string().ends_with("is no BEIR folder: there is no folder qrels in it")
    );
}

#[test]
fn bad_entries_can_be_left_out_and_are_counted() {
    let folder = Folder::new();
    folder.write("corpus.jsonl", "{\"_id\":\"d1\",\"text\":\"one\"}\n{\"_id\":\"d2\",\"text\":null}\n");
    let read = read_with(folder.0.path(), &Options { skip_bad: true, ..Options::default() }).unwrap();
    // The document d2, its two judgements, and q1, whose only answer it was.
    assert_eq!((read.skipped, read.collection.corpus.ids.len(), read.collection.queries.ids), (4, 1, ["q2"].iter().collect()));
}

#[test]
fn a_folder_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let collection = Collection::from_examples(&[Example::pair("a", "b")]).unwrap();
    let place = folder.path().join("new/beir");
    write(&place, &collection, "test").unwrap();
    assert_eq!(read(&place).unwrap(), collection);
    assert!(write(&place, &collection, "dev").unwrap_err().to_string().contains("is already there"));
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(write(folder.path().join("file"), &collection, "test").unwrap_err().to_string().contains("is a file; a folder is needed"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    write(folder.path().join("empty"), &collection, "test").unwrap();
    for (id, split, message) in [("", "test", "cannot stand"), ("a\tb", "test", "cannot stand"), ("q0", "a/b", "the split")] {
        let mut broken = collection.clone();
        broken.queries.ids = std::iter::once(id).chain(collection.queries.ids.iter().skip(1)).collect();
        assert!(write(folder.path().join("broken"), &broken, split).unwrap_err().to_string().contains(message));
    }
    let mut twice = collection.clone();
    twice.corpus.push("d0", "again");
    assert!(write(folder.path().join("broken"), &twice, "test").unwrap_err().to_string().contains("stands twice"));
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["empty", "file", "new"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn collections_come_back_as_they_were(rows in proptest::collection::vec((".{0,9}", proptest::collection::vec((".{0,9}", 1i64..4), 1..4)), 1..5)) {
        let mut collection = Collection::default();
        let mut qrels = Vec::new();
        for (i, (query, documents)) in rows.iter().enumerate() {
            collection.queries.push(format!("q{i}\"{query}").replace(['\t', '\n', '\r'], "_"), format!("x{query}\n\t"));
            qrels.push(documents.iter().map(|(text, grade)| {
                let id = format!(" d{}", collection.corpus.len());
                (collection.corpus.push(id, format!("y{text}\"")), *grade)
            }).collect());
        }
        collection.qrels = Qrels::new(qrels).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("beir"), &collection, "dev").unwrap();
        prop_assert_eq!(read(folder.path().join("beir")).unwrap(), collection);
    }
}
