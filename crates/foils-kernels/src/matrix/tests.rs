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

/// Everything that this machine can compute with, and the rounding of it: the largest error relative to Σ|a·b|.
fn kernels<T: Real>() -> Vec<(Kernel<T>, f64)> {
    let found = features();
    let (portable, avx2) = (Features::default(), Features { avx2: found.avx2, ..Features::default() });
    let rounding = 16.0 * T::EPSILON.to_f64();
    let mut kernels: Vec<(Kernel<T>, f64)> = [portable, avx2, Features { avx512: found.avx512, ..avx2 }]
        .map(|features| (Kernel::among(features, Precision::Highest), rounding))
        .into();
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    if found.avx512 && T::IS_F32 {
        crate::simd::amx_emulation::install();
        let features = Features { amx_bf16: true, ..found };
        // Rounding to bf16 errs by u = 2⁻⁸ at most: both factors twice, and the product of the low parts, which is left out; or
        // both factors once, and the product of their errors.
        let u = 2f64.powi(-8);
        kernels.push((Kernel::among(features, Precision::High), 3.0 * u * u + rounding));
        kernels.push((Kernel::among(features, Precision::Medium), 2.0 * u + u * u + rounding));
    }
    kernels
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

fn check<T: Real>(case: Case) {
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
    for (kernel, bound) in kernels::<T>() {
        let run = |how: &dyn Fn(MatrixMut<T>)| {
            let mut c = if case.accumulate { before.clone() } else { vec![T::from_f64(f64::NAN); m * n] };
            how(MatrixMut::row_major(&mut c, m, n));
            c
        };
        let once = run(&|c| kernel.product(a, b, c, write));
        for (c, (exact, size)) in once.iter().zip(&expected) {
            let error = (c.to_f64() - exact).abs();
            assert!(error <= bound * size, "{case:?} {kernel:?}: {c:?} for {exact}, {error:e} of {size}");
        }
        let threaded = run(&|c| kernel.product_threaded(a, b, c, write));
        assert!(once == threaded, "{case:?} {kernel:?}: threads change the bits");
        let (left, right) = (kernel.left(a), kernel.right(b));
        let packed = run(&|c| kernel.multiply(&left, right.all(), c, write));
        for (c, (exact, size)) in packed.iter().zip(&expected) {
            assert!((c.to_f64() - exact).abs() <= bound * size, "{case:?} {kernel:?}, packed");
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
            assert!((c.to_f64() - exact).abs() <= bound * size, "{case:?} {kernel:?}, in parts");
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
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 64 }))]

    #[test]
    fn every_level_is_the_naive_product(case in case()) {
        check::<f32>(case);
        check::<f64>(case);
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow there; the property test runs a few shapes")]
fn every_small_shape() {
    for m in 0..9 {
        for n in [0, 1, 2, 7, 8, 9, 17, 33, 63, 65] {
            for k in [0, 1, 3] {
                for accumulate in [false, true] {
                    let layouts = (Layout::Rows, if n % 2 == 0 { Layout::Rows } else { Layout::Columns });
                    let case = Case { shape: (m, n, k), layouts, accumulate, alpha: 0.5, seed: 7 };
                    check::<f32>(case);
                    check::<f64>(case);
                }
            }
        }
    }
}

/// The largest errors relative to Σ|a·b|, which the documentation of [`Precision`] states.
#[test]
#[cfg_attr(miri, ignore = "slow there")]
fn precisions_keep_what_they_say() {
    let case = Case { shape: (64, 64, 384), layouts: (Layout::Rows, Layout::Columns), accumulate: false, alpha: 1.0, seed: 5 };
    let (m, n, k) = case.shape;
    let values = |seed| numbers(m * k, seed).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let (a, b) = (values(1), values(2));
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let expected = naive(case, &wide(&a), &wide(&b), &[]);
    let stated = [2.5e-7, 2.5e-7, 2.5e-7, 1.3e-6, 5.9e-4];
    for ((kernel, _), stated) in kernels::<f32>().into_iter().zip(stated) {
        let mut c = vec![0.0; m * n];
        let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, n, k).transposed());
        kernel.product(a, b, MatrixMut::row_major(&mut c, m, n), Write::set(1.0));
        let error = c.iter().zip(&expected).map(|(&c, (exact, size))| (f64::from(c) - exact).abs() / size).fold(0.0, f64::max);
        println!("{kernel:?}: {error:.1e}");
        assert!((stated / 20.0..=stated).contains(&error), "{kernel:?}: {error:e}");
    }
}
