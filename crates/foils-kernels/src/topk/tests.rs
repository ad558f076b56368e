use super::shortlist::{Rows, Shortlist, settle};
use super::*;
use crate::Lists;
use crate::simd::int8::Engine;
use proptest::prelude::*;

/// Every score by plain code, sorted whole.
fn naive<T: Real>(queries: &[T], documents: &[T], dim: usize, k: usize, excluded: impl Fn(usize, u32) -> bool) -> Vec<Vec<(u32, T)>> {
    let ranking = |(q, query): (usize, &[T])| {
        let kept = (0..(documents.len() / dim) as u32).filter(|&d| !excluded(q, d));
        let score = |d: u32| dot(query, &documents[d as usize * dim..][..dim]);
        let mut all: Vec<(u32, T)> = kept.map(|d| (d, score(d))).filter(|e| e.1.partial_cmp(&e.1).is_some()).collect();
        all.sort_by(rank_order);
        all.truncate(k);
        all
    };
    queries.chunks(dim).enumerate().map(ranking).collect()
}

/// How it was searched, and the rankings.
type Found<T> = (Option<Engine>, Vec<Vec<(u32, T)>>);

/// Every way of searching, the documents cut into blocks of `block`; with emulated AMX, which takes long, few tiles only.
fn every_way<T: Real>(
    queries: &[T],
    documents: &[T],
    dim: usize,
    k: usize,
    block: usize,
    excluded: impl Fn(usize, u32) -> bool + Sync,
) -> Vec<Found<T>> {
    let n = documents.len() / dim;
    let tiles = (queries.len() / dim).div_ceil(6) * n.div_ceil(block) * block.min(n).div_ceil(64);
    let engines = Engine::all().into_iter().filter(|engine| *engine != Engine::Amx || tiles <= 60).map(Some).chain([None]);
    let search = |engine| {
        let mut best = TopK::with_engine(queries, dim, k, engine);
        for (at, documents) in documents.chunks(block * dim).enumerate() {
            best.block((at * block) as u32, documents, &excluded);
        }
        (engine, best.finish())
    };
    engines.map(search).collect()
}

fn indices<T: Copy>(rankings: &[Vec<(u32, T)>]) -> Vec<Vec<u32>> {
    rankings.iter().map(|r| r.iter().map(|e| e.0).collect()).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// In [−1, 1].
    fn unit(&mut self) -> f32 {
        (self.next() % 2001) as f32 / 1000.0 - 1.0
    }
}

/// Small whole numbers: every sum is exact in any order, so that there are many ties.
fn grid(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed | 1);
    (0..len).map(|_| (random.next() % 5) as f32 - 2.0).collect()
}

