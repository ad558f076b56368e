use super::super::candidates::{Assembler, Batch, Counts};
use super::super::queue::Queue;
use super::super::relevance::Vectors;
use super::*;
use crate::data::Embeddings;
use crate::losses::{DistillKl, MultipleNegativesRanking, Targets};
use crate::seed;
use crate::train::MarginKind;
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::Value;

fn example(anchor: &str, positive: (&str, f32), negatives: &[(&str, f32)]) -> Example {
    Example {
        negatives: negatives.iter().map(|n| n.0.to_owned()).collect(),
        positive_scores: vec![positive.1],
        negative_scores: negatives.iter().map(|n| n.1).collect(),
        ..Example::pair(anchor, positive.0)
    }
}

fn examples() -> Vec<Example> {
    vec![
        example("q", ("p", 0.8), &[("x", 0.3), ("y", 0.9), ("P", 0.1)]),
        example("r", ("s", -2.0), &[("y", -1.5)]),
        example("t", ("u", 0.5), &[]),
    ]
}

fn settings(loss: &str) -> TrainSettings {
    TrainSettings { loss: loss.into(), teacher: Some("file".into()), ..TrainSettings::default() }
}

fn batch(settings: &TrainSettings, examples: &[Example]) -> Batch {
    let set = TrainingSet::new(examples).unwrap();
    let teacher = Teacher::new(settings, &*settings.objective().unwrap(), examples, &set).unwrap().unwrap();
    let assembler = Assembler { set: &set, teacher: Some(teacher), weigher: None, negatives: 8 };
    assembler.batch(&[0, 1, 2], &Queue::default(), &mut seed::rng(0, 0)).unwrap()
}

/// Candidates: p, s, u, then x, y, P of the first anchor, y of the second. "P" is the first's positive in another spelling.
#[test]
fn scores_of_the_file_are_for_the_own_candidates_alone() {
    let learned = batch(&settings("margin-mse"), &examples());
    assert_eq!(learned.targets.excluded, [vec![1, 2, 5, 6], vec![0, 2, 3, 4, 5], vec![0, 1, 3, 4, 5, 6]]);
    let scores = &learned.targets.teacher;
    assert_eq!(scores.len(), 3 * 7);
    let of = |anchor: usize| scores[anchor * 7..][..7].iter().map(|s| (!s.is_nan()).then_some(*s as f32)).collect::<Vec<_>>();
    assert_eq!(of(0), [Some(0.8), None, None, Some(0.3), Some(0.9), Some(0.1), None]);
    assert_eq!(of(1), [None, Some(-2.0), None, None, None, None, Some(-1.5)]);
    // Masked is what is masked by its text: "P" for the first anchor.
    assert_eq!(learned.counts, Counts { anchors: 3, in_batch: 0, own: 2 + 1, masked: 1, ..Counts::default() });

    // As a filter they judge the own negatives, and leave in what they say nothing of.
    let filtered = batch(&settings("mnrl"), &examples());
    assert_eq!(filtered.targets.excluded, [vec![4, 5], vec![6], vec![]]);
    assert!(filtered.targets.teacher.is_empty());
    assert_eq!(
        filtered.counts,
        Counts { anchors: 3, in_batch: 6, own: 1, others: 1 + 3 + 4, masked: 1, masked_by_teacher: 2, ..Counts::default() }
    );
    // 0.8 less 70 % is 0.24, below x's 0.3.
    let relative = TrainSettings { teacher_margin: Some(0.7), teacher_margin_kind: MarginKind::Relative, ..settings("mnrl") };
    assert_eq!(batch(&relative, &examples()).targets.excluded, [vec![3, 4, 5], vec![6], vec![]]);
    let lenient = TrainSettings { teacher_margin: Some(-0.2), ..settings("mnrl") };
    assert_eq!(batch(&lenient, &examples()).targets.excluded, [vec![5], vec![6], vec![]]);
}

#[test]
fn drawn_negatives_keep_their_scores() {
    let named: Vec<(String, f32)> = (0..9).map(|i| (format!("n{i}"), i as f32)).collect();
    let negatives: Vec<(&str, f32)> = named.iter().map(|(n, s)| (n.as_str(), *s)).collect();
    let mut all = vec![example("q", ("p", 9.0), &negatives), example("r", ("s", 9.0), &negatives)];
    all[0].positives.push("p2".into());
    all[0].positive_scores.push(10.0);
    let set = TrainingSet::new(&all).unwrap();
    let settings = settings("kl");
    let teacher = Teacher::new(&settings, &*settings.objective().unwrap(), &all, &set).unwrap().unwrap();
    let mut drawn = std::collections::HashSet::new();
    let assembler = Assembler { set: &set, teacher: Some(teacher), weigher: None, negatives: 3 };
    for stream in 0..20 {
        let batch = assembler.batch(&[1, 0], &Queue::default(), &mut seed::rng(0, stream)).unwrap();
        assert_eq!((batch.candidates.len(), batch.counts.own), (8, 6));
        for (c, &text) in batch.candidates.iter().enumerate() {
            let owner = if c < 2 { c } else { (c - 2) / 3 };
            let (score, text) = (batch.targets.teacher[owner * 8 + c], set.texts()[text as usize]);
            let expected = if c < 2 { if text == "p2" { 10.0 } else { 9.0 } } else { text[1..].parse().unwrap() };
            assert_eq!(score, expected, "{text}");
            drawn.insert(text);
        }
    }
    assert_eq!(drawn.len(), 12);
}

