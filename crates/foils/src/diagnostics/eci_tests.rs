use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

const HARDEST: EciSettings = EciSettings { margin: Margin::Hardest, capacity: Capacity::PerQuery, strict: false };
const MEAN: EciSettings = EciSettings { margin: Margin::Mean, ..HARDEST };
const TOTAL: EciSettings = EciSettings { capacity: Capacity::Total, ..HARDEST };

/// Queries as (positive, negatives), padded to a matrix.
type Set = Vec<(f64, Vec<f64>)>;

fn eci(set: &Set, settings: EciSettings) -> Result<Eci> {
    let width = set.iter().map(|(_, n)| n.len()).max().unwrap_or(0);
    let pad = |n: &Vec<f64>| n.iter().copied().chain(std::iter::repeat_n(f64::NAN, width - n.len())).collect::<Vec<_>>();
    let positives: Vec<f64> = set.iter().map(|(p, _)| *p).collect();
    let negatives: Vec<f64> = set.iter().flat_map(|(_, n)| pad(n)).collect();
    let mask: Vec<bool> = set.iter().flat_map(|(_, n)| (0..width).map(|i| i < n.len())).collect();
    eci_from_scores(&positives, &negatives, &mask, settings)
}

fn sets(low: f64) -> impl Strategy<Value = Set> {
    // Repeated and zero scores among arbitrary ones.
    let score = prop_oneof![4 => low..1.0, 1 => Just(0.5), 1 => Just(0.0)];
    let query = (score.clone(), prop::collection::vec(score, 0..6));
    prop::collection::vec(query, 1..12).prop_filter("someone has negatives", |s| s.iter().any(|(_, n)| !n.is_empty()))
}

/// The equations of the specification, term by term.
fn naive(set: &Set, settings: EciSettings) -> [f64; 6] {
    let with: Vec<_> = set.iter().filter(|(_, n)| !n.is_empty()).collect();
    let mean = |v: Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
    let h = mean(with.iter().map(|(_, n)| mean(n.iter().map(|s| s.max(0.0)).collect())).collect());
    let margin = |p: &f64, n: &[f64]| match settings.margin {
        Margin::Hardest => (p - n.iter().copied().fold(f64::MIN, f64::max)).max(0.0),
        Margin::Mean => mean(n.iter().map(|s| (p - s).max(0.0)).collect()),
    };
    let s = mean(with.iter().map(|(p, n)| margin(p, n)).collect());
    let e = if h + s == 0.0 { 0.0 } else { 2.0 * h * s / (h + s) };
    let size = match settings.capacity {
        Capacity::PerQuery => mean(with.iter().map(|(_, n)| n.len() as f64).collect()),
        Capacity::Total => set.iter().map(|(_, n)| n.len() as f64).sum(),
    };
    let pairs: Vec<bool> = set.iter().flat_map(|(p, n)| n.iter().map(move |s| s >= p)).collect();
    let rate = pairs.iter().filter(|u| **u).count() as f64 / pairs.len() as f64;
    [(1.0 + size).ln() * e, (1.0 + size).ln(), h, s, e, rate]
}

