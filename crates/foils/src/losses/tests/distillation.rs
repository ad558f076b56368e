//! The losses that learn from a teacher's scores.

use super::*;
use serde_json::Value;

fn losses(similarity: Similarity) -> Vec<Box<dyn RankingLoss>> {
    vec![
        Box::new(MarginMse::new(1.0).unwrap().similarity(similarity)),
        Box::new(MarginMse::new(2.5).unwrap().similarity(similarity)),
        Box::new(DistillKl::new(1.0, 1.0).unwrap().similarity(similarity)),
        Box::new(DistillKl::new(0.3, 0.7).unwrap().similarity(similarity)),
    ]
}

/// Anchor 0 has the positive 1, anchor 1 the positive 0 and nothing to do with candidate 2.
fn targets() -> Targets {
    Targets { teacher: vec![0.5, 2.0, -1.0, 1.5, 0.25, f64::NAN], ..Targets::new(vec![1, 0], vec![vec![], vec![2]]) }
}

#[test]
fn known_values() {
    // Inner products: anchor 0: 1, 3, 2; anchor 1: 2, −1.
    let (a, c) = ([1.0, 1.0, 1.0, -1.0], [1.5, -0.5, 1.0, 2.0, 2.0, 0.0]);
    let value = |loss: &dyn RankingLoss| evaluate(&a, &c, 2, |x, y| loss.forward(x, y, &targets())).unwrap()[0][0] / 3.0;
    // Margins of the student 2, 1 and 3, of the teacher 1.5, 3 and 1.25.
    let margins = (0.5f64.powi(2) + 2.0f64.powi(2) + 1.75f64.powi(2)) / 3.0;
    assert!((value(&MarginMse::new(1.0).unwrap().similarity(Similarity::Dot)) - margins).abs() < 1e-12);
    let halved = (1.25f64.powi(2) + 0.5f64.powi(2) + 2.375f64.powi(2)) / 3.0;
    assert!((value(&MarginMse::new(2.0).unwrap().similarity(Similarity::Dot)) - halved).abs() < 1e-12);
    let softmax = |s: &[f64], t: f64| {
        let total: f64 = s.iter().map(|s| (s / t).exp()).sum();
        s.iter().map(|s| (s / t).exp() / total).collect::<Vec<_>>()
    };
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
    for (t, teacher) in [(1.0, 1.0), (0.5, 2.0)] {
        let rows = kl(&softmax(&[0.5, 2.0, -1.0], teacher), &softmax(&[1.0, 3.0, 2.0], t))
            + kl(&softmax(&[1.5, 0.25], teacher), &softmax(&[2.0, -1.0], t));
        let found = value(&DistillKl::new(t, teacher).unwrap().similarity(Similarity::Dot));
        assert!((found - t * t * rows / 2.0).abs() < 1e-12, "{found} instead of {}", t * t * rows / 2.0);
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (n, m, dim) = (4, 7, 3);
    let (a, c) = (wave(n * dim, 0.7), wave(m * dim, 1.3));
    let excluded = vec![vec![1, 5], vec![], vec![0, 1, 3, 4, 5, 6], vec![3]];
    let teacher = wave(n * m, 0.31);
    let targets = Targets { teacher, ..Targets::new(vec![0, 1, 2, 3], excluded) };
    for similarity in [Similarity::Cosine, Similarity::Dot] {
        for loss in losses(similarity) {
            check_gradient(&a, dim, |x| loss.forward(x, leaf(&c, dim), &targets));
            check_gradient(&c, dim, |y| loss.forward(leaf(&a, dim), y, &targets));
        }
    }
}

/// `tests/peers/distillation.py` recorded them.
#[test]
fn values_and_gradients_are_those_of_sentence_transformers() {
    let recorded = crate::losses::tests::recorded();
    let mut seen = 0;
    for case in recorded["cases"].as_array().unwrap().iter().filter(|c| c["loss"] != "gist") {
        let (n, dim) = (recorded["anchors"].as_u64().unwrap() as usize, recorded["width"].as_u64().unwrap() as usize);
        let rows = |name: &str| case[name].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
        let (columns, gradients) = (rows("columns"), rows("gradients"));
        let k = columns.len() - 1;
        // Candidate c·n + i belongs to anchor i alone, and the first column is the positives'.
        let others = |i: usize| (0..(n * k) as u32).filter(|j| *j as usize % n != i).collect();
        let mut targets = Targets::new((0..n as u32).collect(), (0..n).map(others).collect());
        targets.teacher = vec![f64::NAN; n * n * k];
        for (at, score) in numbers(&case["teacher"]).into_iter().enumerate() {
            let (i, c) = (at / k, at % k);
            targets.teacher[i * n * k + c * n + i] = score;
        }
        let settings = LossSettings {
            temperature: case["temperature"].as_f64(),
            teacher_temperature: case["teacher_temperature"].as_f64(),
            similarity: serde_json::from_value(case["similarity"].clone()).unwrap(),
            ..LossSettings::default()
        };
        let loss = by_name(case["loss"].as_str().unwrap(), &settings).unwrap();
        let found = evaluate(&columns[0], &columns[1..].concat(), dim, |x, y| loss.forward(x, y, &targets)).unwrap();
        let expected = [vec![case["value"].as_f64().unwrap()], gradients[0].clone(), gradients[1..].concat()];
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(expected).map(|(f, e)| (f / 3.0 - e).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-12, "{}: {worst:e}", loss.describe());
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn where_nothing_can_be_compared_the_loss_is_0_with_gradients_of_0() {
    let (a, c) = (wave(4, 0.7), wave(4, 1.3));
    let alone = Targets { teacher: vec![1.0, f64::NAN, f64::NAN, 0.5], ..Targets::new(vec![0, 1], vec![vec![1], vec![0]]) };
    for loss in losses(Similarity::Cosine) {
        let [value, grad_a, grad_c] = evaluate(&a, &c, 2, |x, y| loss.forward(x, y, &alone)).unwrap();
        assert!(value.iter().chain(&grad_a).chain(&grad_c).all(|v| v.abs() < 1e-15), "{}: {value:?}", loss.describe());
        assert_eq!((grad_a.len(), grad_c.len()), (4, 4));
    }
}

#[test]
fn a_student_that_agrees_has_nothing_to_learn() {
    // The teacher's scores are the student's inner products.
    let (a, c) = ([1.0, 1.0, 1.0, -1.0], [1.5, -0.5, 1.0, 2.0, 2.0, 0.0]);
    let targets = Targets { teacher: vec![1.0, 3.0, 2.0, 2.0, -1.0, 2.0], ..Targets::new(vec![1, 0], vec![]) };
    for loss in [
        &MarginMse::new(1.0).unwrap().similarity(Similarity::Dot) as &dyn RankingLoss,
        &DistillKl::new(0.2, 0.2).unwrap().similarity(Similarity::Dot),
    ] {
        let found = evaluate(&a, &c, 2, |x, y| loss.forward(x, y, &targets)).unwrap();
        assert!(found.iter().flatten().all(|v| v.abs() < 1e-14), "{found:?}");
    }
}

#[test]
fn a_missing_or_broken_teacher_is_named() {
    let (a, c) = (wave(4, 0.7), wave(6, 1.3));
    for loss in losses(Similarity::Cosine) {
        assert!(loss.needs_teacher());
        let says = |targets: &Targets, words: &[&str]| {
            let message = evaluate(&a, &c, 2, |x, y| loss.forward(x, y, targets)).unwrap_err().to_string();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        };
        says(&Targets::new(vec![1, 0], vec![]), &["teacher", "none"]);
        says(&Targets { teacher: vec![0.0; 5], ..Targets::new(vec![1, 0], vec![]) }, &["5 scores", "2 anchors", "3 candidates"]);
        says(&Targets { excluded: vec![], ..targets() }, &["anchor 1", "candidate 2", "NaN"]);
        says(&Targets { teacher: vec![f64::INFINITY; 6], ..targets() }, &["anchor 0", "candidate 0", "inf"]);
        says(&Targets { positive: vec![1, 3], ..targets() }, &["anchor 1", "candidate 3 of 3"]);
        assert!(evaluate(&a, &[f64::NAN; 6], 2, |x, y| loss.forward(x, y, &targets())).is_err());
        assert!(evaluate(&[0.0; 4], &c, 2, |x, y| loss.forward(x, y, &targets())).is_err());
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(MarginMse::new(bad).unwrap_err().to_string().contains("teacher_temperature"));
        assert!(DistillKl::new(1.0, bad).unwrap_err().to_string().contains("teacher_temperature"));
        assert!(DistillKl::new(bad, 1.0).unwrap_err().to_string().starts_with("temperature"));
    }
    assert!(!MultipleNegativesRanking::new(20.0).unwrap().needs_teacher());
}
