//! Gradients, steps, snapshots, LoRA.

use super::*;
use burn::optim::GradientsAccumulator;

/// A loss of all vectors, in two forwards as anchors and candidates are; the gradient goes into one step.
pub(super) fn one_step(model: &mut dyn Trainable, rate: f64) {
    model.prepare(&TEXTS).unwrap();
    let mut gradients = loss(model).backward();
    model.step(&mut gradients, rate).unwrap();
}

fn loss(model: &mut dyn Trainable) -> Tensor<1> {
    let device = Device::flex().autodiff();
    let a = model.forward(&[0, 3], &device, 0).unwrap();
    let b = model.forward(&[6, 1, 5, 1, 2], &device, 0).unwrap();
    let (x, rows) = (Tensor::cat(vec![a, b], 0), 7);
    let target: Vec<f32> = (0..rows * 32).map(|i| (i as f32 * 0.9).cos()).collect();
    (x - Tensor::from_data(TensorData::new(target, [rows, 32]), &device)).square().sum()
}

/// The gradient of every number in a snapshot.
fn gradient(model: &mut BertEncoder) -> Vec<f32> {
    model.prepare(&TEXTS).unwrap();
    let mut of_loss = loss(model).backward();
    let (mut sums, mut words) = (GradientsAccumulator::new(), training::WordGradients::new(32));
    for pending in std::mem::take(&mut model.pending) {
        let above = host(pending.leaf.grad_remove(&mut of_loss).unwrap());
        model.walk_back(pending, &above, &mut sums, &mut words);
    }
    let gradients = sums.grads();
    struct Collect<'a>(&'a burn::optim::GradientsParams, Vec<f32>);
    impl burn::module::ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.1.extend(self.0.get::<D>(param.id).map(host).unwrap_or_default());
        }
    }
    let mut collect = Collect(&gradients, Vec::new());
    model.parameters.visit(&mut collect);
    let mut all = vec![0.0; if model.lora().is_some() { 0 } else { model.words.len() }];
    for (&token, sum) in words.tokens.iter().zip(words.sums.chunks_exact(32)) {
        all[token as usize * 32..][..32].copy_from_slice(sum);
    }
    all.extend(collect.1);
    all
}

fn lora() -> LoraSettings {
    LoraSettings { rank: 3, alpha: 6.0, targets: vec![LoraTarget::Query, LoraTarget::Value, LoraTarget::Narrow] }
}

#[test]
fn chunks_of_any_size_give_the_gradient_of_the_whole() {
    let folder = Folder::new();
    for pooling in [Pooling::Mean, Pooling::Max] {
        for with_lora in [false, true] {
            let model = |tokens| {
                let model = folder.read(pooling).with_normalize(true).with_chunk_tokens(tokens).unwrap();
                if with_lora { model.with_lora(&lora(), 3).unwrap() } else { model }
            };
            let whole = gradient(&mut model(1000));
            let largest = whole.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.01, "{largest}");
            for tokens in [1, 10, 20, 35] {
                let parts = gradient(&mut model(tokens));
                assert_eq!(parts.len(), whole.len());
                let error = parts.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(error < 1e-5 * largest.max(1.0), "{pooling:?}, LoRA {with_lora}, {tokens} tokens: {error} of {largest}");
            }
        }
    }
}

