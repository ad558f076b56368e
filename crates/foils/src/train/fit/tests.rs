use super::*;
use crate::losses::{Compute, MultipleNegativesRanking, Options, Targets};
use crate::models::{self, Adapter, BertFolder, Head, Prompted, Prompts, StaticEncoder};
use burn::tensor::{Tensor, TensorData, activation};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The ranking loss in plain tensor operations: cosine, scale 20, excluded candidates at −10⁹.
struct Plain;

impl RankingLoss for Plain {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let unit = |x: Tensor<2>| x.clone() / x.square().sum_dim(1).sqrt().clamp_min(1e-12);
        let [n, m] = [anchors.dims()[0], candidates.dims()[0]];
        let device = anchors.device();
        let (mut mask, mut right) = (vec![0f32; n * m], vec![0f32; n * m]);
        for (i, row) in targets.excluded.iter().enumerate() {
            row.iter().for_each(|&c| mask[i * m + c as usize] = -1e9);
        }
        targets.positive.iter().enumerate().for_each(|(i, &c)| right[i * m + c as usize] = 1.0);
        mask.iter_mut().zip(&targets.weights).for_each(|(mask, w)| *mask += w.ln() as f32);
        let constant = |v: Vec<f32>| Tensor::<2>::from_data(TensorData::new(v, [n, m]), &device);
        let logits = unit(anchors).matmul(unit(candidates).transpose()) * 20.0 + constant(mask);
        Ok((activation::log_softmax(logits, 1) * constant(right)).sum() * (-1.0 / n as f64))
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "plain".into()
    }
}

/// Gives NaN at its third call.
struct BreaksAtThree(AtomicUsize);

impl RankingLoss for BreaksAtThree {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let loss = Plain.forward(anchors, candidates, targets)?;
        Ok(if self.0.fetch_add(1, Ordering::Relaxed) == 2 { loss * f32::NAN } else { loss })
    }

    fn describe(&self) -> String {
        "breaks".into()
    }
}

/// Pushes anchors away from their positives.
struct Backwards;

impl RankingLoss for Backwards {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        Ok(Plain.forward(anchors, candidates, targets)? * -1.0)
    }

    fn describe(&self) -> String {
        "backwards".into()
    }
}

/// 26 topics, each with its own words for questions and others for answers, and words in common: training can learn which
/// belong together, and held-out pairs use the same words in other mixtures.
fn pairs(from: usize, to: usize) -> Vec<Example> {
    let pick = |i: usize, k: usize| (i * 7 + k * 3) % 5;
    (from..to)
        .map(|i| {
            let topic = i % 26;
            let word = |side: char, k: usize| format!("{side}{topic}w{}", pick(i / 26, k));
            let common = i % 11;
            Example::pair(
                format!("{} {} the{common} n{i}", word('q', 0), word('q', 1)),
                format!("{} {} the{common} m{i}", word('d', 0), word('d', 1)),
            )
        })
        .collect()
}

fn tokenizer() -> tokenizers::Tokenizer {
    let mut words = vec!["[UNK]".to_owned()];
    words.extend((0..11).map(|i| format!("the{i}")));
    for side in ['q', 'd'] {
        words.extend((0..26).flat_map(|t| (0..5).map(move |k| format!("{side}{t}w{k}"))));
    }
    let vocabulary: serde_json::Map<_, _> = words.into_iter().enumerate().map(|(i, w)| (w, serde_json::Value::from(i))).collect();
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": { "type": "WhitespaceSplit" },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" }
    });
    tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap()
}

fn model() -> StaticEncoder {
    StaticEncoder::random(tokenizer(), 32, None, 3).unwrap()
}

fn settings() -> TrainSettings {
    TrainSettings { epochs: 6, batch_size: 64, learning_rate: 0.1, ..TrainSettings::default() }
}

fn held_out() -> Collection {
    Collection::from_examples(&pairs(520, 650)).unwrap()
}

