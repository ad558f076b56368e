//! Reading and writing of examples, in all formats.

mod random;

use super::*;
use crate::data::{Example, Shape};
use proptest::prelude::*;
use std::io::Write;
use std::path::PathBuf;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The message for reading `content`, without the folder.
    fn error(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.error_of(&self.file(name, content), &Columns::default())
    }

    fn error_of(&self, path: &Path, columns: &Columns) -> String {
        let error = read_all(path, columns).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn example(anchor: &str, positives: &[&str], negatives: &[&str]) -> Example {
    let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect();
    Example { anchor: anchor.into(), positives: own(positives), negatives: own(negatives), ..Example::default() }
}

fn all(path: &Path) -> Vec<Example> {
    read_all(path, &Columns::default()).unwrap()
}

#[test]
fn columns_are_recognised_by_the_names_that_people_have() {
    let folder = Folder::new();
    let pair = vec![example("a", &["p"], &[])];
    for (anchor, positive) in
        [("anchor", "positive"), ("Query", "Answer"), ("question", "PASSAGE"), ("sentence1", "sentence2"), ("query", "text")]
    {
        let csv = folder.file("a.csv", format!("id,{positive},{anchor}\n7,p,a\n"));
        assert_eq!(all(&csv), pair, "{anchor}");
        let jsonl = folder.file("a.jsonl", format!("{{\"{positive}\":\"p\",\"{anchor}\":\"a\",\"id\":[{{}}]}}\n"));
        assert_eq!(all(&jsonl), pair, "{anchor}");
        assert_eq!(read_examples(&jsonl, &Columns::default()).unwrap().shape(), Shape::Pairs);
    }
    let tuple = folder.file("t.tsv", "negative_10\tnegative_2\tnegative\tanchor\tpositive\nn10\tn2\tn0\ta\tp\n");
    assert_eq!(all(&tuple), [example("a", &["p"], &["n0", "n2", "n10"])]);
    assert_eq!(read_examples(&tuple, &Columns::default()).unwrap().shape(), Shape::NTuples);
    let own = Columns {
        anchor: Some("q".into()),
        positive: Some("GOOD".into()),
        negative: vec!["bad2".into(), "bad1".into()],
        ..Columns::default()
    };
    let named = folder.file("n.csv", "q,good,bad1,bad2,anchor\na,p,n1,n2,x\n");
    assert_eq!(read_all(&named, &own).unwrap(), [example("a", &["p"], &["n2", "n1"])]);
}

#[test]
fn flag_embedding_lists_have_one_or_many_texts_and_scores() {
    let folder = Folder::new();
    let path = folder.file(
        "a.jsonl",
        "{\"query\":\"a\",\"pos\":[\"p\",\"p2\"],\"neg\":[\"n\"],\"pos_scores\":[0.5,1],\"neg_scores\":[-0.25],\"prompt\":\"x\"}\n\
         {\"query\":\"b\",\"pos\":\"p\"}\n{\"query\":\"c\",\"pos\":[\"p\"],\"neg\":[]}\n{\"query\":\"d\",\"pos\":[\"p\"],\"neg\":null}\n",
    );
    let mut first = example("a", &["p", "p2"], &["n"]);
    first.positive_scores = vec![0.5, 1.0];
    first.negative_scores = vec![-0.25];
    assert_eq!(all(&path), [first, example("b", &["p"], &[]), example("c", &["p"], &[]), example("d", &["p"], &[])]);
    assert_eq!(read_examples(&path, &Columns::default()).unwrap().shape(), Shape::Lists);
}

#[test]
fn labelled_pairs_of_one_anchor_become_one_example() {
    let folder = Folder::new();
    let expected = [example("a", &["p", "p2"], &["n"]), example("b", &["q"], &[])];
    for labels in [["1", "0", "true"], ["1.0", "False", "1"]] {
        let [one, zero, again] = labels;
        let text = format!("sentence1,sentence2,label\na,p,{one}\na,n,{zero}\na,p2,{again}\nb,q,1\n");
        let path = folder.file("a.csv", text);
        assert_eq!(all(&path), expected);
        assert_eq!(read_examples(&path, &Columns::default()).unwrap().shape(), Shape::LabeledPairs);
    }
    let lists = "{\"query\":\"a\",\"text\":[\"p\",\"n\",\"p2\"],\"labels\":[1,0,true]}\n{\"query\":\"b\",\"text\":\"q\",\"labels\":1}\n";
    let lists = folder.file("a.jsonl", lists);
    assert_eq!(all(&lists), expected);
    assert_eq!(read_examples(&lists, &Columns::default()).unwrap().shape(), Shape::LabeledLists);
}

#[test]
fn triplets_of_one_pair_are_joined_on_request() {
    let folder = Folder::new();
    let path = folder.file("a.csv", "anchor,positive,negative\na,p,n1\na,p,n2\na,p2,n1\nb,p,n\na,p,n3\n");
    assert_eq!(all(&path).len(), 5);
    let joined =
        [example("a", &["p"], &["n1", "n2"]), example("a", &["p2"], &["n1"]), example("b", &["p"], &["n"]), example("a", &["p"], &["n3"])];
    assert_eq!(read_all(&path, &Columns { group: true, ..Columns::default() }).unwrap(), joined);
    let grouped = read_examples(&path, &Columns::default()).unwrap().grouped();
    assert_eq!(grouped.collect::<Result<Vec<_>>>().unwrap(), joined);
}

#[test]
fn marks_line_endings_blank_lines_and_quotes_are_read_as_meant() {
    let folder = Folder::new();
    let pairs = [example("a \"x\"", &["two\nlines, one\ttab"], &[]), example("b", &[" q "], &[])];
    let csv = "\u{feff}anchor,positive\r\n\r\n\"a \"\"x\"\"\",\"two\nlines, one\ttab\"\r\nb,\" q \"\r\n\r\n\r\n";
    assert_eq!(all(&folder.file("a.csv", csv)), pairs);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).unwrap();
    assert_eq!(all(&folder.file("a.csv.gz", gzip.finish().unwrap())), pairs);
    let jsonl = "\u{feff}{\"anchor\":\"a \\\"x\\\"\",\"positive\":\"two\\nlines, one\\ttab\"}\r\n{\"positive\":\" q \",\"anchor\":\"b\"}\r\n\r\n  \n";
    assert_eq!(all(&folder.file("a.jsonl", jsonl)), pairs);
    assert_eq!(all(&folder.file("a.jsonl.zst", zstd::encode_all(jsonl.as_bytes(), 1).unwrap())), pairs);
    let letters = Columns { no_quotes: true, ..Columns::default() };
    let tsv = folder.file("a.tsv", "anchor\tpositive\n\"a\" b\t5\" disk\n");
    assert_eq!(read_all(&tsv, &letters).unwrap(), [example("\"a\" b", &["5\" disk"], &[])]);
    assert_eq!(all(&folder.file("b.tsv", "anchor\tpositive\na\t5\" disk\n")), [example("a", &["5\" disk"], &[])]);
}

