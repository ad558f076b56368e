use super::*;
use crate::Real;
use proptest::prelude::*;

fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0).collect()
}

fn single(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

/// Every entry within `allowed` of what is expected, absolutely and relatively.
fn assert_close<T: Real>(name: &str, got: &[T], expected: &[f64], allowed: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g.to_f64() - e).abs() <= allowed * (1.0 + e.abs()), "{name}[{i}] = {g:?}, expected {e}");
    }
}

/// The gradient `grad` at `x` of the sum of `weights · outputs(x)` against central differences, at up to 9 places. The differences
/// are taken before the sum, so that its rounding does not hide them.
fn assert_gradient(name: &str, x: &[f64], grad: &[f64], weights: &[f64], outputs: impl Fn(&[f64]) -> Vec<f64>) {
    assert_eq!(x.len(), grad.len(), "{name}");
    let h = 1e-5;
    let mut moved = x.to_vec();
    for i in (0..x.len()).step_by(x.len().div_ceil(9).max(1)) {
        moved[i] = x[i] + h;
        let above = outputs(&moved);
        moved[i] = x[i] - h;
        let below = outputs(&moved);
        moved[i] = x[i];
        let terms = weights.iter().zip(above.iter().zip(&below)).map(|(w, (a, b))| w * (a - b));
        let difference = terms.sum::<f64>() / (2.0 * h);
        assert!((difference - grad[i]).abs() < 1e-7 * (1.0 + difference.abs()), "{name}[{i}] = {}, expected {difference}", grad[i]);
    }
}

fn naive_softmax(x: &[f64], width: usize, scale: f64, mask: Option<&[f64]>) -> Vec<f64> {
    let rows = x.len() / width;
    let mut out = Vec::new();
    for (i, row) in x.chunks(width).enumerate() {
        let masked = |j: usize| mask.map_or(0.0, |m| m[i * (m.len() / width) / rows * width + j]);
        let scores: Vec<f64> = row.iter().enumerate().map(|(j, x)| scale * x + masked(j)).collect();
        let shift = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - shift).exp()).sum();
        out.extend(scores.iter().map(|s| if shift == f64::NEG_INFINITY { 0.0 } else { (s - shift).exp() / total }));
    }
    out
}

fn naive_product(a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum()).collect()
}

fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
    let rows = x.len() / columns;
    (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn softmax_is_its_definition(groups in 0usize..4, each in 0usize..5, width in 1usize..1200, scale in -3.0..3.0f64, masked in any::<bool>(), seed in 0usize..1000) {
        let x = numbers(groups * each * width, seed);
        // Two of seven keys hidden, whole groups now and then.
        let mask: Vec<f64> = (0..groups * width)
            .map(|i| if i % 7 < 2 || (seed % 3 == 0 && i < width) { f64::NEG_INFINITY } else { (i % 5) as f64 * 0.1 })
            .collect();
        let mask = masked.then_some(mask);
        let expected = naive_softmax(&x, width, scale, mask.as_deref());
        let mut y = x.clone();
        softmax(&mut y, width, scale, mask.as_deref());
        assert_close("f64", &y, &expected, 1e-14);
        let (mut narrow, narrow_mask) = (single(&x), mask.as_deref().map(single));
        softmax(&mut narrow, width, scale, narrow_mask.as_deref());
        assert_close("f32", &narrow, &expected, 1e-6);
        let g = numbers(x.len(), seed + 1);
        let mut grad = g.clone();
        softmax_backward(&y, &mut grad, width, scale);
        assert_gradient("x", &x, &grad, &g, |x| naive_softmax(x, width, scale, mask.as_deref()));
        let mut narrow_grad = single(&g);
        softmax_backward(&narrow, &mut narrow_grad, width, scale);
        assert_close("gradient in f32", &narrow_grad, &grad, 2e-6);
    }

    #[test]
    fn layer_norm_is_its_definition(rows in 0usize..60, width in 1usize..1200, seed in 0usize..1000) {
        let (x, gamma, beta) = (numbers(rows * width, seed), numbers(width, seed + 1), numbers(width, seed + 2));
        let naive = |x: &[f64], gamma: &[f64], beta: &[f64]| -> Vec<f64> {
            x.chunks(width).flat_map(|row| {
                let mean = row.iter().sum::<f64>() / width as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                row.iter().enumerate().map(|(c, x)| gamma[c] * (x - mean) / (variance + 1e-2).sqrt() + beta[c]).collect::<Vec<_>>()
            }).collect()
        };
        let expected = naive(&x, &gamma, &beta);
        assert_close("f64", &layer_norm(&x, &gamma, &beta, 1e-2), &expected, 1e-13);
        assert_close("f32", &layer_norm(&single(&x), &single(&gamma), &single(&beta), 1e-2), &expected, 2e-6);
        let g = numbers(x.len(), seed + 3);
        let mut grad = g.clone();
        let parameters = layer_norm_backward(&x, &gamma, 1e-2, &mut grad);
        assert_gradient("x", &x, &grad, &g, |x| naive(x, &gamma, &beta));
        assert_gradient("γ", &gamma, &parameters.gamma, &g, |gamma| naive(&x, gamma, &beta));
        assert_gradient("β", &beta, &parameters.beta, &g, |beta| naive(&x, &gamma, beta));
        let mut narrow = single(&g);
        let narrow_parameters = layer_norm_backward(&single(&x), &single(&gamma), 1e-2, &mut narrow);
        assert_close("x in f32", &narrow, &grad, 1e-5);
        assert_close("γ in f32", &narrow_parameters.gamma, &parameters.gamma, 1e-5);
        assert_close("β in f32", &narrow_parameters.beta, &parameters.beta, 1e-5);
    }

    #[test]
    fn activations_are_their_definitions(n in 0usize..40_000, seed in 0usize..1000) {
        let x: Vec<f64> = numbers(n, seed).iter().map(|x| f64::from((4.0 * x) as f32)).collect();
        let g = numbers(n, seed + 1);
        let naive = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()))).collect() };
        let expected = naive(&x);
        assert_close("GELU", &gelu(&x), &expected, 1e-15);
        for (got, exact) in gelu(&single(&x)).iter().zip(&expected) {
            prop_assert!((f64::from(*got) - exact).abs() <= 1.1e-6 * exact.abs());
        }
        let mut grad = g.clone();
        gelu_backward(&x, &mut grad);
        assert_gradient("GELU", &x, &grad, &g, |x| naive(x));
        let mut narrow = single(&g);
        gelu_backward(&single(&x), &mut narrow);
        assert_close("GELU in f32", &narrow, &grad, 1e-6);

        let mut y = x.clone();
        relu(&mut y);
        prop_assert_eq!(&y, &x.iter().map(|x| x.max(0.0)).collect::<Vec<_>>());
        let mut grad = g.clone();
        relu_backward(&y, &mut grad);
        let passed: Vec<f64> = x.iter().zip(&g).map(|(&x, &g)| if x > 0.0 { g } else { 0.0 }).collect();
        prop_assert_eq!(grad, passed);
    }

    #[test]
    fn cross_entropy_is_its_definition(rows in 1usize..40, classes in 1usize..1200, seed in 0usize..1000) {
        let x: Vec<f64> = numbers(rows * classes, seed).iter().map(|x| 10.0 * x).collect();
        let targets: Vec<u32> = (0..rows).map(|i| ((i * 31 + seed) % classes) as u32).collect();
        let naive = |x: &[f64]| -> Vec<f64> {
            let loss = |(row, &t): (&[f64], &u32)| row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[t as usize];
            x.chunks(classes).zip(&targets).map(loss).collect()
        };
        let mut grad = x.clone();
        let loss = cross_entropy(&mut grad, classes, &targets);
        prop_assert!((loss - naive(&x).iter().sum::<f64>() / rows as f64).abs() < 1e-12);
        assert_gradient("logits", &x, &grad, &vec![1.0 / rows as f64; rows], naive);
        let mut narrow = single(&x);
        let narrow_loss = cross_entropy(&mut narrow, classes, &targets);
        prop_assert!((narrow_loss - loss).abs() < 2e-6 * (1.0 + loss));
        assert_close("f32", &narrow, &grad, 2e-6 / rows as f64);
    }

    #[test]
    fn linear_is_its_definition(rows in 0usize..70, from in 1usize..70, to in 1usize..70, biased in any::<bool>(), seed in 0usize..1000) {
        let (x, weight) = (numbers(rows * from, seed), numbers(from * to, seed + 1));
        let bias = biased.then(|| numbers(to, seed + 2));
        let offset = |c: usize| bias.as_ref().map_or(0.0, |b| b[c]);
        let expected: Vec<f64> = naive_product(&x, &weight, (rows, to, from)).iter().enumerate().map(|(i, y)| y + offset(i % to)).collect();
        assert_close("f64", &linear(&x, &weight, bias.as_deref(), from), &expected, 1e-13);
        let narrow = linear(&single(&x), &single(&weight), bias.as_deref().map(single).as_deref(), from);
        assert_close("f32", &narrow, &expected, 1e-5);
        let g = numbers(rows * to, seed + 3);
        let grads = linear_backward(&x, &weight, &g, from, true);
        assert_close("x", grads.x.as_ref().unwrap(), &naive_product(&g, &transposed(&weight, to), (rows, from, to)), 1e-13);
        let expected = if rows == 0 { vec![0.0; from * to] } else { naive_product(&transposed(&x, from), &g, (from, to, rows)) };
        assert_close("weight", &grads.weight, &expected, 1e-13);
        let sums: Vec<f64> = (0..to).map(|c| g.iter().skip(c).step_by(to).sum()).collect();
        assert_close("bias", &grads.bias, &sums, 1e-13);
        prop_assert_eq!(linear_backward(&x, &weight, &g, from, false).x, None);
    }

    #[test]
    fn attention_is_its_definition(batch in 0usize..4, tokens in 0usize..20, heads in 1usize..4, width in 1usize..10, masked in any::<bool>(), seed in 0usize..1000) {
        let a = Attention { batch, tokens, heads, width };
        let (columns, n) = (heads * width, batch * tokens * heads * width);
        let (q, k, v, g) = (numbers(n, seed), numbers(n, seed + 1), numbers(n, seed + 2), numbers(n, seed + 3));
        // The last tokens of each text are padding; the first text is nothing else when seed is even.
        let padding = |i: usize| i % tokens.max(1) >= tokens - tokens / 3 || (seed % 2 == 0 && i < tokens);
        let mask = masked.then(|| -> Vec<f64> { (0..batch * tokens).map(|i| if padding(i) { f64::NEG_INFINITY } else { 0.0 }).collect() });
        let naive = |q: &[f64], k: &[f64], v: &[f64]| -> Vec<f64> {
            let mut out = vec![0.0; n];
            for b in 0..batch {
                for h in 0..heads {
                    let part = |x: &[f64]| -> Vec<f64> {
                        (0..tokens * width).map(|i| x[(b * tokens + i / width) * columns + h * width + i % width]).collect()
                    };
                    let scores = naive_product(&part(q), &transposed(&part(k), width), (tokens, tokens, width));
                    let p = naive_softmax(&scores, tokens.max(1), 1.0 / (width as f64).sqrt(), mask.as_ref().map(|m| &m[b * tokens..][..tokens]));
                    for (i, value) in naive_product(&p, &part(v), (tokens, width, tokens)).into_iter().enumerate() {
                        out[(b * tokens + i / width) * columns + h * width + i % width] = value;
                    }
                }
            }
            out
        };
        let mask_ref = mask.as_deref();
        let expected = naive(&q, &k, &v);
        assert_close("f64", &a.forward(&q, &k, &v, mask_ref), &expected, 1e-13);
        let narrow_mask = mask_ref.map(single);
        let (q32, k32, v32) = (single(&q), single(&k), single(&v));
        assert_close("f32", &a.forward(&q32, &k32, &v32, narrow_mask.as_deref()), &expected, 2e-6);
        let grads = a.backward(&q, &k, &v, mask_ref, &g);
        assert_gradient("queries", &q, &grads.queries, &g, |q| naive(q, &k, &v));
        assert_gradient("keys", &k, &grads.keys, &g, |k| naive(&q, k, &v));
        assert_gradient("values", &v, &grads.values, &g, |v| naive(&q, &k, v));
        let narrow = a.backward(&q32, &k32, &v32, narrow_mask.as_deref(), &single(&g));
        assert_close("queries in f32", &narrow.queries, &grads.queries, 5e-6);
        assert_close("keys in f32", &narrow.keys, &grads.keys, 5e-6);
        assert_close("values in f32", &narrow.values, &grads.values, 5e-6);
    }

    #[test]
    fn adamw_is_its_definition(n in 0usize..40_000, steps in 1i32..6, rate in 1e-5..0.1f64, decay in 0.0..0.5f64, seed in 0usize..1000) {
        let optimizer = AdamW { weight_decay: decay, ..AdamW::default() };
        let start = numbers(n, seed);
        let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
        let (mut p32, mut m32, mut v32) = (single(&p), vec![0f32; n], vec![0f32; n]);
        let (mut expected, mut first, mut second) = (start, vec![0.0; n], vec![0.0; n]);
        for t in 1..=steps {
            let g = numbers(n, seed + t as usize);
            optimizer.step(t, rate, &mut p, &g, &mut m, &mut v);
            optimizer.step(t, rate, &mut p32, &single(&g), &mut m32, &mut v32);
            for i in 0..n {
                first[i] = 0.9 * first[i] + (1.0 - 0.9) * g[i];
                second[i] = 0.999 * second[i] + (1.0 - 0.999) * g[i] * g[i];
                let (m_hat, v_hat) = (first[i] / (1.0 - 0.9f64.powi(t)), second[i] / (1.0 - 0.999f64.powi(t)));
                expected[i] -= rate * decay * expected[i];
                expected[i] -= rate * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        assert_close("f64", &p, &expected, 1e-13);
        assert_close("first moment", &m, &first, 1e-15);
        assert_close("second moment", &v, &second, 1e-15);
        assert_close("f32", &p32, &expected, 1e-6);
    }
}

#[test]
fn extreme_scores_have_defined_softmax() {
    let mut row = [f32::NEG_INFINITY; 5];
    softmax(&mut row, 5, 1.0, None);
    assert_eq!(row, [0.0; 5], "all hidden: nothing is attended to");
    let mut g = [1f32; 5];
    softmax_backward(&row, &mut g, 5, 1.0);
    assert_eq!(g, [0.0; 5]);
    let mut row = [1e30, -1e30, 1e30, f32::NEG_INFINITY, 0.0];
    softmax(&mut row, 5, 1.0, None);
    assert_eq!(row, [0.5, 0.0, 0.5, 0.0, 0.0]);
    let mut row = [1f32, f32::NAN, 2.0];
    softmax(&mut row, 3, 1.0, None);
    assert!(row.iter().all(|v| v.is_nan()), "not a number is not hidden");
    let mut row = [1f32, f32::INFINITY];
    softmax(&mut row, 2, 1.0, None);
    assert!(row[1].is_nan());
    let mut none: [f32; 0] = [];
    softmax(&mut none, 3, 1.0, Some(&[0.0; 6]));
}

#[test]
fn extreme_logits_have_defined_cross_entropy() {
    // The improbable target's loss is the difference of the logits, though its probability rounds to 0.
    let mut logits = [3e4f32, -3e4, 0.0];
    assert_eq!(cross_entropy(&mut logits, 3, &[1]), 6e4);
    assert_eq!(logits, [1.0, -1.0, 0.0]);
    let mut logits = [0f32, f32::NEG_INFINITY, 0.0];
    assert!((cross_entropy(&mut logits, 3, &[2]) - 2f64.ln()).abs() < 1e-7);
    assert_eq!(logits, [0.5, 0.0, -0.5]);
    let mut logits = [0f64, f64::NEG_INFINITY];
    assert_eq!(cross_entropy(&mut logits, 2, &[1]), f64::INFINITY);
    assert!(cross_entropy::<f32>(&mut [f32::NEG_INFINITY; 2], 2, &[1]).is_nan());
    assert!(cross_entropy::<f32>(&mut [], 2, &[]).is_nan());
}

#[test]
#[should_panic(expected = "target 2 of 2 classes")]
fn a_class_that_is_not_there_is_refused() {
    cross_entropy(&mut [0f32; 4], 2, &[0, 2]);
}

#[test]
fn a_row_of_equal_values_is_normalised_to_the_offset() {
    assert_eq!(layer_norm(&[1e4f32; 24], &[2.0; 24], &[0.5; 24], 1e-5), [0.5; 24]);
    assert_eq!(layer_norm(&[7f64], &[2.0], &[0.5], 1e-5), [0.5]);
}

#[test]
fn not_a_number_goes_through_activations() {
    assert!(gelu(&[f32::NAN])[0].is_nan());
    let mut x = [f64::NAN, -0.0];
    relu(&mut x);
    assert!(x[0].is_nan() && x[1] == 0.0);
}

#[test]
fn threads_change_no_bit() {
    let (rows, width) = (300, 384);
    let x = single(&numbers(rows * width, 1));
    let (gamma, beta) = (single(&numbers(width, 2)), single(&numbers(width, 3)));
    let attention = Attention { batch: 6, tokens: 50, heads: 12, width: 32 };
    let targets: Vec<u32> = (0..rows as u32).collect();
    let all = || {
        let mut y = layer_norm(&x, &gamma, &beta, 1e-5);
        let norm = layer_norm_backward(&x, &gamma, 1e-5, &mut y);
        let mut p = gelu(&x);
        gelu_backward(&x, &mut p);
        softmax(&mut p, width, 0.3, None);
        softmax_backward(&x, &mut p, width, 0.3);
        let grads = attention.backward(&x, &y, &p, None, &x);
        let bias = linear_backward(&x, &gamma, &x[..rows], width, false).bias;
        let mut logits = x.clone();
        let loss = cross_entropy(&mut logits, width, &targets);
        add(&mut logits, &y);
        (norm.gamma, norm.beta, p, grads.queries, grads.keys, grads.values, bias, loss.to_bits(), logits)
    };
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    assert!(pool(1).install(all) == pool(3).install(all));
}

#[test]
fn scores_of_pairs_are_those_of_each_pair_and_their_gradients_are_right() {
    for (n, m, width) in [(1, 1, 1), (7, 5, 3), (4, 300, 33), (90, 201, 16)] {
        let (mut left, right, w, weights) = (numbers(n * width, 1), numbers(m * width, 2), numbers(width, 3), numbers(n * m, 4));
        // The numbers are multiples of 1/1001: so no sum of two is 0, where there is no gradient.
        left.iter_mut().for_each(|v| *v += 3e-4);
        let naive = |left: &[f64], right: &[f64], w: &[f64]| -> Vec<f64> {
            let pair = |i: usize, j: usize| (0..width).map(|k| w[k] * (left[i * width + k] + right[j * width + k]).max(0.0)).sum();
            (0..n * m).map(|p| pair(p / m, p % m)).collect()
        };
        let expected = naive(&left, &right, &w);
        assert_close("f64", &pair_scores(&left, &right, &w), &expected, 1e-13);
        assert_close("f32", &pair_scores(&single(&left), &single(&right), &single(&w)), &expected, 1e-5);
        let grads = pair_scores_backward(&left, &right, &w, &weights);
        assert_gradient("left", &left, &grads.left, &weights, |x| naive(x, &right, &w));
        assert_gradient("right", &right, &grads.right, &weights, |x| naive(&left, x, &w));
        assert_gradient("w", &w, &grads.w, &weights, |x| naive(&left, &right, x));
        let rough = pair_scores_backward(&single(&left), &single(&right), &single(&w), &single(&weights));
        assert_close("left in f32", &rough.left, &grads.left, 1e-4);
        assert_close("right in f32", &rough.right, &grads.right, 1e-4);
        assert_close("w in f32", &rough.w, &grads.w, 1e-3);
    }
    // Nothing on one side.
    assert!(pair_scores::<f64>(&[], &[1.0, 2.0], &[1.0]).is_empty());
    assert_eq!(pair_scores_backward::<f64>(&[1.0], &[], &[1.0], &[]).left, [0.0]);
}