/// Central differences of the loss by numbers drawn from all over the model.
#[test]
fn the_gradient_is_that_of_the_loss() {
    let folder = Folder::new();
    for with_lora in [false, true] {
        let mut model = folder.read(Pooling::Mean).with_normalize(true).with_chunk_tokens(25).unwrap();
        if with_lora {
            model = model.with_lora(&lora(), 3).unwrap();
            // So that A has a gradient.
            one_step(&mut model, 1e-2);
        }
        let analytic = gradient(&mut model);
        let start = model.snapshot();
        let values: Vec<f32> = start.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(values.len(), analytic.len());
        let mut checked = 0;
        for i in (0..values.len()).step_by(values.len() / 150) {
            let mut at = |h: f32| {
                let mut moved = values.clone();
                moved[i] += h;
                model.restore(bytemuck::cast_slice(&moved)).unwrap();
                model.pending.clear();
                f64::from(loss(&mut model).into_scalar::<f32>())
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            let error = (numeric - f64::from(analytic[i])).abs();
            assert!(error < 2e-3 + 0.02 * numeric.abs(), "number {i}: {numeric} against {}", analytic[i]);
            checked += usize::from(numeric.abs() > 1e-2);
        }
        assert!(checked > 30, "{checked} gradients that are not 0");
    }
}

#[test]
fn a_step_goes_down_and_touches_only_words_of_the_batch() {
    let folder = Folder::new();
    let mut model = folder.read(Pooling::Mean);
    model.prepare(&TEXTS).unwrap();
    let (before, words) = (loss(&mut model), model.words.clone());
    model.step(&mut before.backward(), 1e-3).unwrap();
    let after = loss(&mut model);
    assert!(after.into_scalar::<f32>() < before.into_scalar::<f32>());
    let moved: Vec<bool> = model.words.chunks(32).zip(words.chunks(32)).map(|(a, b)| a != b).collect();
    // All but [PAD] are in a text.
    assert_eq!(moved.iter().filter(|m| !**m).count(), 1);
    assert!(!moved[0]);
}

#[test]
fn norms_and_biases_do_not_decay() {
    let folder = Folder::new();
    let mut model = folder.read(Pooling::Mean);
    model.prepare(&TEXTS).unwrap();
    let before = collect(&model.parameters.network);
    // No gradient at all but one that is 0: only decay is left.
    let out = loss(&mut model) * 0.0;
    model.step(&mut out.backward(), 0.1).unwrap();
    let after = collect(&model.parameters.network);
    let mut at = 0;
    for spec in specs(&model.shape) {
        let range = at..at + spec.shape.iter().product::<usize>();
        at = range.end;
        let keep = if spec.shape.len() == 2 { 1.0 - 0.1 * 0.01 } else { 1.0 };
        for (a, b) in after[range.clone()].iter().zip(&before[range]) {
            assert!((a - b * keep).abs() < 1e-6, "{}: {b} became {a}", spec.name);
        }
    }
}

#[test]
fn snapshots_come_back_and_bad_gradients_change_nothing() {
    let folder = Folder::new();
    for with_lora in [false, true] {
        let mut model = folder.read(Pooling::Cls);
        if with_lora {
            model = model.with_lora(&lora(), 1).unwrap();
        }
        let (start, print) = (model.snapshot(), model.fingerprint());
        one_step(&mut model, 1e-3);
        assert_ne!(model.fingerprint(), print);
        model.restore(&start).unwrap();
        assert_eq!(model.fingerprint(), print);
        assert!(model.restore(&start[4..]).unwrap_err().to_string().contains("bytes"));
        let mut damaged = start.clone();
        damaged[..4].copy_from_slice(&f32::NAN.to_ne_bytes());
        assert!(model.restore(&damaged).is_err());
        let mut bad = (loss(&mut model) * f32::NAN).backward();
        assert!(model.step(&mut bad, 0.1).unwrap_err().to_string().contains("gradient of text"));
        assert_eq!(model.fingerprint(), print);
        assert!(model.forward(&[99], &Device::flex(), 0).unwrap_err().to_string().contains("was not prepared"));
        assert!(model.embed_prepared(&[99]).is_err());
        one_step(&mut model, 1e-3);
        assert!(model.fingerprint() != print, "it can still be trained");
    }
}

#[test]
fn what_was_prepared_is_what_is_embedded() {
    let folder = Folder::new();
    let mut model = folder.read(Pooling::Mean).with_normalize(true);
    model.prepare(&TEXTS).unwrap();
    let rows = [3, 0, 5];
    let texts: Vec<&str> = rows.iter().map(|&r: &u32| TEXTS[r as usize]).collect();
    let expected = model.embed(&texts).unwrap();
    assert_eq!(model.embed_prepared(&rows).unwrap(), expected);
    for device in [Device::flex(), Device::flex().autodiff()] {
        let forward = Embeddings::new(32, host(model.forward(&rows, &device, 0).unwrap())).unwrap();
        assert!(largest_difference(&forward, &expected) < 1e-6);
    }
}

#[test]
fn lora_starts_at_nothing_trains_alone_and_is_saved_merged() {
    let folder = Folder::new();
    let plain = folder.read(Pooling::Mean);
    let mut model = folder.read(Pooling::Mean).with_lora(&lora(), 1).unwrap();
    assert_eq!(model.fingerprint(), plain.fingerprint());
    assert_eq!(model.lora(), Some(lora()));
    assert_eq!(model.snapshot().len(), 4 * 2 * (3 * (32 + 32) * 2 + 3 * (48 + 32)));
    let (network, words) = (collect(&model.parameters.network), model.words.clone());
    one_step(&mut model, 1e-2);
    assert_eq!((collect(&model.parameters.network), &model.words), (network, &words), "the base is frozen");
    assert!(largest_difference(&model.embed(&TEXTS).unwrap(), &plain.embed(&TEXTS).unwrap()) > 1e-3);
    let home = tempfile::tempdir().unwrap();
    model.save(&home.path().join("model")).unwrap();
    let loaded = load(home.path().join("model").to_str().unwrap(), 0).unwrap();
    assert_eq!(loaded.fingerprint(), model.fingerprint());
    assert!(largest_difference(&loaded.embed(&TEXTS).unwrap(), &model.embed(&TEXTS).unwrap()) < 1e-6);
    // A second update on top of the first.
    let print = model.fingerprint();
    assert_eq!(model.with_lora(&LoraSettings::default(), 2).unwrap().fingerprint(), print);
    for bad in [
        LoraSettings { rank: 0, ..lora() },
        LoraSettings { targets: vec![], ..lora() },
        LoraSettings { alpha: f64::NAN, ..lora() },
        LoraSettings { alpha: -1.0, ..lora() },
    ] {
        assert!(folder.read(Pooling::Mean).with_lora(&bad, 0).is_err());
    }
}