#[test]
fn bad_input_is_named_with_file_and_line() {
    let folder = Folder::new();
    let e = |name: &str, content: &str| folder.error(name, content);
    assert_eq!(e("a.jsonl", ""), "a.jsonl: is empty; there are no examples to read");
    assert_eq!(e("a.jsonl", "\u{feff}"), "a.jsonl: is empty; there are no examples to read");
    assert_eq!(e("a.csv", "\n\n"), "a.csv: is empty; there are no examples to read");
    assert_eq!(e("a.csv", "anchor,positive\n"), "a.csv: has columns but no rows; there are no examples to read");
    assert_eq!(
        e("a.csv", "q,d\n1,2\n"),
        "a.csv:1: no column for the anchor: found `q`, `d`; understood are anchor, query, question, sentence1; name yours with the option `anchor`"
    );
    assert!(
        e("a.csv", "query,d\n1,2\n").starts_with("a.csv:1: no column for the positive: found `query`, `d`; understood are positive, pos,")
    );
    assert_eq!(
        e("a.csv", "query,anchor,positive\na,b,c\n"),
        "a.csv:1: both `query` and `anchor` could be it: name one with the option `anchor`"
    );
    assert_eq!(e("a.csv", "anchor,positive\r\na,b\r\n\r\na,b,c\r\n"), "a.csv:4: 3 fields; the header has 2");
    assert!(e("a.csv", "anchor,positive\na,\"b\nc,d\n").starts_with("a.csv:2: a quote opened here is never closed"));
    assert!(e("a.csv", "anchor,positive\na,\"b\" c\n").starts_with("a.csv:2: field 2: letters behind the closing quote"));
    assert_eq!(e("a.csv", "anchor,positive\na,b\nc,\n"), "a.csv:3: the positive is empty");
    assert_eq!(e("a.csv", "anchor,positive\na,b\n  ,d\n"), "a.csv:3: the anchor is empty");
    assert_eq!(e("a.csv", "anchor,positive,negative\na,b,\n"), "a.csv:2: the negative is empty");
    assert_eq!(
        e("a.tsv", "anchor\tpositive\tnegative\na\tb\tc\na\tＴhe  answer\tthe answer\n"),
        "a.tsv:3: a positive is among the negatives: \"the answer\""
    );
    assert_eq!(e("a.csv", "anchor,text,label\na,b,2\n"), "a.csv:2: the label `2` is neither 0 nor 1");
    assert!(e("a.csv", "anchor,text,label\na,b,1\nc,d,0\n").starts_with("a.csv:3: the anchor has no positive (rows of one anchor"));
    let row = "{\"anchor\":\"a\",\"positive\":\"b\"}\n";
    assert_eq!(e("a.jsonl", &format!("{row}[1]\n")), "a.jsonl:2: an array; each line must be one JSON object");
    assert!(e("a.jsonl", &format!("{row}\n{{\"anchor\": \n")).starts_with("a.jsonl:3: not a JSON object, at column"));
    assert!(e("a.jsonl", &format!("{row}{{\"anchor\":\"a\"}}\n")).starts_with("a.jsonl:2: no column for the positive: found `anchor`"));
    assert_eq!(
        e("a.jsonl", &format!("{row}{{\"anchor\":\"a\",\"positive\":{{}}}}")),
        "a.jsonl:2: `positive` is an object; a text or a list of texts is needed"
    );
    assert_eq!(e("a.jsonl", &format!("{row}{{\"anchor\":7,\"positive\":\"b\"}}")), "a.jsonl:2: `anchor` is a number; a text is needed");
    assert_eq!(e("a.jsonl", &format!("{row}{{\"anchor\":\"a\",\"positive\":[]}}")), "a.jsonl:2: the anchor has no positive");
    assert_eq!(
        e("a.jsonl", "{\"query\":\"a\",\"pos\":[\"b\"],\"neg\":[\"c\"],\"neg_scores\":[1,2]}"),
        "a.jsonl:1: 2 negative scores for 1 negatives"
    );
    assert_eq!(e("a.txt", "x"), "a.txt: examples are kept in .jsonl, .csv, .tsv (also with .gz or .zst) and .parquet files");
    assert_eq!(folder.error("a.csv", b"anchor,positive\na,\xff\n"), "a.csv:2: byte 3 of the line is not UTF-8");
    assert_eq!(folder.error("a.csv", b"\xff\xfea\0"), "a.csv:1: is UTF-16; save it as UTF-8");
    assert!(folder.error("a.parquet", b"PAR1").starts_with("a.parquet: cannot be read as Parquet"));
    assert_eq!(folder.error("a.parquet", b""), "a.parquet: is empty; there are no examples to read");
    std::fs::create_dir(folder.path("d.csv")).unwrap();
    assert_eq!(folder.error_of(&folder.path("d.csv"), &Columns::default()), "d.csv: is a folder; a file is needed here");
    std::fs::create_dir(folder.path("d.parquet")).unwrap();
    assert_eq!(folder.error_of(&folder.path("d.parquet"), &Columns::default()), "d.parquet: is a folder; a file is needed here");
    assert!(folder.error_of(&folder.path("none.csv"), &Columns::default()).starts_with("cannot open none.csv"));
}