#[test]
fn missing_scores_are_named() {
    let fails = |change: &dyn Fn(&mut Vec<Example>), words: &[&str]| {
        let mut all = examples();
        change(&mut all);
        let (set, settings) = (TrainingSet::new(&all).unwrap(), settings("kl"));
        let message = Teacher::new(&settings, &DistillKl::new(1.0, 1.0).unwrap(), &all, &set).err().unwrap().to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    };
    fails(&|all| all[1].positive_scores.clear(), &["example 2", "0 positive_scores for 1 positives", "--shape lists"]);
    fails(&|all| all[0].negative_scores.truncate(2), &["example 1", "2 negative_scores for 3 negatives"]);
    fails(&|all| all[0].negative_scores[1] = f32::NAN, &["example 1", "negative score NaN"]);
    fails(&|all| all.iter_mut().for_each(|e| (e.negatives, e.negative_scores) = Default::default()), &["nothing to learn"]);
    let set_of = examples();
    let set = TrainingSet::new(&set_of).unwrap();
    let nowhere = TrainSettings { teacher: Some("nowhere".into()), ..TrainSettings::default() };
    let message = Teacher::new(&nowhere, &MultipleNegativesRanking::new(20.0).unwrap(), &set_of, &set).err().unwrap().to_string();
    assert!(message.contains("the teacher: there is no encoder \"nowhere\""), "{message}");
    // A loss of the caller's own that needs one.
    let message = Teacher::new(&TrainSettings::default(), &DistillKl::new(1.0, 1.0).unwrap(), &set_of, &set).err().unwrap().to_string();
    assert!(message.contains("DistillKL") && message.contains("name a teacher"), "{message}");
}

/// GISTEmbedLoss with a guide of another width, its contrasts among anchors and among positives off (`tests/peers/distillation.py`).
#[test]
fn as_a_filter_it_leaves_out_what_sentence_transformers_does() {
    let recorded = crate::losses::tests::recorded();
    let size = |name: &str| recorded[name].as_u64().unwrap() as usize;
    let (n, dim, teacher_dim) = (size("anchors"), size("width"), size("teacher_width"));
    let numbers = |list: &Value| list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    let columns = |case: &Value, name: &str| case[name].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
    let (mut seen, mut left_out) = (0, 0);
    for case in recorded["cases"].as_array().unwrap().iter().filter(|c| c["loss"] == "gist") {
        let settings = TrainSettings {
            teacher_margin: case["margin"].as_f64(),
            teacher_margin_kind: serde_json::from_value(case["margin_strategy"].clone()).unwrap(),
            ..TrainSettings::default()
        };
        let guide = columns(case, "teachers");
        let vectors = |rows: &[f64]| Vectors {
            rows: (0..(rows.len() / teacher_dim) as u32).collect(),
            vectors: Embeddings::new(teacher_dim, rows.iter().map(|v| *v as f32).collect()).unwrap().normalized(),
        };
        let source = Source::Encoder { anchors: vectors(&guide[0]), others: vectors(&guide[1..].concat()) };
        let teacher = Teacher { source, filter: Some(settings.teacher_filter()) };
        let (anchors, candidates): (Vec<u32>, Vec<u32>) = ((0..n as u32).collect(), (0..2 * n as u32).collect());
        let drawn = Drawn { examples: &anchors, anchors: &anchors, candidates: &candidates, keys: &candidates, places: &[] };
        let scores = teacher.scores(&drawn);
        let out = |i: usize| {
            let row = &scores[i * 2 * n..][..2 * n];
            candidates.iter().copied().filter(|&c| c as usize != i && teacher.leaves_out(row[c as usize], row[i])).collect::<Vec<_>>()
        };
        let targets = Targets::new(anchors.clone(), (0..n).map(out).collect());
        left_out += targets.excluded.iter().map(Vec::len).sum::<usize>();

        let students = columns(case, "columns");
        let leaf = |rows: &[f64]| {
            let data = TensorData::new(rows.to_vec(), [rows.len() / dim, dim]);
            Tensor::<2>::from_data(data, (&Device::flex().autodiff(), DType::F64)).require_grad()
        };
        let (a, c) = (leaf(&students[0]), leaf(&students[1..].concat()));
        let loss = MultipleNegativesRanking::new(1.0 / case["temperature"].as_f64().unwrap()).unwrap();
        let value = loss.forward(a.clone(), c.clone(), &targets).unwrap();
        let gradients = value.backward();
        let expected = columns(case, "gradients");
        let host = |x: Tensor<2>| x.into_data().iter::<f64>().collect::<Vec<_>>();
        let near = |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-10 * (1.0 + y.abs()));
        assert!(near(&[value.clone().into_scalar()], &[case["value"].as_f64().unwrap()]), "{value}");
        assert!(near(&host(a.grad(&gradients).unwrap()), &expected[0]));
        assert!(near(&host(c.grad(&gradients).unwrap()), &expected[1..].concat()));
        seen += 1;
    }
    assert!(seen == 4 && left_out > 30, "{seen} cases, {left_out} left out");
}
