//! Tests of the miner on small collections whose right answer one can see.

use super::*;
use crate::data::{Collection, Embeddings, Example, Qrels, Texts};
use crate::weighting::{MarginRule, NegativeFilter};
use proptest::prelude::*;

/// Five documents: the positive, its copy in capitals, a near-copy, a hard negative, and something else.
fn collection() -> Collection {
    let copy = "a quick brown fox jumps over the lazy dog near a big river bank today";
    let mut corpus = Texts::default();
    for (id, text) in [
        ("d0", copy),
        ("d1", "A QUICK brown fox  jumps over the lazy dog near a big river bank today"),
        ("d2", "a quick brown fox jumps over the lazy dog near a big river bank"),
        ("d3", "a slow brown fox sleeps"),
        ("d4", "stock markets fell sharply"),
        ("d5", "which fox jumps over the dog"),
        ("d6", "A slow brown fox sleeps"),
    ] {
        corpus.push(id, text);
    }
    let mut queries = Texts::default();
    queries.push("q0", "Which fox jumps over the dog");
    Collection { queries, corpus, qrels: Qrels::new(vec![vec![(0, 1)]]).unwrap() }
}

fn vectors() -> (Embeddings, Embeddings) {
    let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
    let documents = [20.0, 21.0, 25.0, 40.0, 80.0, 0.0, 40.0].map(at).concat();
    (Embeddings::new(2, at(0.0).to_vec()).unwrap(), Embeddings::new(2, documents).unwrap())
}

fn settings(candidates: Candidates) -> MineSettings {
    MineSettings { candidates, num_negatives: 2, filter: NegativeFilter::default(), ..MineSettings::default() }
}

fn indices(mined: &Mined) -> Vec<Vec<u32>> {
    mined.negatives.iter().map(|list| list.iter().map(|n| n.0).collect()).collect()
}

fn removed(summary: &MineSummary, filter: &str) -> u64 {
    summary.removed.iter().find(|r| r.filter == filter).unwrap().count
}

/// Every candidate is in exactly one place of the account.
fn assert_accounted(s: &MineSummary) {
    let equal = s.equal_to_positive.by_id + s.equal_to_positive.by_text + s.equal_to_positive.nearly;
    assert_eq!(equal + s.removed.iter().map(|r| r.count).sum::<u64>() + s.unused + s.kept, s.candidates, "{s:?}");
}

#[test]
fn positives_copies_near_copies_and_the_query_itself_are_never_negatives() {
    let (q, d) = vectors();
    let mined = mine(&collection(), Some((&q, &d)), &settings(Candidates::Dense)).unwrap();
    assert_eq!(indices(&mined), [[3, 4]]);
    let s = &mined.summary;
    assert_eq!(s.equal_to_positive, EqualToPositive { by_id: 1, by_text: 1, nearly: 1 });
    assert_eq!((removed(s, "equals_query"), removed(s, "repeated_text"), s.candidates, s.kept, s.too_few), (1, 1, 7, 2, 0));
    assert_accounted(s);
    assert!((mined.positive_scores[0][0] - 20f32.to_radians().cos()).abs() < 1e-6);
    assert!((s.differences.min - f64::from(mined.positive_scores[0][0] - mined.negatives[0][0].1)).abs() < 1e-6);

    let off = MineSettings { near_copy: 0.0, ..settings(Candidates::Dense) };
    assert_eq!(indices(&mine(&collection(), Some((&q, &d)), &off).unwrap()), [[2, 3]]);
}

#[test]
fn filters_apply_to_every_source_and_too_few_are_named() {
    let (q, d) = vectors();
    for candidates in [Candidates::Bm25, Candidates::Dense, Candidates::Hybrid, Candidates::Rrf, Candidates::Random] {
        let filter = NegativeFilter { max_score: Some(0.5), ..NegativeFilter::default() };
        let mined = mine(&collection(), Some((&q, &d)), &MineSettings { filter, ..settings(candidates) }).unwrap();
        assert!(mined.negatives[0].iter().all(|n| n.1 <= 0.5), "{candidates:?}");
        // BM25 does not find document 4, which shares no word with the query.
        let found = usize::from(candidates != Candidates::Bm25);
        assert_eq!(mined.summary.too_few_examples, [TooFew { id: "q0".into(), text: "Which fox jumps over the dog".into(), found }]);
        assert_eq!(removed(&mined.summary, "max_score"), 1, "{candidates:?}");
        assert_accounted(&mined.summary);
        assert_eq!(mined.scored_by, ScoredBy::Encoder);
    }
}