#[test]
fn bad_rows_can_be_left_out_and_are_counted() {
    let folder = Folder::new();
    let path = folder.file("a.csv", "anchor,positive,negative\na,p,n\n,p,n\na,p,P\nb,p,n\n");
    let mut reader = read_examples(&path, &Columns { skip_bad: true, ..Columns::default() }).unwrap();
    let read = reader.by_ref().collect::<Result<Vec<_>>>().unwrap();
    assert_eq!(read, [example("a", &["p"], &["n"]), example("b", &["p"], &["n"])]);
    assert_eq!((reader.rows(), reader.skipped()), (4, 2));
    let none = folder.file("b.csv", "anchor,positive\n,p\n");
    assert_eq!(folder.error_of(&none, &Columns { skip_bad: true, ..Columns::default() }), "b.csv: none of its 1 rows can be used");
}

#[test]
fn a_file_that_is_cut_off_is_an_error_in_every_format() {
    let folder = Folder::new();
    let examples: Vec<Example> =
        (0..3000).map(|i| example(&format!("anchor {i}"), &[&format!("positive {}", i * i)], &[&format!("negative {}", i * 7)])).collect();
    for name in ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.tsv.zst", "a.parquet"] {
        let path = folder.path(name);
        write_examples(&path, Shape::Triplets, examples.iter().cloned().map(Ok)).unwrap();
        assert_eq!(all(&path), examples, "{name}");
        let whole = std::fs::read(&path).unwrap();
        for kept in [whole.len() / 2, whole.len() - 1] {
            let error = folder.error(name, &whole[..kept]);
            assert!(error.contains("damaged") && error.starts_with(name), "{name} {kept}: {error}");
        }
    }
}

