//! Every level is held to plain f64 code.

use super::*;
use proptest::prelude::*;

/// Numbers that look random, the same for each seed, in [−1, 1].
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn levels() -> Vec<Features> {
    let found = features();
    let (portable, avx2) = (Features::default(), Features { avx2: found.avx2, ..Features::default() });
    vec![portable, avx2, Features { avx512: found.avx512, ..avx2 }]
}

/// How a matrix lies in its slice.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Columns,
    Gaps,
}

fn strides(layout: Layout, (rows, columns): (usize, usize)) -> (usize, usize) {
    match layout {
        Layout::Rows => (columns, 1),
        Layout::Columns => (1, rows),
        Layout::Gaps => (3 * columns + 2, 3),
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: (usize, usize, usize),
    layouts: (Layout, Layout),
    accumulate: bool,
    alpha: f64,
    seed: u64,
}

/// The product by naive code in f64, and Σ|a·b| beside it.
fn naive(case: Case, a: &[f64], b: &[f64], c: &[f64]) -> Vec<(f64, f64)> {
    let (m, n, k) = case.shape;
    let (sa, sb) = (strides(case.layouts.0, (m, k)), strides(case.layouts.1, (k, n)));
    let mut result = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|p| a[i * sa.0 + p * sa.1] * b[p * sb.0 + j * sb.1]);
            let (sum, size) = terms.fold((0.0, 0.0), |(s, z), x| (s + x, z + x.abs()));
            let before = if case.accumulate { c[i * n + j] } else { 0.0 };
            result.push((before + case.alpha * sum, before.abs() + case.alpha.abs() * size));
        }
    }
    result
}

fn check<T: Real>(case: Case, bound: f64) {
    let (m, n, k) = case.shape;
    let (sa, sb) = (strides(case.layouts.0, (m, k)), strides(case.layouts.1, (k, n)));
    let values = |len, seed| numbers(len, seed).into_iter().map(T::from_f64).collect::<Vec<T>>();
    let a = values(needed((m, k), sa), case.seed);
    let b = values(needed((k, n), sb), case.seed + 1);
    let before = values(m * n, case.seed + 2);
    let wide = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    let expected = naive(case, &wide(&a), &wide(&b), &wide(&before));
    let write = Write { accumulate: case.accumulate, alpha: T::from_f64(case.alpha) };
    let (a, b) = (Matrix::new(&a, (m, k), sa), Matrix::new(&b, (k, n), sb));
    for features in levels() {
        let kernel = Kernel::<T>::among(features, Precision::Highest);
        let run = |how: &dyn Fn(MatrixMut<T>)| {
            let mut c = if case.accumulate { before.clone() } else { vec![T::from_f64(f64::NAN); m * n] };
            how(MatrixMut::row_major(&mut c, m, n));
            c
        };
        let once = run(&|c| kernel.product(a, b, c, write));
        for (c, (exact, size)) in once.iter().zip(&expected) {
            let error = (c.to_f64() - exact).abs();
            assert!(error <= bound * size, "{case:?} {features:?}: {c:?} for {exact}, {error:e} of {size}");
        }
        let threaded = run(&|c| kernel.product_threaded(a, b, c, write));
        assert!(once == threaded, "{case:?} {features:?}: threads change the bits");
        let (left, right) = (kernel.left(a), kernel.right(b));
        let packed = run(&|c| kernel.multiply(&left, right.all(), c, write));
        for (c, (exact, size)) in packed.iter().zip(&expected) {
            assert!((c.to_f64() - exact).abs() <= bound * size, "{case:?} {features:?}, packed");
        }
        let parts = run(&|mut c| {
            for first in (0..n).step_by(STEP) {
                for (block, top) in (0..k.max(1)).step_by(STEP).enumerate() {
                    let (columns, rows) = (first..(first + STEP).min(n), top.min(k)..(top + STEP).min(k));
                    let write = Write { accumulate: case.accumulate || block > 0, ..write };
                    let left = kernel.left(a.part(0..m, rows.clone()));
                    kernel.multiply(&left, right.part(rows, columns.clone()), c.part(0..m, columns), write);
                }
            }
        });
        for (c, (exact, size)) in parts.iter().zip(&expected) {
            assert!((c.to_f64() - exact).abs() <= bound * size, "{case:?} {features:?}, in parts");
        }
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Rows), Just(Layout::Columns), Just(Layout::Gaps)]
}

fn side() -> impl Strategy<Value = usize> {
    prop_oneof![0..10usize, 10..70usize, Just(127), Just(128), Just(129), 130..200usize]
}

fn case() -> impl Strategy<Value = Case> {
    let alpha = prop_oneof![Just(1.0), Just(0.0), Just(-2.5)];
    ((side(), side(), prop_oneof![4 => side(), 1 => 250..600usize]), (layout(), layout()), any::<bool>(), alpha, 0..1000u64)
        .prop_map(|(shape, layouts, accumulate, alpha, seed)| Case { shape, layouts, accumulate, alpha, seed })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 96 }))]

    #[test]
    fn every_level_is_the_naive_product(case in case()) {
        check::<f32>(case, 2e-6);
        check::<f64>(case, 4e-15);
    }
}

#[test]
fn every_small_shape() {
    for m in 0..9 {
        for n in [0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65] {
            for k in [0, 1, 2, 5] {
                for accumulate in [false, true] {
                    let layouts = (Layout::Rows, if n % 2 == 0 { Layout::Rows } else { Layout::Columns });
                    let case = Case { shape: (m, n, k), layouts, accumulate, alpha: 0.5, seed: 7 };
                    check::<f32>(case, 4e-7);
                    check::<f64>(case, 8e-16);
                }
            }
        }
    }
}