#[test]
fn training_teaches_held_out_pairs_and_leaves_the_best_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    for adapter in [false, true] {
        let mut model: Box<dyn Trainable> = if adapter { Box::new(Adapter::new(Box::new(model()), Head::Gelu)) } else { Box::new(model()) };
        let settings = TrainSettings { learning_rate: if adapter { 0.003 } else { 0.1 }, ..settings() };
        let summary =
            fit(model.as_mut(), &pairs(0, 520), &held_out(), &Plain, &settings, &RunFiles { logs: Some(home.path()), checkpoints: None })
                .unwrap();
        assert!(summary.improved && summary.best_ndcg > summary.untuned_ndcg + 0.1, "{adapter}: {summary:?}");
        assert_eq!(summary.examples, 520);
        assert_eq!(summary.left_out, 0);
        assert_eq!(summary.validations[0].ndcg, summary.untuned_ndcg);
        // The first of the best: max_by takes the last of equals.
        let best = summary.validations.iter().rev().max_by(|a, b| a.ndcg.total_cmp(&b.ndcg)).unwrap();
        assert_eq!((best.ndcg, best.step), (summary.best_ndcg, summary.best_step));
        // 520 examples in 9 batches of 57 or 58: everybody else's positive, nothing masked.
        assert_eq!(summary.negatives.masked, 0.0);
        assert!((summary.negatives.in_batch - (520.0 / 9.0 - 1.0)).abs() < 0.1, "{:?}", summary.negatives);
        assert_eq!(summary.negatives.effective, summary.negatives.in_batch);
        assert_eq!(summary.settings["batch_size"], 64);
        // What is left is the best checkpoint, not the last.
        let examples = pairs(520, 650);
        let collection = Collection::from_examples(&examples).unwrap();
        let mut texts = TrainingSet::new(&examples).unwrap();
        let validation = ValidationSet::new(&collection, &mut texts);
        model.prepare(texts.texts()).unwrap();
        assert_eq!(validation.ndcg(model.as_ref()).unwrap(), summary.best_ndcg);
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2, "one event file a run");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
    let mut with_negatives = pairs(0, 260);
    for (i, example) in with_negatives.iter_mut().enumerate() {
        example.negatives = (1..6).map(|k| pairs(i + k, i + k + 1)[0].positives[0].clone()).collect();
    }
    let trained = |seed| {
        let mut model = model();
        let settings = TrainSettings { seed, epochs: 2, negatives_per_anchor: 2, patience: 0, ..settings() };
        let summary = fit(&mut model, &with_negatives, &held_out(), &Plain, &settings, &RunFiles::default()).unwrap();
        (model.snapshot(), summary.steps.iter().map(|s| s.loss.to_bits()).collect::<Vec<_>>())
    };
    assert_eq!(trained(1), trained(1));
    assert_ne!(trained(1).1, trained(2).1);
}

#[test]
fn when_nothing_helps_the_untuned_encoder_is_kept() {
    let mut model = model();
    let before = model.snapshot();
    let settings = TrainSettings { patience: 2, validate_every: 1, ..settings() };
    let summary = fit(&mut model, &pairs(0, 520), &held_out(), &Backwards, &settings, &RunFiles::default()).unwrap();
    assert!(!summary.improved);
    assert_eq!((summary.best_step, summary.best_ndcg), (0, summary.untuned_ndcg));
    assert_eq!(model.snapshot(), before);
    assert_eq!(summary.stopped, "early stopping");
    assert_eq!(summary.steps.len(), 2, "two validations without a new best");
}

#[test]
fn prompts_go_before_the_texts_of_their_role() {
    let before = |examples: Vec<Example>| -> Vec<Example> {
        let put = |e: Example| Example {
            anchor: format!("q1w1 {}", e.anchor),
            positives: e.positives.iter().map(|p| format!("d3w0 {p}")).collect(),
            ..Example::default()
        };
        examples.into_iter().map(put).collect()
    };
    let settings = TrainSettings { epochs: 1, ..settings() };
    let held_out_before = Collection::from_examples(&before(pairs(520, 650))).unwrap();
    let expected = fit(&mut model(), &before(pairs(0, 520)), &held_out_before, &Plain, &settings, &RunFiles::default()).unwrap();
    let prompts = Prompts::default().with(Role::Query, "q1w1 ").with(Role::Document, "d3w0 ");
    let mut prompted = Prompted::new(Box::new(model()), prompts);
    let summary = fit(&mut prompted, &pairs(0, 520), &held_out(), &Plain, &settings, &RunFiles::default()).unwrap();
    assert!(summary.validations.iter().zip(&expected.validations).all(|(a, b)| a.ndcg == b.ndcg));
    assert!(summary.steps.iter().zip(&expected.steps).all(|(a, b)| a.loss == b.loss));
}

