use super::*;
use crate::data::{Qrels, Texts};
use crate::diagnostics::{EciSettings, eci_from_embeddings};
use rand::RngExt;

fn texts(letter: char, n: usize) -> Texts {
    let mut texts = Texts::default();
    (0..n).for_each(|i| {
        texts.push(format!("{letter}{i}"), format!("text {letter}{i}"));
    });
    texts
}

/// `n` queries, each with its own positive (document q) at cosine `near`, among 3n further documents in random directions.
fn world(n: usize, near: f32, seed: u64) -> (Collection, Embeddings, Embeddings) {
    const DIM: usize = 16;
    let mut rng = crate::seed::rng(seed, 0);
    let mut random = |rows: usize| {
        let data = (0..rows * DIM).map(|_| (0..6).map(|_| rng.random_range(-1.0f32..1.0)).sum()).collect();
        Embeddings::new(DIM, data).unwrap().normalized()
    };
    let (queries, noise) = (random(n), random(4 * n));
    let blend = |q: f32, noise: f32| near * q + (1.0 - near * near).sqrt() * noise;
    let positives = queries.data().iter().zip(noise.data()).map(|(q, noise)| blend(*q, *noise));
    let documents = Embeddings::new(DIM, positives.chain(noise.data()[n * DIM..].iter().copied()).collect()).unwrap();
    let qrels = Qrels::new((0..n as u32).map(|q| vec![(q, 1)]).collect()).unwrap();
    (Collection { queries: texts('q', n), corpus: texts('d', 4 * n), qrels }, queries, documents)
}

/// The nearest (or any) other documents of each query.
fn set(name: &str, world: &(Collection, Embeddings, Embeddings), from: usize, count: usize) -> NegativeSet {
    let (collection, queries, documents) = world;
    let own: Vec<Vec<u32>> = (0..queries.rows()).map(|q| collection.qrels.of(q).iter().map(|r| r.0).collect()).collect();
    let found = search::top_k(queries, documents, from + count, Similarity::Cosine, &own).unwrap();
    NegativeSet { name: name.into(), negatives: found.iter().map(|r| r[from..].iter().map(|n| n.0).collect()).collect() }
}

fn score(world: &(Collection, Embeddings, Embeddings), sets: &[NegativeSet]) -> Result<ScoreReport> {
    score_embedded(&world.0, sets, &world.1, &world.2, &ScoreSettings::default())
}

#[test]
fn sets_are_scored_sorted_and_told_apart() {
    let world = world(60, 0.9, 1);
    // A twin of "hard" differs from it by nothing; documents far down the list are no foils.
    let sets = [set("easy", &world, 120, 5), set("hard", &world, 0, 5), NegativeSet { name: "twin".into(), ..set("", &world, 0, 5) }];
    let report = score(&world, &sets).unwrap();
    let names: Vec<_> = report.sets.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["hard", "twin", "easy"]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(report.different, [pair("hard", "easy"), pair("twin", "easy")]);
    let hard = &report.sets[0];
    assert!(hard.eci.low < hard.eci.mean && hard.eci.mean < hard.eci.high);
    assert_eq!((hard.hardness, hard.intervals.hardness.mean, hard.baselines.size), (hard.intervals.hardness.mean, hard.hardness, 300));

    // The same through the function that the golden vectors hold.
    let (_, queries, documents) = &world;
    let positives = documents.select(&(0..60).collect::<Vec<_>>());
    let negatives = documents.select(&sets[1].negatives.concat());
    let settings = |margin| EciSettings { margin, ..EciSettings::default() };
    let direct = |margin| {
        eci_from_embeddings(queries.data(), positives.data(), negatives.data(), &[true; 300], queries.dim(), settings(margin)).unwrap()
    };
    let eci = direct(Margin::Hardest);
    let ours = [hard.eci.mean, hard.capacity, hard.hardness, hard.safety, hard.efficiency, hard.unsafe_rate];
    for (a, b) in ours.into_iter().zip(eci.values()) {
        assert!((a - b).abs() < 1e-6, "{ours:?} is not {eci:?}");
    }
    assert!((hard.eci_mean_margin.mean - direct(Margin::Mean).eci).abs() < 1e-6);
}

#[test]
fn baselines_and_unsafe_pairs_are_those_of_the_similarities() {
    let embeddings = |rows: &[[f32; 2]]| Embeddings::new(2, rows.concat()).unwrap();
    let collection =
        Collection { queries: texts('q', 2), corpus: texts('d', 5), qrels: Qrels::new(vec![vec![(0, 1), (1, 1)], vec![(2, 1)]]).unwrap() };
    let queries = embeddings(&[[1.0, 0.0], [0.0, 1.0]]);
    // Cosines to query 0: 1, .6, 0, .6, .8; to query 1: 0, .8, 1, .8, .6.
    let documents = embeddings(&[[2.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]]);
    let sets = [NegativeSet { name: "s".into(), negatives: vec![vec![3, 4, 2, 3], vec![]] }];
    let report = score_embedded(&collection, &sets, &queries, &documents, &ScoreSettings::default()).unwrap();
    let s = &report.sets[0];
    // The weakest positive of query 0 has .6; document 3 counts once; query 1 has no negatives.
    assert_eq!((s.baselines.size, s.queries_without_negatives), (3, 1));
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    close(s.baselines.mean_similarity, 1.4 / 3.0);
    close(s.baselines.mean_margin, 0.4 / 3.0);
    close(s.baselines.near_positive, 2.0 / 3.0);
    close(s.baselines.info_nce, (1.0f64 + 1.0 + 4f64.exp() + (-12f64).exp()).ln());
    close(s.unsafe_rate, 2.0 / 3.0);
    let shown: Vec<_> = s.unsafe_pairs.iter().map(|p| (p.query.as_str(), p.positive.as_str(), p.negative.as_str())).collect();
    assert_eq!(shown, [("text q0", "text d1", "text d4"), ("text q0", "text d1", "text d3")]);
    assert!(s.unsafe_pairs[0].negative_score > s.unsafe_pairs[0].positive_score);
    // The weakest positive, .6, is not above the mean of its negatives only if that is .6 or more; here it is .467.
    assert_eq!(report.encoder_positive_above, 1.0);
}