#[test]
fn what_a_shape_cannot_hold_is_counted() {
    let folder = Folder::new();
    let examples = [example("a", &["p"], &["n1", "n2"]), example("b", &["p", "q"], &["n"]), example("c", &["p"], &["n1", "n2", "n3"])];
    let give = || examples.iter().cloned().map(Ok);
    let path = folder.path("a.csv");
    let written = write_examples(&path, Shape::NTuples, give()).unwrap();
    assert_eq!(written, Written { examples: 3, rows: 2, dropped: 1, negatives_left_out: 1, negatives: 2 });
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "anchor,positive,negative_1,negative_2\na,p,n1,n2\nc,p,n1,n2\n");
    let written = write_rows(&path, Rows { negatives: Some(1), ..Rows::of(Shape::NTuples) }, give()).unwrap();
    assert_eq!(written, Written { examples: 3, rows: 4, dropped: 0, negatives_left_out: 3, negatives: 1 });
    let written = write_examples(&path, Shape::Pairs, give()).unwrap();
    assert_eq!(written, Written { examples: 3, rows: 4, dropped: 0, negatives_left_out: 6, negatives: 0 });
    let written = write_examples(&path, Shape::Triplets, give()).unwrap();
    assert_eq!(written, Written { examples: 3, rows: 7, ..Written::default() });
    let jsonl = folder.path("a.jsonl");
    write_examples(&jsonl, Shape::LabeledPairs, give().take(1)).unwrap();
    let rows = "{\"anchor\":\"a\",\"text\":\"p\",\"label\":1}\n{\"anchor\":\"a\",\"text\":\"n1\",\"label\":0}\n{\"anchor\":\"a\",\"text\":\"n2\",\"label\":0}\n";
    assert_eq!(std::fs::read_to_string(&jsonl).unwrap(), rows);
}