#[test]
fn a_loss_that_is_nan_stops_with_its_step() {
    let message = fit(&mut model(), &pairs(0, 520), &held_out(), &BreaksAtThree(AtomicUsize::new(0)), &settings(), &RunFiles::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("step 3") && message.contains("NaN"), "{message}");
}

#[test]
fn the_clock_stops_a_run() {
    let settings = TrainSettings { max_minutes: 1e-9, ..settings() };
    let summary = fit(&mut model(), &pairs(0, 520), &held_out(), &Plain, &settings, &RunFiles::default()).unwrap();
    assert_eq!((summary.stopped.as_str(), summary.steps.len()), ("time", 1));
    assert_eq!(summary.validations.len(), 2, "the one step was still looked at");
}

#[test]
fn unusable_input_is_refused_before_anything_happens() {
    let fails = |train: &[Example], validation: &Collection, settings: &TrainSettings| {
        fit(&mut model(), train, validation, &Plain, settings, &RunFiles::default()).unwrap_err().to_string()
    };
    assert!(fails(&[], &held_out(), &settings()).contains("no training examples"));
    assert!(fails(&pairs(0, 1), &held_out(), &settings()).contains("at least two"));
    assert!(fails(&pairs(0, 99), &Collection::default(), &settings()).contains("validation"));
    assert!(fails(&pairs(0, 99), &held_out(), &TrainSettings { epochs: 0, ..settings() }).contains("epochs"));
    let same = vec![Example::pair("q0w0", "d0w0"); 9];
    assert!(fails(&same, &held_out(), &settings()).contains("share"));
}

/// On other devices the losses are tensor operations. `FOILS_TEST_DEVICE` names one to try; on the CPU they can be asked for.
#[test]
fn tensor_operations_train_as_the_kernel_does() {
    let device: crate::device::DeviceName = std::env::var("FOILS_TEST_DEVICE").map_or(Default::default(), |name| name.parse().unwrap());
    for adapter in [false, true] {
        let trained = |device, compute| {
            let mut model: Box<dyn Trainable> =
                if adapter { Box::new(Adapter::new(Box::new(model()), Head::Relu)) } else { Box::new(model()) };
            let learning_rate = if adapter { 0.003 } else { 0.1 };
            let settings = TrainSettings { epochs: 2, learning_rate, device, ..settings() };
            let loss = MultipleNegativesRanking::new(20.0).unwrap().options(Options { compute, ..Options::default() });
            fit(model.as_mut(), &pairs(0, 520), &held_out(), &loss, &settings, &RunFiles::default()).unwrap()
        };
        let (kernel, plain) = (trained(Default::default(), Compute::Auto), trained(device, Compute::TensorOps));
        assert_eq!(kernel.steps.len(), plain.steps.len());
        for (a, b) in kernel.steps.iter().zip(&plain.steps) {
            assert!((a.loss - b.loss).abs() < 1e-3 * a.loss, "step {}: {} and {}", a.step, a.loss, b.loss);
        }
        assert!((kernel.best_ndcg - plain.best_ndcg).abs() < 0.02, "{} and {}", kernel.best_ndcg, plain.best_ndcg);
    }
}

/// Gives NaN at one call, and says that it is the plain loss.
struct BreaksAt(AtomicUsize);

impl RankingLoss for BreaksAt {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let loss = Plain.forward(anchors, candidates, targets)?;
        Ok(if self.0.fetch_sub(1, Ordering::Relaxed) == 1 { loss * f32::NAN } else { loss })
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        Plain.describe()
    }
}

/// Pairs in the words of [`BertFolder`].
fn pairs_of_known_words(from: usize, to: usize) -> Vec<Example> {
    let words = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran"];
    let text = |i: usize, first: usize| [first, i % 8, i / 8 % 8, i / 64 % 8, i / 512].map(|w| words[w]).join(" ");
    (from..to).map(|i| Example::pair(text(i, 0), text(i, 4))).collect()
}

