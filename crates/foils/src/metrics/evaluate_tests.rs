use super::*;
use crate::data::Texts;
use proptest::prelude::*;
use rand::RngExt;

fn texts(letter: char, n: usize) -> Texts {
    let mut texts = Texts::default();
    (0..n).for_each(|i| {
        texts.push(format!("{letter}{i}"), format!("text {letter}{i}"));
    });
    texts
}

fn collection(qrels: Vec<Vec<(u32, i64)>>, documents: usize) -> Collection {
    Collection { queries: texts('q', qrels.len()), corpus: texts('d', documents), qrels: Qrels::new(qrels).unwrap() }
}

fn random(rows: usize, dim: usize, seed: u64) -> Embeddings {
    let mut rng = crate::seed::rng(seed, 0);
    Embeddings::new(dim, (0..rows * dim).map(|_| rng.random_range(-1.0..1.0)).collect()).unwrap()
}

fn settings() -> EvaluateSettings {
    EvaluateSettings { ks: vec![1, 10], bootstrap: Bootstrap::new(50, 0).unwrap(), depth: 12, movers: 5 }
}

/// A collection whose queries are the direction of document `q` after, and of document `q + 1` before.
#[test]
fn an_encoder_that_learned_its_pairs_rises() {
    let n = 20;
    let one_hot =
        |shift: usize| Embeddings::new(n, (0..n * n).map(|i| f32::from(u8::from((i / n + shift) % n == i % n))).collect()).unwrap();
    let collection = collection((0..n as u32).map(|q| vec![(q, 1)]).collect(), n);
    let (documents, before, after) = (one_hot(0), one_hot(1), one_hot(0));
    let vectors = |queries| Vectors { queries, documents: &documents };
    let done = evaluate(&collection, Some(vectors(&before)), vectors(&after), &settings()).unwrap();
    let e = &done.evaluation;
    assert_eq!((e.queries, e.queries_without_relevant, e.documents), (n, 0, n));
    let names: Vec<_> = e.metrics.iter().map(|m| (m.metric.as_str(), m.k)).collect();
    assert_eq!(names[..3], [("recall", 1), ("recall", 10), ("precision", 1)]);
    assert_eq!(names.len(), 10);
    let ndcg = &e.metrics[6];
    assert_eq!(
        (ndcg.metric.as_str(), ndcg.k, ndcg.after.mean, ndcg.before.unwrap().mean, ndcg.difference.unwrap().low),
        ("ndcg", 1, 1.0, 0.0, 1.0)
    );
    // Before, documents 0..n tie at 0 but for one: the positive of query q is behind that one and those of lower index.
    assert_eq!((e.movers[0].rank_before, e.movers[0].rank_after), (20, 1));
    assert_eq!((e.movers[0].query.as_str(), e.movers[0].positive.as_str()), ("text q18", "text d18"));
    assert_eq!((e.movers[0].top_before.as_str(), e.movers[0].top_after.as_str()), ("text d19", "text d18"));
    assert_eq!(e.movers.len(), 5, "nothing fell");
    assert_eq!((e.positive_similarity[0].counts[20], e.positive_similarity[1].counts[39]), (20, 20));
    assert_eq!(e.negative_similarity[1].counts.iter().sum::<u64>(), 200);
    assert_eq!((done.before.unwrap()[3][0], done.after[3][0], done.after[3].len()), ((4, 1.0), (3, 1.0), 12));
    // Alone, there is nothing to compare with.
    let alone = evaluate(&collection, None, vectors(&after), &settings()).unwrap().evaluation;
    assert!(alone.metrics.iter().all(|m| m.before.is_none() && m.difference.is_none()));
    assert_eq!((alone.movers.len(), alone.positive_similarity.len()), (0, 1));
    assert_eq!(alone.metrics[0].after, e.metrics[0].after);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn first_relevant_documents_and_ranks_are_those_of_a_full_sort(seed in 0u64..1000, relevant in prop::collection::vec(prop::collection::btree_set(0u32..1500, 0..4), 1..40)) {
        let collection = collection(relevant.iter().map(|r| r.iter().map(|d| (*d, 1)).collect()).collect(), 1500);
        let (queries, documents) = (random(relevant.len(), 6, seed), random(1500, 6, seed + 1));
        let seen = Seen::new(&collection, Vectors { queries: &queries, documents: &documents }, 12).unwrap();
        let all = search::top_k(&queries, &documents, 1500, Similarity::Cosine, &[]).unwrap();
        for (query, found) in seen.first_relevant(&collection.qrels).into_iter().enumerate() {
            let at = all[query].iter().position(|(d, _)| relevant[query].contains(d));
            prop_assert_eq!(found.map(|f| f.0), at.map(|i| all[query][i].0));
            // Beyond the list, a product's rounding may swap neighbours.
            prop_assert!(found.map_or(0, |f| f.1).abs_diff(at.map_or(0, |i| i + 1)) <= usize::from(at >= Some(12)), "{:?} {:?}", found, at);
        }
    }
}

#[test]
fn queries_without_relevant_documents_are_left_out() {
    let collection = collection(vec![vec![(0, 1)], vec![]], 3);
    let (queries, documents) = (random(2, 4, 1), random(3, 4, 2));
    let e = evaluate(&collection, None, Vectors { queries: &queries, documents: &documents }, &settings()).unwrap().evaluation;
    assert_eq!((e.queries, e.queries_without_relevant), (1, 1));
    assert_eq!(e.positive_similarity[0].counts.iter().sum::<u64>(), 1);
    assert_eq!(e.negative_similarity[0].counts.iter().sum::<u64>(), 2);
}

#[test]
fn rankings_are_evaluated_as_they_are() {
    let qrels = Qrels::new(vec![vec![(1, 2), (2, 1)], vec![(9, 1)]]).unwrap();
    let e = evaluate_rankings(&[vec![(1, 0.5), (0, 0.9)], vec![]], &qrels, 10, &settings()).unwrap();
    let mean = |metric: &str, k| e.metrics.iter().find(|m| m.metric == metric && m.k == k).unwrap().after.mean;
    assert_eq!((e.documents, e.queries, mean("recall", 1), mean("recall", 10), mean("mrr", 10)), (10, 2, 0.0, 0.25, 0.25));
}

#[test]
fn bad_input_is_named() {
    let c = collection(vec![vec![(0, 1)]], 2);
    let said = |c: &Collection, q: &Embeddings, d: &Embeddings, ks: &[usize]| {
        let settings = EvaluateSettings { ks: ks.to_vec(), ..settings() };
        evaluate(c, None, Vectors { queries: q, documents: d }, &settings).unwrap_err().to_string()
    };
    let (q, d) = (random(1, 3, 0), random(2, 3, 1));
    assert!(said(&c, &q, &d, &[0]).contains("at least 1"));
    assert!(said(&c, &q, &d, &[]).contains("at least one is needed"));
    assert!(said(&c, &random(1, 4, 0), &d, &[1]).contains("4 dimensions, document vectors 3"));
    assert!(said(&c, &random(2, 3, 0), &d, &[1]).contains("2 query vectors for 1 texts"));
    let zero = Embeddings::new(3, vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
    assert!(said(&c, &q, &zero, &[1]).contains("document d1 (\"text d1\") has the zero vector"));
    assert!(said(&collection(vec![vec![]], 2), &q, &d, &[1]).contains("none of the 1 queries has a relevant document"));
}