#[test]
fn a_weak_encoder_is_not_trusted_and_the_reason_says_why() {
    let strong = world(60, 0.9, 2);
    let report = score(&strong, &[set("dense", &strong, 0, 5)]).unwrap();
    assert!(report.trusted && report.encoder_ndcg > 0.9 && report.encoder_hardest_unsafe < 0.1, "{}", report.trust_reason);
    assert!(report.trust_reason.starts_with("ECI can be read as a hint"));

    let weak = world(60, 0.35, 2);
    let sets = [set("far", &weak, 230, 5)];
    let report = score(&weak, &sets).unwrap();
    assert!(!report.trusted && report.encoder_hardest_unsafe > TRUSTED_UNSAFE, "{}", report.trust_reason);
    assert!(report.trust_reason.contains("not to be trusted") && report.trust_reason.contains("short trainings"));
    // The judgement is of the encoder: easy negatives do not change it.
    assert_eq!(report.sets[0].unsafe_rate, 0.0);

    // Nor does a set full of false negatives make a good encoder look bad.
    let mut doubled = world(60, 0.9, 2);
    doubled.2 = Embeddings::new(16, [doubled.2.data(), &doubled.2.data()[..60 * 16]].concat()).unwrap();
    doubled.0.corpus = texts('d', 300);
    let copies = NegativeSet { name: "copies".into(), negatives: (240..300).map(|d| vec![d]).collect() };
    let report = score(&doubled, &[copies]).unwrap();
    assert_eq!((report.sets[0].unsafe_rate, report.sets[0].eci.mean, report.trusted), (1.0, 0.0, true), "{}", report.trust_reason);
}

#[test]
fn examples_are_gathered_by_text() {
    let example = |anchor: &str, negatives: &[&str]| Example {
        negatives: negatives.iter().map(|n| (*n).to_owned()).collect(),
        ..Example::pair(anchor, format!("answer to {}", anchor.to_lowercase()))
    };
    let pairs = [example("One", &[]), example("two", &[]), example("three", &[])];
    let sets = [
        ("a".to_owned(), vec![example("one", &["x", "answer to two"]), example("two", &["y"])]),
        ("b".to_owned(), vec![example("two ", &["X"])]),
    ];
    let (collection, gathered) = gather(Some(&pairs), &sets).unwrap();
    assert_eq!((collection.queries.len(), collection.corpus.len()), (3, 5));
    assert_eq!(gathered[0].negatives, [vec![3, 1], vec![4], vec![]]);
    assert_eq!(gathered[1].negatives, [vec![], vec![3], vec![]]);
    assert_eq!(gather(None, &sets).unwrap().0.queries.len(), 2);
    let stranger = [("c".to_owned(), vec![example("four", &["x"])])];
    assert!(gather(Some(&pairs), &stranger).unwrap_err().to_string().contains("the set c has the anchor \"four\""));
    assert!(gather::<Vec<Example>>(None, &[]).is_err());
}

#[test]
fn bad_input_is_named() {
    let w = world(3, 0.9, 3);
    let said = |sets: &[NegativeSet]| score(&w, sets).unwrap_err().to_string();
    let named = |name: &str, negatives: Vec<Vec<u32>>| NegativeSet { name: name.into(), negatives };
    assert!(said(&[]).contains("no negative set"));
    assert!(said(&[named("a", vec![vec![5]; 3]), named("a", vec![vec![5]; 3])]).contains("two sets are called a"));
    assert!(said(&[named("a", vec![vec![5]; 2])]).contains("2 lists of negatives for 3 queries"));
    assert!(said(&[named("a", vec![vec![]; 3])]).contains("has no negatives"));
    assert!(said(&[named("a", vec![vec![12]; 3])]).contains("negative 12 is not among the 12 documents"));
    assert!(said(&[named("a", vec![vec![2]; 3])]).contains("query q2: the negative \"text d2\" is one of the query's positives"));
    let fine = [named("a", vec![vec![5]; 3])];
    let mut without = w.clone();
    without.0.qrels = Qrels::new(vec![vec![(0, 1)], vec![], vec![(2, 1)]]).unwrap();
    assert!(score(&without, &fine).unwrap_err().to_string().contains("query q1 has no positive"));
    let mut zero = w.clone();
    let mut data = zero.1.into_data();
    data[16..32].fill(0.0);
    zero.1 = Embeddings::new(16, data).unwrap();
    assert!(score(&zero, &fine).unwrap_err().to_string().contains("query q1 (\"text q1\") has the zero vector"));
    let mut short = w;
    short.2 = short.2.select(&[0, 1]);
    assert!(score(&short, &fine).unwrap_err().to_string().contains("2 document vectors for 12 texts"));
}
