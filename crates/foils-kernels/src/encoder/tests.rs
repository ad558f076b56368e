use super::*;
use crate::simd::Features;
use crate::{Lists, contrastive, layers};
use proptest::prelude::*;
use std::cell::Cell;

thread_local! {
    /// What [`kernel`] may use on this thread, in place of what the processor has.
    pub(super) static EMULATED: Cell<Option<Features>> = const { Cell::new(None) };
}

fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0).collect()
}

fn layer(width: usize, heads: usize, hidden: usize) -> EncoderLayer {
    EncoderLayer { width, heads, hidden, epsilon: 1e-3, precision: Precision::Highest }
}

impl<S> EncoderWeights<S> {
    /// All sixteen, in one order.
    fn each(&self) -> [&S; 16] {
        let Self { query, key, value, out, attention_norm, wide, narrow, output_norm } = self;
        let [[a, b], [c, d], [e, f], [g, h], [i, j], [k, l]] = [query, key, value, out, wide, narrow].map(|l| [&l.weight, &l.bias]);
        let ([m, n], [o, p]) = ([&attention_norm.gamma, &attention_norm.beta], [&output_norm.gamma, &output_norm.beta]);
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    fn of(values: [S; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = values;
        let dense = |weight, bias| Affine { weight, bias };
        Self {
            query: dense(a, b),
            key: dense(c, d),
            value: dense(e, f),
            out: dense(g, h),
            wide: dense(i, j),
            narrow: dense(k, l),
            attention_norm: Norm { gamma: m, beta: n },
            output_norm: Norm { gamma: o, beta: p },
        }
    }
}

fn weights(layer: &EncoderLayer) -> EncoderWeights<Vec<f64>> {
    let (w, h) = (layer.width, layer.hidden);
    let sizes = [w * w, w, w * w, w, w * w, w, w * w, w, w * h, h, h * w, w, w, w, w, w];
    let mut seed = 0;
    EncoderWeights::of(sizes.map(|n| {
        seed += 1;
        numbers(n, seed).iter().map(|x| x * 0.7).collect()
    }))
}

/// One text, composed of the layers that are tested by themselves.
fn composed(layer: &EncoderLayer, weights: &EncoderWeights<Vec<f64>>, x: &[f64]) -> Vec<f64> {
    let (tokens, width) = (x.len() / layer.width, layer.width);
    let dense = |x: &[f64], l: &Affine<Vec<f64>>, from| layers::linear(x, &l.weight, Some(&l.bias), from);
    let norm = |x: &[f64], n: &Norm<Vec<f64>>| layers::layer_norm(x, &n.gamma, &n.beta, layer.epsilon);
    let [q, k, v] = [&weights.query, &weights.key, &weights.value].map(|l| dense(x, l, width));
    let attention = layers::Attention { batch: 1, tokens, heads: layer.heads, width: width / layer.heads };
    let mut sum = dense(&attention.forward(&q, &k, &v, None), &weights.out, width);
    layers::add(&mut sum, x);
    let middle = norm(&sum, &weights.attention_norm);
    let mut sum = dense(&layers::gelu(&dense(&middle, &weights.wide, width)), &weights.narrow, layer.hidden);
    layers::add(&mut sum, &middle);
    norm(&sum, &weights.output_norm)
}

fn assert_close(name: &str, got: &[f64], expected: &[f64], allowed: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= allowed * (1.0 + e.abs()), "{name}[{i}] = {g}, expected {e}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_text_is_as_if_alone(heads in 1usize..4, head in 1usize..9, hidden in 1usize..70, lengths in prop::collection::vec(0usize..90, 0..7), seed in 0usize..1000) {
        let layer = layer(heads * head, heads, hidden);
        let (weights, tokens) = (weights(&layer), lengths.iter().sum::<usize>());
        let x = numbers(tokens * layer.width, seed);
        let y = layer.forward(&weights.as_slices(), &x, &lengths);
        let (kept_y, kept) = layer.forward_kept(&weights.as_slices(), &x, &lengths);
        assert_eq!(y, kept_y);
        let mut first = 0;
        for &length in &lengths {
            let text = first * layer.width..(first + length) * layer.width;
            assert_close("f64", &y[text.clone()], &composed(&layer, &weights, &x[text]), 1e-11);
            first += length;
        }
        let g = numbers(x.len(), seed + 1);
        let grads = layer.backward(&weights.as_slices(), &x, kept, g.clone());
        let (x32, weights32) = (narrow(&x), EncoderWeights::of(weights.each().map(|w| narrow(w))));
        let (y32, kept) = layer.forward_kept(&weights32.as_slices(), &x32, &lengths);
        assert_close("f32", &wide(&y32), &y, 1e-4);
        let grads32 = layer.backward(&weights32.as_slices(), &x32, kept, narrow(&g));
        let (largest, scale) = (grads.x.iter().fold(1.0, |m: f64, x| m.max(x.abs())), (tokens as f64 + 1.0).sqrt());
        assert_close("f32 x", &wide(&grads32.x), &grads.x, 1e-3 * largest);
        for (a, b) in grads32.weights.each().into_iter().zip(grads.weights.each()) {
            assert_close("f32 weights", &wide(a), b, 1e-3 * largest * scale);
        }
    }
}

#[test]
fn the_gradients_are_differences_of_the_result() {
    let layer = layer(12, 3, 20);
    let (mut weights, lengths) = (weights(&layer), [5, 1, 0, 130, 7, 9]);
    let mut x = numbers(lengths.iter().sum::<usize>() * layer.width, 3);
    let g = numbers(x.len(), 4);
    let (_, kept) = layer.forward_kept(&weights.as_slices(), &x, &lengths);
    let grads = layer.backward(&weights.as_slices(), &x, kept, g.clone());
    let run = |weights: &EncoderWeights<Vec<f64>>, x: &[f64]| layer.forward(&weights.as_slices(), x, &lengths);
    let h = 1e-5;
    let check = |name: &str, above: Vec<f64>, below: Vec<f64>, gradient: f64| {
        let difference = g.iter().zip(above.iter().zip(&below)).map(|(g, (a, b))| g * (a - b)).sum::<f64>() / (2.0 * h);
        assert!((difference - gradient).abs() < 1e-6 * (1.0 + difference.abs()), "{name}: {gradient}, expected {difference}");
    };
    for i in (0..x.len()).step_by(97) {
        let [above, below] = [h, -2.0 * h].map(|by| {
            x[i] += by;
            run(&weights, &x)
        });
        x[i] += h;
        check(&format!("x[{i}]"), above, below, grads.x[i]);
    }
    for which in 0..16 {
        let len = weights.each()[which].len();
        for i in (0..len).step_by(len.div_ceil(7)) {
            let [above, below] = [h, -2.0 * h].map(|by| {
                let mut all = weights.each().map(Clone::clone);
                all[which][i] += by;
                weights = EncoderWeights::of(all);
                run(&weights, &x)
            });
            let mut all = weights.each().map(Clone::clone);
            all[which][i] += h;
            weights = EncoderWeights::of(all);
            check(&format!("weights {which}[{i}]"), above, below, grads.weights.each()[which][i]);
        }
    }
}

#[test]
fn threads_do_not_change_the_bits() {
    let layer = layer(64, 4, 200);
    let (weights, lengths) = (weights(&layer), [40, 100, 3, 60, 64, 64, 200, 1]);
    let (weights, x) = (EncoderWeights::of(weights.each().map(|w| narrow(w))), narrow(&numbers(532 * 64, 3)));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (y, kept) = layer.forward_kept(&weights.as_slices(), &x, &lengths);
            let grads = layer.backward(&weights.as_slices(), &x, kept, y.clone());
            (y, grads.x, grads.weights.each().map(Clone::clone))
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
#[should_panic(expected = "numbers of 2 texts")]
fn lengths_that_do_not_add_up_panic() {
    let layer = layer(4, 2, 3);
    layer.forward(&weights(&layer).as_slices(), &numbers(12, 1), &[2, 2]);
}

/// 100 steps of InfoNCE on the mean vectors of sixteen texts, by one layer and AdamW: each step's loss.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn losses_of_training(precision: Precision) -> Vec<f64> {
    let layer = EncoderLayer { precision, ..layer(64, 4, 128) };
    let (width, lengths) = (layer.width, [7, 3, 9, 5, 8, 6, 4, 7, 5, 9, 3, 8, 6, 7, 4, 5]);
    let x: Vec<f32> = narrow(&numbers(lengths.iter().sum::<usize>() * width, 3));
    let mut weights = EncoderWeights::of(weights(&layer).each().map(|w| narrow(&w.iter().map(|x| x * 0.3).collect::<Vec<_>>())));
    let mut moments = weights.each().map(|w| (vec![0.0; w.len()], vec![0.0; w.len()]));
    let (offsets, positives): (Vec<usize>, Vec<u32>) = ((0..=8).collect(), (0..8).collect());
    let settings = contrastive::Settings::new(Lists::new(&offsets, &positives), 20.0);
    let mut losses = Vec::new();
    for step in 1..=100 {
        let (y, kept) = layer.forward_kept(&weights.as_slices(), &x, &lengths);
        let mut rest = &y[..];
        let mut pooled = vec![0.0; lengths.len() * width];
        for (&length, mean) in lengths.iter().zip(pooled.chunks_exact_mut(width)) {
            let text = rest.split_off(..length * width).unwrap();
            text.chunks_exact(width).for_each(|token| mean.iter_mut().zip(token).for_each(|(m, t)| *m += t / length as f32));
        }
        let (anchors, candidates) = pooled.split_at(8 * width);
        let loss = contrastive::contrast(anchors, candidates, width, &settings);
        losses.push(loss.loss);
        let above = [loss.grad_anchors, loss.grad_candidates].concat();
        let of_text = |(g, &length): (&[f32], &usize)| g.iter().map(|g| g / length as f32).collect::<Vec<_>>().repeat(length);
        let g: Vec<f32> = above.chunks_exact(width).zip(&lengths).flat_map(of_text).collect();
        let grads = layer.backward(&weights.as_slices(), &x, kept, g).weights;
        let mut new = weights.each().map(Clone::clone);
        for ((p, g), (first, second)) in new.iter_mut().zip(grads.each()).zip(&mut moments) {
            layers::AdamW::default().step(step, 3e-4, p, g, first, second);
        }
        weights = EncoderWeights::of(new);
    }
    losses
}

/// As a processor with AMX trains. Two parts of bf16 have the losses of f32; one part has not, which is why it is not the default.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn training_in_high_precision_has_the_losses_of_f32() {
    let found = crate::simd::features();
    if !found.avx512 {
        return;
    }
    crate::simd::amx_emulation::install();
    let exact = losses_of_training(Precision::Highest);
    EMULATED.set(Some(Features { amx_bf16: true, ..found }));
    let [high, medium] = [Precision::High, Precision::Medium].map(losses_of_training);
    EMULATED.set(None);
    let error = |losses: &[f64]| losses.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(exact[99] < 0.5 * exact[0], "it learns: {} -> {}", exact[0], exact[99]);
    assert!(high != exact && error(&high) < 1e-3, "high: {}", error(&high));
    assert!(error(&medium) > error(&high), "medium: {}, high: {}", error(&medium), error(&high));
}
