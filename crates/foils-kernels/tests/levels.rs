//! The kernels with the instructions that the processor has, beside those that `FOILS_SIMD` leaves of them: features are looked for
//! once in a process, so each level is one of its own.

use foils_kernels::bm25::{Bm25, Idf};
use foils_kernels::contrastive::{Settings, contrast};
use foils_kernels::layers::{gelu, layer_norm, softmax};
use foils_kernels::simd::Row;
use foils_kernels::sparse::Csr;
use foils_kernels::topk::{Corpus, top_k};
use foils_kernels::{Lists, Real, product};
use std::path::PathBuf;
use std::process::Command;

/// Where a child process writes its results.
const OUT: &str = "FOILS_LEVELS_OUT";

/// What a kernel computed, and how far, as a share of the largest of the numbers, another level may be from it.
struct Results {
    name: String,
    rounding: f64,
    values: Vec<f64>,
}

/// Numbers in [−1, 1] that every level makes alike.
fn numbers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    (0..len).map(|_| T::from_f64(next())).collect()
}

fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

fn flat<T: Real>(rankings: Vec<Vec<(u32, T)>>) -> Vec<f64> {
    rankings.into_iter().flatten().flat_map(|(index, score)| [f64::from(index), score.to_f64()]).collect()
}

/// The kernels of one type of numbers. With f32 a share of 1e-4 is allowed where exponentials or AMX (bf16 in two parts) take part.
fn compute<T: Row + foils_kernels::simd::Float>(results: &mut Vec<Results>) {
    let mut add = |name: &str, (f32_rounding, f64_rounding): (f64, f64), values: Vec<f64>| {
        let rounding = if T::IS_F32 { f32_rounding } else { f64_rounding };
        results.push(Results { name: format!("{name} of {}", std::any::type_name::<T>()), rounding, values });
    };
    let exact = (0.0, 0.0);

    let (dim, k) = (70, 20);
    let (queries, documents) = (numbers::<T>(200 * dim, 1), numbers::<T>(1500 * dim, 2));
    let excluded = |query: usize, document: u32| (query as u32 + document).is_multiple_of(7);
    add("top-k", exact, flat(top_k(&queries, &documents, dim, k, excluded)));
    add("top-k of few queries", exact, flat(top_k(&queries[..2 * dim], &documents, dim, k, excluded)));
    add("corpus", exact, flat(Corpus::new(documents, dim).top_k(&queries, k, excluded)));

    let entries: Vec<u32> = (0..3000).map(|i| i * 7919 % 300).collect();
    let offsets = (0..=100).map(|row| row * 30).collect();
    let graph = Csr::new(300, offsets, entries.clone(), Some(numbers(3000, 3)));
    let (x, mut y, mut gradient) = (numbers::<T>(300 * dim, 4), vec![T::ZERO; 100 * dim], vec![T::ZERO; 3000]);
    graph.multiply(&x, dim, &mut y);
    graph.value_gradient(&y, &x, dim, &mut gradient);
    add("sparse product", exact, wide(&y));
    add("gradient of a sparse product", exact, wide(&gradient));

    let ends: Vec<usize> = (0..=100).map(|document| document * 30).collect();
    let index = Bm25::<T>::new(&entries, &ends, 300, 1.2, 0.75, Idf::Lucene);
    add("BM25", exact, flat(index.top_k(&[&entries[..10], &entries[500..540]], 10, |_, _| false)));

    let (m, n, depth) = (61, 130, 500);
    let mut c = vec![T::ZERO; m * n];
    product(&mut c, (m, n, depth), &numbers(m * depth, 5), (depth, 1), &numbers(n * depth, 6), (1, depth), false, T::ONE);
    add("product", (5e-6, 1e-14), wide(&c));

    let (n, m, dim) = (150, 400, 48);
    let positives: Vec<u32> = (0..n as u32).map(|i| i * 2).collect();
    let own: Vec<usize> = (0..=n).collect();
    let settings = Settings::new(Lists::new(&own, &positives), 20.0);
    let found = contrast::<T>(&numbers(n * dim, 7), &numbers(m * dim, 8), dim, &settings);
    add("contrastive loss", (1e-5, 1e-13), vec![found.loss]);
    add("its gradient by anchors", (1e-4, 1e-12), wide(&found.grad_anchors));
    add("its gradient by candidates", (1e-4, 1e-12), wide(&found.grad_candidates));

    let x = numbers::<T>(40 * 96, 9);
    let mut probabilities = x.clone();
    softmax(&mut probabilities, 96, 3.0, None);
    add("softmax", (1e-5, 1e-13), wide(&probabilities));
    add("GELU", (1e-5, 1e-13), wide(&gelu(&x)));
    add("layer norm", (1e-5, 1e-13), wide(&layer_norm(&x, &numbers(96, 10), &numbers(96, 11), 1e-5)));
}

fn all() -> Vec<Results> {
    let mut results = Vec::new();
    compute::<f32>(&mut results);
    compute::<f64>(&mut results);
    results
}

/// The bits of every number, a line for each kernel.
fn written(results: &[Results]) -> String {
    let line = |r: &Results| r.values.iter().map(|v| format!("{:x}", v.to_bits())).collect::<Vec<_>>().join(" ");
    results.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn read(text: &str) -> Vec<Vec<f64>> {
    let number = |bits: &str| f64::from_bits(u64::from_str_radix(bits, 16).expect("hexadecimal"));
    text.lines().map(|line| line.split(' ').map(number).collect()).collect()
}

#[test]
fn every_level_computes_the_same() {
    if let Some(path) = std::env::var_os(OUT) {
        std::fs::write(path, written(&all())).expect("the results could not be written");
        return;
    }
    let best = all();
    for level in ["portable", "avx2", "avx512"] {
        let path: PathBuf = std::env::temp_dir().join(format!("foils-levels-{}-{level}", std::process::id()));
        let child = Command::new(std::env::current_exe().expect("this test")).env("FOILS_SIMD", level).env(OUT, &path).output();
        let child = child.expect("this test runs again");
        assert!(child.status.success(), "{level}: {}", String::from_utf8_lossy(&child.stdout));
        let found = read(&std::fs::read_to_string(&path).expect("what the child wrote"));
        std::fs::remove_file(&path).expect("its file");
        assert_eq!(found.len(), best.len(), "{level}");
        for (found, Results { name, rounding, values }) in found.iter().zip(&best) {
            assert_eq!(found.len(), values.len(), "{level}, {name}");
            let largest = values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()));
            let error = found.iter().zip(values).map(|(f, v)| (f - v).abs()).fold(0.0, f64::max) / largest;
            println!("{level}, {name}: {error:.1e}");
            assert!(largest.is_finite() && error <= *rounding, "{level}, {name}: {error:e} of the largest");
        }
    }
}