/// Rows of which each kind is hard for some bound: huge entries, denormals, zeros, copies, NaN and infinities.
fn adversarial(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed | 1);
    let mut data = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let kind = random.next() % 14;
        let at = random.next() as usize % dim;
        let scale = [1.0, 1e-30, 1e30, 1e-42][random.next() as usize % 4];
        let values: Vec<f32> = match kind {
            0 => vec![0.0; dim],
            1 => (0..dim).map(|_| random.unit() * scale).collect(),
            2 => (0..dim).map(|j| if j == at { 1e4 } else { random.unit() }).collect(),
            3 => (0..dim).map(|j| if j == at { f32::MAX } else { random.unit() }).collect(),
            4 => (0..dim).map(|_| f32::MAX * random.unit().signum()).collect(),
            5 => (0..dim).map(|j| if j == at { f32::NAN } else { random.unit() }).collect(),
            6 => (0..dim).map(|j| if j == at { f32::INFINITY * random.unit().signum() } else { 0.0 }).collect(),
            7 => (0..dim).map(|_| -0.0).collect(),
            8 if row > 0 => data[(random.next() as usize % row) * dim..][..dim].to_vec(),
            9 => (0..dim).map(|_| f32::from_bits(random.next() as u32 % 100)).collect(),
            _ => (0..dim).map(|_| random.unit()).collect(),
        };
        data.extend(values);
    }
    data
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if cfg!(miri) { 2 } else { count })
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn agrees_with_naive_code(q in 0usize..70, n in 0usize..300, dim in 1usize..20, k in 0usize..40, seed in any::<u64>(), out in 1u32..5, block in 1usize..200) {
        let (queries, documents) = (grid(q * dim, seed), grid(n * dim, seed ^ 0xabcdef));
        let excluded = |q: usize, d: u32| out > 1 && (d + q as u32).is_multiple_of(out);
        let expected = naive(&queries, &documents, dim, k, excluded);
        prop_assert_eq!(&top_k(&queries, &documents, dim, k, excluded), &expected);
        for (engine, found) in every_way(&queries, &documents, dim, k, block, excluded) {
            prop_assert_eq!(&found, &expected, "{:?}", engine);
        }
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        for (engine, found) in every_way(&wide(&queries), &wide(&documents), dim, k, block, excluded) {
            prop_assert_eq!(indices(&found), indices(&expected), "{:?}", engine);
        }
    }

    #[test]
    fn rows_of_every_kind_are_ranked_rightly(q in 1usize..20, n in 0usize..400, dim in 1usize..40, k in 0usize..450, seed in any::<u64>(), block in 1usize..300) {
        let (queries, documents) = (adversarial(q, dim, seed), adversarial(n, dim, seed ^ 0x5555));
        let expected = naive(&queries, &documents, dim, k, |_, _| false);
        for (engine, found) in every_way(&queries, &documents, dim, k, block, |_, _| false) {
            prop_assert_eq!(&found, &expected, "{:?}", engine);
        }
    }

    /// Documents coded once, searched by blocks of queries of which the last may be few; and lists of what is excluded.
    #[test]
    fn a_corpus_and_lists_agree_with_naive_code(q in 1usize..70, n in 0usize..200, dim in 1usize..40, k in 0usize..30, seed in any::<u64>(), lists in prop::collection::vec(prop::collection::vec(0u32..200, 0..30), 70)) {
        let (queries, documents) = (adversarial(q, dim, seed), adversarial(n, dim, seed ^ 0x7777));
        let mut lists = lists[..q].to_vec();
        lists.iter_mut().for_each(|list| list.sort_unstable());
        let offsets: Vec<usize> = std::iter::once(0).chain(lists.iter().scan(0, |sum, list| { *sum += list.len(); Some(*sum) })).collect();
        let indices = lists.concat();
        let members = Lists::new(&offsets, &indices).members();
        let expected = naive(&queries, &documents, dim, k, |q, d| lists[q].contains(&d));
        prop_assert_eq!(&top_k(&queries, &documents, dim, k, &members), &expected);
        for engine in Engine::all().into_iter().map(Some).chain([None]) {
            let corpus = Corpus::with_engine(&documents, dim, engine);
            let block = |at: usize| corpus.top_k(&queries[at * dim..(at + 50).min(q) * dim], k, |row, d| members(at + row, d));
            let found: Vec<_> = (0..q).step_by(50).flat_map(block).collect();
            prop_assert_eq!(&found, &expected, "{:?}", engine);
        }
    }

    /// The certificate itself: every score lies between its bounds, and what may reach the bar is not passed over.
    #[test]
    fn bounds_of_the_screen_hold(n in 1usize..130, dim in 1usize..70, seed in any::<u64>()) {
        let (queries, documents) = (adversarial(6, dim, seed), adversarial(n, dim, seed ^ 0x3333));
        // AMX has the codes of VNNI, and its emulation takes long for tiles of which one product is looked at.
        for engine in Engine::all().into_iter().filter(|engine| *engine != Engine::Amx) {
            let coded = screen::Queries::new(engine, &queries, dim);
            let mut panels = screen::Documents::default();
            panels.fill(engine, &documents, dim);
            for (q, query) in queries.chunks(dim).enumerate() {
                for (d, document) in documents.chunks(dim).enumerate() {
                    let exact = crate::simd::ordered_dot(query, document);
                    let (lower, upper) = screen::certified(engine, &coded, &panels, q, d);
                    // Bounds that are not numbers say nothing, which is right for everything.
                    if exact.is_nan() || exact.is_infinite() {
                        prop_assert!(!(upper - lower).is_finite(), "{engine:?} {q} {d}: [{lower}, {upper}] for {exact}");
                    } else if (upper - lower).is_finite() {
                        prop_assert!(lower <= exact && exact <= upper, "{engine:?} {q} {d}: [{lower}, {upper}] for {exact}");
                    }
                    // A bar that the score just reaches.
                    let bar = exact as f32;
                    if !bar.is_nan() {
                        prop_assert!(screen::reaches(engine, &coded, &panels, q, d, bar), "{engine:?} {q} {d}: {exact} passed over");
                    }
                }
            }
        }
    }

    /// Documents with random bounds around their scores, in any order, with rounds of scoring anywhere.
    #[test]
    fn a_shortlist_keeps_the_best(scores in prop::collection::vec(-20i32..20, 0..400), k in 1usize..30, seed in any::<u64>()) {
        let documents: Vec<f32> = scores.iter().map(|&s| s as f32).collect();
        let rows = Rows { dim: 1, queries: &[1.0f32], documents: &documents, first: 0 };
        let mut random = Random(seed | 1);
        let mut order: Vec<u32> = (0..documents.len() as u32).collect();
        order.sort_by_cached_key(|_| random.next());
        let mut shortlist = Shortlist::new(k);
        for document in order {
            let score = f64::from(documents[document as usize]);
            let width = (random.next() % 4) as f64;
            let bounds = if random.next().is_multiple_of(50) { (f64::NAN, f64::NAN) } else { (score - width, score + width) };
            shortlist.push(document, bounds, &rows, 0);
            if random.next().is_multiple_of(100) {
                settle(&rows, 0, std::slice::from_mut(&mut shortlist));
            }
        }
        settle(&rows, 0, std::slice::from_mut(&mut shortlist));
        prop_assert!(shortlist.scored() <= documents.len() as u64);
        prop_assert_eq!(shortlist.into_ranking(), naive(&[1.0], &documents, 1, k, |_, _| false).remove(0));
    }
}