#[test]
fn with_several_positives_the_lowest_counts() {
    let (q, d) = vectors();
    let mut two = collection();
    two.qrels = Qrels::new(vec![vec![(0, 1), (4, 2)]]).unwrap();
    let filter = NegativeFilter { relative_margin: Some(0.0), ..NegativeFilter::default() };
    let mined = mine(&two, Some((&q, &d)), &MineSettings { filter, ..settings(Candidates::Dense) }).unwrap();
    assert_eq!(indices(&mined), [Vec::<u32>::new()]);
    assert_eq!(mined.positive_scores[0].len(), 2);
    assert!(mined.summary.warnings.iter().any(|w| w.contains("no negative was left")));
}

fn mine_with_teacher(
    collection: &Collection,
    vectors: Option<(&Embeddings, &Embeddings)>,
    (queries, documents): (&Embeddings, &Embeddings),
    settings: &MineSettings,
) -> crate::Result<Mined> {
    let miner = Miner::new(collection, settings).with_teacher_vectors(queries, documents);
    match vectors {
        Some((queries, documents)) => miner.with_vectors(queries, documents),
        None => miner,
    }
    .run()
}

/// The teacher sees one dimension more, and finds document 3 nearer than the positive.
#[test]
fn a_teacher_judges_what_others_find() {
    let (q, d) = vectors();
    let teacher_q = Embeddings::new(3, vec![0.0, 0.0, 2.0]).unwrap();
    let scores = [0.5, 0.5, 0.5, 0.6, 0.3, 0.4, 0.6];
    let teacher_d = Embeddings::new(3, scores.iter().flat_map(|s: &f32| [(1.0 - s * s).sqrt(), 0.0, *s]).collect()).unwrap();
    let teacher = (&teacher_q, &teacher_d);
    let margin = NegativeFilter { absolute_margin: Some(0.0), ..NegativeFilter::default() };
    for candidates in [Candidates::Bm25, Candidates::Dense, Candidates::Hybrid, Candidates::Rrf, Candidates::Random] {
        let plain = mine(&collection(), Some((&q, &d)), &settings(candidates)).unwrap();
        let unlimited = mine_with_teacher(&collection(), Some((&q, &d)), teacher, &settings(candidates)).unwrap();
        assert_eq!(indices(&unlimited), indices(&plain), "found and ordered as before: {candidates:?}");
        assert!((unlimited.positive_scores[0][0] - 0.5).abs() < 1e-6);
        assert!(unlimited.negatives[0].iter().all(|n| (n.1 - scores[n.0 as usize]).abs() < 1e-6), "{:?}", unlimited.negatives);
        assert_eq!((unlimited.scored_by, unlimited.summary.scored_by), (ScoredBy::Teacher, Some(ScoredBy::Teacher)));

        let limited = MineSettings { filter: margin.clone(), ..settings(candidates) };
        let mined = mine_with_teacher(&collection(), Some((&q, &d)), teacher, &limited).unwrap();
        assert!(mined.negatives[0].iter().all(|n| n.0 == 4), "{candidates:?}: {:?}", mined.negatives);
        assert_eq!(removed(&mined.summary, "absolute_margin"), 1);
        assert_accounted(&mined.summary);
    }
    // Words find, the teacher judges: no other encoder is needed.
    let limited = MineSettings { filter: margin, ..settings(Candidates::Bm25) };
    let mined = mine_with_teacher(&collection(), None, teacher, &limited).unwrap();
    assert_eq!((indices(&mined), mined.scored_by), (vec![vec![]], ScoredBy::Teacher));
    let message = mine_with_teacher(&collection(), None, teacher, &settings(Candidates::Dense)).unwrap_err().to_string();
    assert!(message.contains("`dense` candidates need an encoder"), "{message}");
    let message = mine_with_teacher(&collection(), None, (&teacher_q, &d), &limited).unwrap_err().to_string();
    assert!(message.contains("the teacher: "), "{message}");
}