proptest! {
    #[test]
    fn components_are_those_of_the_equations(set in sets(-1.0)) {
        for settings in [HARDEST, MEAN, TOTAL] {
            let ours = eci(&set, settings).unwrap();
            for (a, b) in ours.values().iter().zip(naive(&set, settings)) {
                prop_assert!((a - b).abs() < 1e-12, "{:?} is not {:?}", ours, naive(&set, settings));
            }
            prop_assert_eq!(ours.queries_without_negatives, set.iter().filter(|(_, n)| n.is_empty()).count());
        }
    }

    #[test]
    fn similarities_in_0_1_bound_efficiency_by_a_half(set in sets(0.0)) {
        for settings in [HARDEST, MEAN, TOTAL] {
            let e = eci(&set, settings).unwrap();
            prop_assert!((0.0..=0.5 + 1e-15).contains(&e.efficiency), "{:?}", e);
            prop_assert!(e.eci <= 0.5 * e.capacity + 1e-14);
        }
    }

    #[test]
    fn order_changes_nothing(set in sets(-1.0), turn: Index) {
        let mut turned = set.clone();
        let queries = turned.len();
        turned.rotate_left(turn.index(queries));
        for (_, negatives) in &mut turned {
            let count = negatives.len().max(1);
            negatives.reverse();
            negatives.rotate_left(turn.index(count) % count);
        }
        for settings in [HARDEST, MEAN, TOTAL] {
            prop_assert_eq!(eci(&set, settings).unwrap(), eci(&turned, settings).unwrap());
        }
    }

    #[test]
    fn an_unsafe_negative_more_never_raises_safety(set in sets(-1.0), at: Index, above in prop_oneof![Just(0.0), 0.0..1.0]) {
        let with: Vec<usize> = (0..set.len()).filter(|&i| !set[i].1.is_empty()).collect();
        let mut more = set.clone();
        let query = &mut more[with[at.index(with.len())]];
        query.1.push(query.0 + above);
        for settings in [HARDEST, MEAN] {
            prop_assert!(eci(&more, settings).unwrap().safety <= eci(&set, settings).unwrap().safety);
        }
    }

    #[test]
    fn a_negative_that_is_no_longer_similar_never_raises_hardness(set in sets(-1.0), query: Index, at: Index, instead in -1.0..=0.0) {
        let with: Vec<usize> = (0..set.len()).filter(|&i| !set[i].1.is_empty()).collect();
        let mut changed = set.clone();
        let negatives = &mut changed[with[query.index(with.len())]].1;
        let count = negatives.len();
        negatives[at.index(count)] = instead;
        prop_assert!(eci(&changed, HARDEST).unwrap().hardness <= eci(&set, HARDEST).unwrap().hardness);
    }

    #[test]
    fn a_set_with_an_unsafe_negative_for_every_query_scores_0(set in sets(-1.0), above in prop_oneof![Just(0.0), 0.0..1.0]) {
        let all: Set = set.iter().map(|(p, n)| (*p, n.iter().copied().chain([p + above]).collect())).collect();
        let e = eci(&all, HARDEST).unwrap();
        prop_assert_eq!((e.safety, e.efficiency, e.eci), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_curve_is_the_eci_of_prefix_sets(set in sets(-1.0), k in 1usize..7) {
        let hardest = |n: &Vec<f64>| {
            let mut n = n.clone();
            n.sort_by(|a, b| b.total_cmp(a));
            n.truncate(k);
            n
        };
        let prefix: Set = set.iter().map(|(p, n)| (*p, hardest(n))).collect();
        let width = set.iter().map(|(_, n)| n.len()).max().unwrap();
        let positives: Vec<f64> = set.iter().map(|(p, _)| *p).collect();
        let negatives: Vec<f64> = set.iter().flat_map(|(_, n)| (0..width).map(|i| n.get(i).copied().unwrap_or(9.0))).collect();
        let mask: Vec<bool> = set.iter().flat_map(|(_, n)| (0..width).map(|i| i < n.len())).collect();
        let curve = eci_curve(&positives, &negatives, &mask, &[k, width], MEAN).unwrap();
        prop_assert_eq!(curve[0], (k, eci(&prefix, MEAN).unwrap()));
        prop_assert_eq!(curve[1].1, eci(&set, MEAN).unwrap());
    }
}

#[test]
fn one_negative_is_best_at_half_of_the_positive() {
    let at = |s: f64| eci(&vec![(0.8, vec![s])], HARDEST).unwrap().efficiency;
    assert!(at(0.4) > at(0.35) && at(0.4) > at(0.45));
    assert_eq!((at(0.0), at(0.8), at(-0.5)), (0.0, 0.0, 0.0));
}

#[test]
fn vectors_give_the_eci_of_their_cosines_and_zero_rows_are_0() {
    let query = [1.0, 0.0, 0.0, 2.0, 1.0, 1.0];
    let positive = [1.0, 1.0, 0.0, 0.0, 3.0, 3.0];
    // The second query's positive is zero, so a zero negative is unsafe there; padding may hold anything.
    let negatives = [0.0, 5.0, 1.0, 2.0, 0.0, 0.0, f64::NAN, 1.0, -1.0, -1.0, 0.0, 1e300];
    let mask = [true, true, true, false, true, true];
    let set = vec![(0.5f64.sqrt(), vec![0.0, 0.2f64.sqrt()]), (0.0, vec![0.0]), (1.0, vec![-1.0, 0.5f64.sqrt()])];
    for settings in [HARDEST, MEAN, TOTAL] {
        let ours = eci_from_embeddings(&query, &positive, &negatives, &mask, 2, settings).unwrap();
        for (a, b) in ours.values().iter().zip(naive(&set, settings)) {
            assert!((a - b).abs() < 1e-12, "{ours:?}");
        }
    }
    // A copy of the positive is unsafe to the last bit.
    let copy = eci_from_embeddings(&[0.3f32, 0.7, -0.1], &[0.9, 0.1, 0.4], &[0.9, 0.1, 0.4], &[true], 3, MEAN).unwrap();
    assert_eq!((copy.unsafe_rate, copy.safety, copy.eci), (1.0, 0.0, 0.0));
}

#[test]
fn intervals_hold_the_estimate_and_leave_out_draws_without_negatives() {
    let mut parts = vec![QueryParts::default(); 3];
    parts.extend((1..=9).map(|i| QueryParts::new(0.9, &[0.08 * f64::from(i), 0.1])));
    let bootstrap = Bootstrap::new(200, 1).unwrap();
    let intervals = eci_intervals(&parts, HARDEST, &bootstrap).unwrap();
    let whole = Eci::of(&parts, Margin::Hardest, Capacity::PerQuery).unwrap();
    assert_eq!(intervals.map(|i| i.mean), whole.values());
    for i in intervals {
        assert!(i.low <= i.mean && i.mean <= i.high, "{i:?}");
    }
    assert!(intervals[2].high > intervals[2].low);
    assert!(eci_intervals(&[QueryParts::default()], HARDEST, &bootstrap).is_err());
}

#[test]
fn bad_input_is_named() {
    let said = |p: &[f64], n: &[f64], m: &[bool], s| eci_from_scores(p, n, m, s).unwrap_err().to_string();
    let strict = EciSettings { strict: true, ..HARDEST };
    assert!(said(&[], &[], &[], HARDEST).contains("no queries"));
    assert!(said(&[0.5], &[0.1], &[false], HARDEST).contains("no query has a negative"));
    assert!(said(&[0.5], &[], &[], HARDEST).contains("no query has a negative"));
    assert!(said(&[0.5, 0.5], &[0.1], &[true], HARDEST).contains("each of 2 queries"));
    assert!(said(&[0.5], &[0.1], &[true, true], HARDEST).contains("mask of 2"));
    assert!(said(&[f64::NAN], &[0.1], &[true], HARDEST).contains("positive score is NaN"));
    assert!(said(&[0.5], &[f64::INFINITY], &[true], HARDEST).contains("negative score is inf"));
    assert!(said(&[0.5], &[-1.1], &[true], strict).contains("-1.1, beyond"));
    assert!(said(&[1e308], &[-1e308], &[true], HARDEST).contains("too large"));
    assert!(eci_from_scores(&[1.00005], &[-1.0], &[true], strict).is_ok());
    let vectors = |q: &[f64], p: &[f64], n: &[f64], m: &[bool], d| eci_from_embeddings(q, p, n, m, d, HARDEST).unwrap_err().to_string();
    assert!(vectors(&[1.0, 2.0], &[1.0], &[1.0, 2.0], &[true], 2).contains("rows of 2"));
    assert!(vectors(&[], &[], &[], &[], 2).contains("0 query"));
    assert!(vectors(&[1.0], &[1.0], &[1.0], &[true], 0).contains("rows of 0"));
    assert!(vectors(&[1.0, 2.0], &[1.0, 2.0], &[1.0], &[true], 2).contains("width 2"));
    assert!(vectors(&[1.0, 2.0], &[1.0, f64::NAN], &[1.0, 1.0], &[true], 2).contains("positive vector 0, column 1: NaN"));
    assert!(eci_curve(&[0.5], &[0.1], &[true], &[0], HARDEST).is_err());
}