#[test]
fn scores_are_laid_out_as_sentence_transformers_does() {
    let folder = Folder::new();
    let mut one = example("a", &["p", "q"], &["m", "n"]);
    (one.positive_scores, one.negative_scores) = (vec![0.75, 0.5], vec![0.25, -0.5]);
    let few = Example { positive_scores: vec![1.0], ..example("b", &["r"], &[]) };
    let written = |name: &str, shape: Shape| {
        let path = folder.path(name);
        write_rows(&path, Rows { scores: true, ..Rows::of(shape) }, [Ok(one.clone()), Ok(few.clone())]).unwrap();
        path
    };
    let text = |name: &str, shape: Shape| std::fs::read_to_string(written(name, shape)).unwrap();
    let rows = text("a.jsonl", Shape::Triplets);
    assert_eq!(rows.lines().nth(1).unwrap(), r#"{"anchor":"a","positive":"p","negative":"n","scores":[0.75,-0.5]}"#);
    assert_eq!(rows.lines().count(), 4);
    let row = r#"{"anchor":"a","positive":"q","negative_1":"m","negative_2":"n","scores":[0.5,0.25,-0.5]}"#;
    assert_eq!(text("a.jsonl", Shape::NTuples).lines().nth(1).unwrap(), row);
    assert_eq!(text("a.csv", Shape::LabeledPairs), "anchor,text,score\na,p,0.75\na,q,0.5\na,m,0.25\na,n,-0.5\nb,r,1\n");
    let row = "{\"query\":\"a\",\"docs\":[\"p\",\"q\",\"m\",\"n\"],\"scores\":[0.75,0.5,0.25,-0.5]}\n";
    assert_eq!(text("a.jsonl", Shape::LabeledLists), row);
    // What Parquet has is what its reader finds.
    let parquet = written("a.parquet", Shape::NTuples);
    let named = Columns {
        negative_scores: Some("scores".into()),
        negative: vec!["positive".into(), "negative_1".into(), "negative_2".into()],
        ..Columns::default()
    };
    let error = read_all(&parquet, &named).unwrap_err().to_string();
    assert!(error.ends_with("the column `positive` is named for two parts"), "{error}");
    let named = Columns {
        positive: Some("negative_1".into()),
        negative: vec!["positive".into()],
        positive_scores: Some("scores".into()),
        ..Columns::default()
    };
    assert!(read_all(&parquet, &named).unwrap_err().to_string().ends_with("row 1: 3 positive scores for 1 positives"));
    // Without labels no one knows which texts were positives.
    for (name, shape) in [("a.jsonl", Shape::LabeledPairs), ("a.parquet", Shape::LabeledPairs), ("a.csv", Shape::LabeledPairs)] {
        let error = read_all(written(name, shape), &Columns::default()).unwrap_err().to_string();
        assert!(error.contains("the texts of `text` have scores (`score`) and no labels"), "{error}");
    }
    let error = read_all(written("a.parquet", Shape::LabeledLists), &Columns::default()).unwrap_err().to_string();
    assert!(error.contains("no column for the positive: found `query`, `docs`, `scores`"), "{error}");

    let rows = Rows { scores: true, ..Rows::of(Shape::Triplets) };
    let error = write_rows(folder.path("b.jsonl"), rows, [Ok(example("a", &["p"], &["n"]))]).unwrap_err();
    assert_eq!(error.to_string(), "example 1: it has no scores, which are to be written");
    assert!(rows.check("b.csv").unwrap_err().to_string().contains("choose another shape or no scores"));
}

#[test]
fn nothing_is_left_behind_when_writing_fails() {
    let folder = Folder::new();
    let good = example("a", &["p"], &["n"]);
    for name in ["a.jsonl", "a.csv", "a.tsv.gz", "a.parquet"] {
        let broken = [Ok(good.clone()), Err(Error::invalid("broken source"))];
        let error = write_examples(folder.path(name), Shape::Triplets, broken).unwrap_err();
        assert_eq!(error.to_string(), "broken source");
        let error = write_examples(folder.path(name), Shape::Triplets, [Ok(good.clone()), Ok(example("b", &["p"], &["P"]))]).unwrap_err();
        assert_eq!(error.to_string(), "example 2: a positive is among the negatives: \"P\"");
        let error = write_examples(folder.path(name), Shape::Triplets, [Ok(example("b", &["p"], &[]))]).unwrap_err();
        assert!(error.to_string().ends_with("not written: no example has negatives enough for this shape"), "{error}");
    }
    assert!(write_examples(folder.path("a.csv"), Shape::Lists, [Ok(good.clone())]).unwrap_err().to_string().contains("cannot hold lists"));
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 0);
    let blocked = folder.file("file", "").join("under/a.csv");
    assert!(write_examples(blocked, Shape::Pairs, [Ok(good.clone())]).unwrap_err().to_string().starts_with("cannot create the folder"));
    if cfg!(target_os = "linux") {
        // No one, not even root, may make files here.
        let error = write_examples("/proc/foils.csv", Shape::Pairs, [Ok(good)]).unwrap_err();
        assert!(error.to_string().starts_with("cannot write in the folder /proc"), "{error}");
    }
}