#[test]
fn words_alone_need_no_encoder_and_scores_are_those_of_bm25() {
    let mined = mine(&collection(), None, &settings(Candidates::Bm25)).unwrap();
    assert_eq!((indices(&mined), mined.scored_by), (vec![vec![3]], ScoredBy::Bm25));
    let index = crate::search::Bm25Index::new(&collection().corpus.texts.refs(0..7), &Default::default()).unwrap();
    assert_eq!(mined.negatives[0][0].1, index.scores("Which fox jumps over the dog")[3]);
    assert!(mined.summary.warnings[0].contains("no encoder"));
    let random = mine(&collection(), None, &settings(Candidates::Random)).unwrap();
    assert_eq!(random.scored_by, ScoredBy::Nothing);
    assert!(random.examples(&collection()).next().unwrap().negative_scores.is_empty());
}

#[test]
fn examples_carry_all_positives_and_scores() {
    let (q, d) = vectors();
    let mut two = collection();
    two.qrels = Qrels::new(vec![vec![(0, 1), (3, 1)]]).unwrap();
    let mined = mine(&two, Some((&q, &d)), &settings(Candidates::Dense)).unwrap();
    let text = |i: usize| two.corpus.texts[i].to_owned();
    let expected = Example {
        anchor: two.queries.texts[0].to_owned(),
        positives: vec![text(0), text(3)],
        negatives: vec![text(4)],
        positive_scores: mined.positive_scores[0].clone(),
        negative_scores: vec![mined.negatives[0][0].1],
    };
    assert_eq!(mined.examples(&two).collect::<Vec<_>>(), [expected]);
    assert_eq!(mined.positive_scores[0].len(), 2);
}

#[test]
fn bad_input_is_named() {
    let (q, d) = vectors();
    let fails = |c: &Collection, v: Option<(&Embeddings, &Embeddings)>, s: MineSettings, part: &str| {
        let message = mine(c, v, &s).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let good = || settings(Candidates::Bm25);
    let c = collection();
    fails(&c, None, settings(Candidates::Hybrid), "`hybrid` candidates need an encoder");
    let filter = NegativeFilter { relative_margin: Some(0.05), ..NegativeFilter::default() };
    fails(&c, None, MineSettings { filter, ..good() }, "leave the limits out");
    fails(&c, None, MineSettings { num_negatives: 0, ..good() }, "num_negatives is 0");
    fails(&c, None, MineSettings { num_negatives: 7, ..good() }, "7 negatives are asked for and there are only 7 documents");
    fails(&c, None, MineSettings { near_copy: 1.5, ..good() }, "near_copy is 1.5");
    let filter = NegativeFilter { max_score: Some(0.1), min_score: Some(0.2), ..NegativeFilter::default() };
    fails(&c, Some((&q, &d)), MineSettings { filter, ..good() }, "min_score 0.2 is above max_score 0.1");
    let filter = NegativeFilter { range_min: 4, range_max: Some(3), ..NegativeFilter::default() };
    fails(&c, None, MineSettings { filter, ..good() }, "range_max is 3");
    let filter = NegativeFilter { range_min: 4, range_max: Some(5), ..NegativeFilter::default() };
    fails(&c, None, MineSettings { filter, num_negatives: 2, ..good() }, "only 1 ranks lie in the window");
    fails(&c, Some((&q, &q)), good(), "1 document vectors for 7 texts");
    fails(&c, Some((&q, &Embeddings::new(3, vec![1.0; 21]).unwrap())), good(), "2 dimensions and document vectors 3");
    fails(&c, Some((&q, &Embeddings::new(2, vec![0.0; 14]).unwrap())), good(), "document 0 has the zero vector");
    let unjudged = Collection { qrels: Qrels::new(vec![vec![]]).unwrap(), ..collection() };
    fails(&unjudged, None, good(), "query q0 has no positive");
    let outside = Collection { qrels: Qrels::new(vec![vec![(9, 1)]]).unwrap(), ..collection() };
    fails(&outside, None, good(), "its positive 9 is not among the 7 documents");
    fails(&Collection { corpus: Texts::default(), ..collection() }, None, good(), "the corpus is empty");
    fails(&Collection::default(), None, good(), "no queries");
}

#[test]
fn settings_survive_a_round_trip_and_unknown_ones_are_refused() {
    let mut settings = MineSettings::default();
    assert_eq!(settings.filter.margin_rule, MarginRule::Magnitude);
    settings.filter.max_score = Some(0.7);
    let text = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<MineSettings>(&text).unwrap(), settings);
    assert!(toml::from_str::<MineSettings>("num_negative = 3").is_err());
    // A filter table of one's own replaces the default limits.
    assert_eq!(toml::from_str::<MineSettings>("[filter]").unwrap().filter, NegativeFilter::default());
}