/// Stopped after any step, also with a damaged newest checkpoint, a run ends as an undisturbed one does.
#[test]
fn a_run_goes_on_from_its_last_checkpoint() {
    type Make<'a> = &'a dyn Fn() -> Box<dyn Trainable>;
    let home = tempfile::tempdir().unwrap();
    let bert = BertFolder::new();
    let lora = || {
        let options = models::LoadOptions { lora: Some(Default::default()), ..Default::default() };
        models::load_with(bert.path("").to_str().unwrap(), &options).unwrap()
    };
    let models: [(Make, f64, usize); 5] = [
        (&|| Box::new(model()), 0.1, 15),
        (&|| Box::new(Adapter::new(Box::new(model()), Head::Relu)), 0.003, 15),
        (&|| bert.load().unwrap(), 0.003, 9),
        (&lora, 0.003, 9),
        // With all that a step may look back at.
        (&|| Box::new(model()), 0.1, 15),
    ];
    for (at, (make, learning_rate, steps)) in models.into_iter().enumerate() {
        let small = (2..4).contains(&at);
        let pairs = |from, to| if small { pairs_of_known_words(from, to) } else { pairs(from, to) };
        let mut train = pairs(0, if small { 70 } else { 220 });
        // More negatives than are used: which are drawn must not depend on where the run was stopped.
        let texts: Vec<String> = train.iter().map(|e| e.positives[0].clone()).collect();
        for (i, example) in train.iter_mut().enumerate() {
            example.negatives = (1..5).map(|k| texts[(i + 3 * k) % texts.len()].clone()).collect();
        }
        let settings = TrainSettings {
            epochs: 3,
            batch_size: if small { 24 } else { 48 },
            queue: if at == 4 { 100 } else { 0 },
            weights: (at == 4).then(|| "soft-infonce:bm25".into()),
            learning_rate,
            validate_every: 4,
            patience: 0,
            ..settings()
        };
        let validation = Collection::from_examples(&pairs(520, 560)).unwrap();
        let run = |loss: &dyn RankingLoss, checkpoints: Option<&Checkpoints>| {
            let mut model = make();
            let summary = fit(model.as_mut(), &train, &validation, loss, &settings, &RunFiles { logs: None, checkpoints });
            summary.map(|summary| (TrainSummary { seconds: Default::default(), ..summary }, model.snapshot()))
        };
        let json = |summary: &TrainSummary| serde_json::to_string(summary).unwrap();
        let (expected, weights) = run(&Plain, None).unwrap();
        assert_eq!(expected.steps.len(), steps, "{at}");
        assert_eq!(expected.negatives.queued > 0.0, at == 4);
        for stop in [1, 2, 5, 8, steps] {
            let checkpoints =
                Checkpoints { every: Duration::ZERO, ..Checkpoints::in_folder(home.path().join(format!("checkpoints-{at}-{stop}"))) };
            let files = || checkpoints.folder.read_dir().map_or(0, Iterator::count);
            assert!(run(&BreaksAt(AtomicUsize::new(stop)), Some(&checkpoints)).is_err());
            assert_eq!(files(), (stop - 1).min(2), "the last two");
            if stop == 8 {
                // A second time, and the newest is damaged.
                assert!(run(&BreaksAt(AtomicUsize::new(1)), Some(&checkpoints)).is_err());
                let newest = checkpoints.folder.read_dir().unwrap().map(|e| e.unwrap().path()).max().unwrap();
                let mut bytes = std::fs::read(&newest).unwrap();
                bytes[7] ^= 1;
                std::fs::write(&newest, bytes).unwrap();
            }
            let (summary, found) = run(&Plain, Some(&checkpoints)).unwrap();
            assert_eq!(json(&summary), json(&expected), "model {at}, stopped at {stop}");
            assert!(found == weights, "model {at}, stopped at {stop}: other weights");
            // Another run does not go on from what this one has left.
            let other = TrainSettings { seed: 1, ..settings.clone() };
            let mut model = make();
            let started =
                fit(model.as_mut(), &train, &validation, &Plain, &other, &RunFiles { logs: None, checkpoints: Some(&checkpoints) });
            assert_ne!(started.unwrap().steps[0].loss, expected.steps[0].loss);
            assert_eq!(files(), 2, "both are its own");
            checkpoints.forget().unwrap();
            assert!(!checkpoints.folder.exists());
        }
    }
}
