//! Layers of a transformer, forward and backward, f32: `cargo bench -p foils-kernels --bench rows [-- JOB…]`.

mod measure;

use foils_kernels::encoder::{Affine, EncoderLayer, EncoderWeights, Norm};
use foils_kernels::layers::{
    AdamW, Attention, cross_entropy, gelu, gelu_backward, layer_norm, layer_norm_backward, linear, linear_backward, softmax,
    softmax_backward,
};
use foils_kernels::matrix::Precision;
use measure::{measure, wanted};

/// Keeps memory that is given back for the next step: the system's allocator returns large pieces, and every page of them costs again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn numbers(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

fn main() {
    job("gelu", || {
        let (x, g) = (numbers(1024 * 1536, 0.37), numbers(1024 * 1536, 0.53));
        move || {
            let (y, mut grad) = (gelu(&x), g.clone());
            gelu_backward(&x, &mut grad);
            (y, grad)
        }
    });
    job("softmax", || {
        let (x, g) = (numbers(12 * 16 * 64 * 64, 0.37), numbers(12 * 16 * 64 * 64, 0.53));
        move || {
            let (mut y, mut grad) = (x.clone(), g.clone());
            softmax(&mut y, 64, 0.176, None);
            softmax_backward(&y, &mut grad, 64, 0.176);
            (y, grad)
        }
    });
    job("layer-norm", || {
        let (x, g) = (numbers(1024 * 384, 0.37), numbers(1024 * 384, 0.53));
        let (gamma, beta) = (numbers(384, 0.2), numbers(384, 0.3));
        move || {
            let (y, mut grad) = (layer_norm(&x, &gamma, &beta, 1e-5), g.clone());
            let parameters = layer_norm_backward(&x, &gamma, 1e-5, &mut grad);
            (y, grad, parameters)
        }
    });
    job("encoder-layers", || {
        // Six layers of MiniLM on 16 texts of 64 tokens, forward and backward, without the optimiser.
        let layer = EncoderLayer { width: 384, heads: 12, hidden: 1536, epsilon: 1e-12, precision: Precision::default() };
        let dense =
            |from: usize, to: usize| Affine { weight: numbers(from * to, 0.37).iter().map(|w| w * 0.05).collect(), bias: vec![0f32; to] };
        let norm = || Norm { gamma: vec![1f32; 384], beta: vec![0f32; 384] };
        let square = || dense(384, 384);
        let (attention_norm, output_norm) = (norm(), norm());
        let (wide, narrow) = (dense(384, 1536), dense(1536, 384));
        let weights: EncoderWeights<Vec<f32>> =
            EncoderWeights { query: square(), key: square(), value: square(), out: square(), attention_norm, wide, narrow, output_norm };
        let (x, lengths) = (numbers(1024 * 384, 0.11), [64; 16]);
        move || {
            let weights = weights.as_slices();
            let mut kept = Vec::new();
            let mut now = x.clone();
            for _ in 0..6 {
                let (y, layer) = layer.forward_kept(&weights, &now, &lengths);
                kept.push((std::mem::replace(&mut now, y), layer));
            }
            kept.into_iter().rev().fold(now, |g, (x, kept)| layer.backward(&weights, &x, kept, g).x)
        }
    });
    job("cross-entropy", || {
        let x = numbers(1024 * 1024, 0.37);
        let targets: Vec<u32> = (0..1024).collect();
        move || {
            let mut grad = x.clone();
            (cross_entropy(&mut grad, 1024, &targets), grad)
        }
    });
    job("adamw", || {
        // The parameters of six layers of MiniLM, as they come: matrices, biases, scales.
        let sizes = [384 * 384, 384, 384 * 384, 384, 384 * 384, 384, 384 * 384, 384, 384, 384, 384 * 1536, 1536, 1536 * 384, 384, 384, 384];
        let mut parameters: Vec<[Vec<f32>; 4]> =
            (0..6).flat_map(|_| sizes).map(|n| [numbers(n, 0.37), numbers(n, 0.53), vec![0.0; n], vec![0.0; n]]).collect();
        let (optimizer, mut t) = (AdamW::default(), 0);
        move || {
            t += 1;
            for [p, g, m, v] in &mut parameters {
                optimizer.step(t, 1e-4, p, g, m, v);
            }
        }
    });
    job("linear", || {
        let (x, g) = (numbers(1024 * 384, 0.37), numbers(1024 * 1536, 0.53));
        let (weight, bias) = (numbers(384 * 1536, 0.29), numbers(1536, 0.3));
        move || (linear(&x, &weight, Some(&bias), 384), linear_backward(&x, &weight, &g, 384, true))
    });
    job("attention", || {
        let shape = Attention { batch: 16, tokens: 64, heads: 12, width: 32 };
        let [q, k, v, g] = [0.37, 0.53, 0.29, 0.41].map(|step| numbers(1024 * 384, step));
        move || (shape.forward(&q, &k, &v, None), shape.backward(&q, &k, &v, None, &g))
    });
}

/// Measures what `prepare` makes, when it is wanted.
fn job<T, F: FnMut() -> T>(name: &str, prepare: impl FnOnce() -> F) {
    if wanted(name) {
        measure(name, 51, "", prepare());
    }
}