/// Texts with everything that a format could trip over.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"".to_string()),
        Just("\"\"".to_string()),
        Just("\n".to_string()),
        Just("\r\n".to_string()),
        Just("\r".to_string()),
        Just("\t".to_string()),
        Just(",".to_string()),
        Just("\\".to_string()),
        Just("\u{feff}".to_string()),
        Just("\u{2028}é̈𝕏عر".to_string()),
        Just("null".to_string()),
        "[ -~]{0,6}",
        "[^\u{0}]{0,4}",
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|p| p.concat())
}

/// Examples whose texts are never empty and never the same in normal form, with `negatives` negatives and one positive.
fn examples(positives: std::ops::Range<usize>, negatives: std::ops::Range<usize>, scored: bool) -> impl Strategy<Value = Vec<Example>> {
    let texts = move |n| proptest::collection::vec(nasty(), n);
    let one = (nasty(), texts(positives), texts(negatives), proptest::collection::vec(-1e3f32..1e3, 8), any::<bool>());
    proptest::collection::vec(one, 1..5).prop_map(move |rows| {
        let unique = |name: String, text: &String| format!("{text}{name}{text}");
        let rows = rows.iter().enumerate().map(|(i, (anchor, positives, negatives, scores, has))| {
            let mut out = Example {
                anchor: unique(format!("a{i}"), anchor),
                positives: positives.iter().enumerate().map(|(j, t)| unique(format!("p{j}"), t)).collect(),
                negatives: negatives.iter().enumerate().map(|(j, t)| unique(format!("n{j}"), t)).collect(),
                ..Example::default()
            };
            if scored && *has {
                out.positive_scores = scores[..out.positives.len()].to_vec();
                out.negative_scores = scores[scores.len() - out.negatives.len()..].to_vec();
            }
            out
        });
        rows.collect()
    })
}

fn round_trip(shape: Shape, name: &str, examples: &[Example]) -> std::result::Result<(), TestCaseError> {
    let folder = Folder::new();
    let path = folder.path(name);
    write_examples(&path, shape, examples.iter().cloned().map(Ok)).unwrap();
    prop_assert_eq!(all(&path), examples, "{:?} {}", shape, name);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pairs_come_back_as_they_were(e in examples(1..2, 0..1, false)) {
        for name in ["a.jsonl", "a.csv", "a.tsv.gz", "a.parquet"] { round_trip(Shape::Pairs, name, &e)?; }
    }

    #[test]
    fn triplets_come_back_as_they_were(e in examples(1..2, 1..2, false)) {
        for name in ["a.jsonl.zst", "a.csv", "a.tsv", "a.parquet"] { round_trip(Shape::Triplets, name, &e)?; }
    }

    #[test]
    fn tuples_come_back_as_they_were(e in examples(1..2, 3..4, false)) {
        for name in ["a.jsonl", "a.csv.zst", "a.tsv", "a.parquet"] { round_trip(Shape::NTuples, name, &e)?; }
    }

    #[test]
    fn labelled_pairs_come_back_as_they_were(e in examples(1..4, 0..4, false)) {
        for name in ["a.jsonl", "a.csv", "a.tsv", "a.parquet"] { round_trip(Shape::LabeledPairs, name, &e)?; }
    }

    #[test]
    fn labelled_lists_come_back_as_they_were(e in examples(1..4, 1..4, false)) {
        for name in ["a.jsonl", "a.jsonl.zst", "a.parquet"] { round_trip(Shape::LabeledLists, name, &e)?; }
    }

    #[test]
    fn lists_and_their_scores_come_back_as_they_were(e in examples(1..4, 0..4, true)) {
        for name in ["a.jsonl", "a.jsonl.gz", "a.parquet"] { round_trip(Shape::Lists, name, &e)?; }
    }

    #[test]
    fn another_csv_library_reads_the_same(e in examples(1..2, 1..2, false)) {
        let folder = Folder::new();
        let path = folder.path("a.csv");
        write_examples(&path, Shape::Triplets, e.iter().cloned().map(Ok)).unwrap();
        let rows: Vec<csv::StringRecord> = csv::Reader::from_path(&path).unwrap().records().map(|r| r.unwrap()).collect();
        let ours = all(&path);
        prop_assert_eq!(rows.len(), ours.len());
        for (row, example) in rows.iter().zip(&ours) {
            prop_assert_eq!(row.iter().collect::<Vec<_>>(), [&example.anchor, &example.positives[0], &example.negatives[0]]);
        }
    }
}