/// 0.1-like values: products round, and copies of one document must still tie to the lower index wherever blocks end.
#[test]
fn copies_tie_across_blocks_and_thread_counts() {
    let dim = 37;
    let noise =
        |len: usize, seed: u64| grid(len, seed).iter().enumerate().map(|(i, v)| v * 0.1 + (i % 7) as f32 * 0.013).collect::<Vec<_>>();
    let kinds = noise(11 * dim, 3);
    let n = if cfg!(miri) { 150 } else { 2 * 1024 + 77 };
    let documents: Vec<f32> = (0..n).flat_map(|d| kinds[d % 11 * dim..][..dim].to_vec()).collect();
    let queries = noise(131 * dim, 9);
    let run = |threads: usize, rows: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| top_k(&queries[..rows * dim], &documents, dim, 300, |_, _| false))
    };
    let rows = if cfg!(miri) { 7 } else { 131 };
    let one = run(1, rows);
    for (row, ranking) in one.iter().enumerate() {
        let kind = ranking[0].0 % 11;
        let copies: Vec<u32> = (0..n as u32).filter(|d| d % 11 == kind).collect();
        let first: Vec<u32> = ranking.iter().map(|e| e.0).take(copies.len()).collect();
        assert_eq!(first, copies, "query {row}");
    }
    assert_eq!(one, run(3, rows));
    assert_eq!(one[..1], run(4, 1));
    assert_eq!(one[..2], run(2, 2));
}