/// Random words and vectors, some of them copies.
pub(super) fn random_problem(seed: u64, queries: usize, documents: usize) -> (Collection, Embeddings, Embeddings) {
    use rand::RngExt;
    let mut rng = crate::seed::rng(seed, 0);
    let mut text = |len: usize| (0..len).map(|_| format!("w{}", rng.random_range(0..12))).collect::<Vec<_>>().join(" ");
    let mut c = Collection::default();
    (0..documents).for_each(|i| {
        let t = text(1 + i % 4);
        c.corpus.push(format!("d{i}"), t);
    });
    (0..queries).for_each(|i| {
        let t = text(3);
        c.queries.push(format!("q{i}"), t);
    });
    let mut rng = crate::seed::rng(seed, 1);
    let positives = (0..queries).map(|_| {
        let mut ids: Vec<u32> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..documents as u32)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|d| (d, 1)).collect()
    });
    c.qrels = Qrels::new(positives.collect()).unwrap();
    let mut rows = |n: usize| Embeddings::new(4, (0..n * 4).map(|_| rng.random_range(-1.0f32..1.0)).collect()).unwrap();
    let (q, d) = (rows(queries), rows(documents));
    (c, q, d)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn what_must_hold_of_every_run(
        seed in any::<u64>(), queries in 1usize..8, documents in 8usize..60, num_negatives in 1usize..7,
        source in 0usize..5, random in any::<bool>(), margin in prop::option::of(-0.2f64..0.5), near in prop_oneof![Just(0.0), Just(0.5), Just(1.0)],
        range_min in 0usize..3,
    ) {
        let (c, q, d) = random_problem(seed, queries, documents);
        let candidates = [Candidates::Bm25, Candidates::Dense, Candidates::Hybrid, Candidates::Rrf, Candidates::Random][source];
        let sampling = if random { Sampling::Random } else { Sampling::Top };
        let filter = NegativeFilter { absolute_margin: margin, range_min, ..NegativeFilter::default() };
        let settings = MineSettings { candidates, sampling, num_negatives, near_copy: near, filter, seed, ..MineSettings::default() };
        let mined = mine(&c, Some((&q, &d)), &settings).unwrap();
        assert_accounted(&mined.summary);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let again = pool.install(|| mine(&c, Some((&q, &d)), &settings)).unwrap();
        prop_assert_eq!(&mined.negatives, &again.negatives);
        for (query, list) in mined.negatives.iter().enumerate() {
            let positives: Vec<u32> = c.qrels.of(query).iter().map(|p| p.0).collect();
            let lowest = mined.positive_scores[query].iter().copied().fold(f32::INFINITY, f32::min);
            let text = |d: u32| crate::data::text::normalize(&c.corpus.texts[d as usize]);
            let words = |d: u32| text(d).split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
            prop_assert!(list.len() <= num_negatives);
            let mut texts = std::collections::HashSet::new();
            for &(document, score) in list {
                prop_assert!(!positives.contains(&document));
                prop_assert!(texts.insert(text(document)), "one text twice");
                for &p in &positives {
                    prop_assert_ne!(text(p), text(document));
                    let (a, b) = (words(p), words(document));
                    let jaccard = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
                    prop_assert!(near == 0.0 || jaccard < near);
                }
                let expected = crate::search::similarity(q.row(query), d.row(document as usize), Default::default());
                prop_assert_eq!(score, expected);
                prop_assert!(margin.is_none_or(|m| f64::from(score) + m <= f64::from(lowest)));
            }
            if matches!(candidates, Candidates::Dense | Candidates::Hybrid) {
                prop_assert!(list.is_sorted_by(|a, b| crate::search::rank_order(a, b).is_le()));
            }
        }
    }
}