/// Unit rows, and rows whose one large value leaves the codes nothing to say about the rest.
fn directions(rows: usize, dim: usize, spoilt: bool, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let mut data: Vec<f32> = (0..rows * dim).map(|_| (0..6).map(|_| random.unit()).sum::<f32>()).collect();
    if spoilt {
        data.iter_mut().step_by(dim).for_each(|v| *v = 1e4);
    }
    unit_rows(&data, dim)
}

#[test]
fn a_screen_that_does_not_pay_is_given_up() {
    let (q, n, dim, k) = (60, 12_000, 48, 10);
    for (spoilt, most) in [(false, 40), (true, 1200)] {
        let (queries, documents) = (directions(q, dim, false, 5), directions(n, dim, spoilt, 7));
        for engine in Engine::all() {
            let mut best = TopK::with_engine(&queries, dim, k, Some(engine));
            for (at, block) in documents.chunks(4000 * dim).enumerate() {
                best.block(at as u32 * 4000, block, |_, _| false);
            }
            let scored = best.scored() / q as u64;
            assert!((k as u64..most).contains(&scored), "{engine:?}, spoilt: {spoilt}: {scored} documents scored a query");
            let mut plain = TopK::with_engine(&queries, dim, k, None);
            plain.block(0, &documents, |_, _| false);
            assert_eq!(best.finish(), plain.finish());
        }
    }
}

/// More queries and documents than one product takes, with and without copies that are packed or coded.
#[test]
#[cfg_attr(miri, ignore = "slow there")]
fn large_searches_agree() {
    let (dim, n, k) = (70, 1500, 20);
    let (queries, documents) = (directions(400, dim, false, 11), directions(n, dim, false, 12));
    let expected = naive(&queries, &documents, dim, k, |_, _| false);
    for (engine, found) in every_way(&queries, &documents, dim, k, 700, |_, _| false) {
        assert_eq!(found, expected, "{engine:?}");
    }
    let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let (queries, documents) = (wide(&queries), wide(&documents));
    let expected = naive(&queries, &documents, dim, k, |_, _| false);
    for (engine, found) in every_way(&queries, &documents, dim, k, 700, |_, _| false) {
        assert_eq!(found, expected, "{engine:?}");
    }
}

#[test]
#[should_panic(expected = "the indices of a list must ascend")]
fn lists_must_ascend() {
    let _ = Lists::new(&[0, 2], &[3, 1]).members();
}

#[test]
fn blocks_may_come_in_any_order() {
    let (dim, k) = (16, 7);
    let (queries, documents) = (grid(50 * dim, 1), grid(500 * dim, 2));
    let expected = naive(&queries, &documents, dim, k, |_, _| false);
    let mut best = TopK::new(&queries, dim, k);
    for at in [3, 0, 4, 1, 2] {
        best.block(at * 100, &documents[at as usize * 100 * dim..][..100 * dim], |_, _| false);
    }
    assert_eq!(best.finish(), expected);
}

#[test]
fn an_overflowing_product_and_nan_are_handled() {
    let big = f32::MAX;
    // The f32 product of the first document is inf − inf; its true score is 0.
    let documents = [big, big, 0.0, -1.0, f32::NAN, 0.0, 0.0, 1e-30];
    for (engine, found) in every_way(&[big, -big], &documents, 2, 4, 4, |_, _| false) {
        assert_eq!(indices(&found), [[1, 0, 3]], "{engine:?}");
    }
    assert!(top_k::<f32>(&[], &[1.0], 1, 3, |_, _| false).is_empty());
    assert_eq!(top_k::<f32>(&[1.0], &[], 1, 3, |_, _| false), [[]]);
    assert_eq!(top_k(&[2.0f32], &[3.0], 1, usize::MAX, |_, _| false), [[(0, 6.0)]]);
    assert_eq!(top_k(&[2.0f32], &[3.0], 1, 1, |_, _| true), [[]]);
}
