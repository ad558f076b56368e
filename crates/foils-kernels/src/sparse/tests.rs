use super::Csr;
use crate::Real;
use proptest::prelude::*;

/// A matrix with the entries of each row as drawn, so with duplicates and empty rows.
fn csr<T: Real>(columns: usize, rows: &[Vec<(u32, f64)>], weighted: bool) -> Csr<T> {
    let offsets = std::iter::once(0).chain(rows.iter().scan(0, |sum, row| {
        *sum += row.len();
        Some(*sum)
    }));
    let entries = rows.concat();
    let values = weighted.then(|| entries.iter().map(|e| T::from_f64(e.1)).collect());
    Csr::new(columns, offsets.collect(), entries.iter().map(|e| e.0).collect(), values)
}

fn dense(len: usize, seed: f64) -> Vec<f64> {
    (0..len).map(|i| (i as f64 * 0.37 + seed).sin()).collect()
}

/// Everything against sums in f64 over the entries, and one thread against three.
fn agrees_with_naive_code<T: Real>(columns: usize, rows: &[Vec<(u32, f64)>], dim: usize, weighted: bool) {
    let matrix = csr::<T>(columns, rows, weighted);
    let narrow = |x: &[f64]| x.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
    let (x, g) = (dense(columns * dim, 0.1), dense(rows.len() * dim, 0.7));
    let (mut product, mut x_gradient, mut value_gradient) = (vec![0.0; rows.len() * dim], vec![0.0; columns * dim], Vec::new());
    for (row, entries) in rows.iter().enumerate() {
        for &(column, value) in entries {
            let (value, column) = (if weighted { value } else { 1.0 }, column as usize);
            value_gradient.push((0..dim).map(|c| g[row * dim + c] * x[column * dim + c]).sum());
            for c in 0..dim {
                product[row * dim + c] += value * x[column * dim + c];
                x_gradient[column * dim + c] += value * g[row * dim + c];
            }
        }
    }
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let nan = |len: usize| vec![T::from_f64(f64::NAN); len];
            let (mut y, mut gx, mut gv) = (nan(product.len()), nan(x_gradient.len()), nan(value_gradient.len()));
            matrix.multiply(&narrow(&x), dim, &mut y);
            matrix.transpose().0.multiply(&narrow(&g), dim, &mut gx);
            matrix.value_gradient(&narrow(&g), &narrow(&x), dim, &mut gv);
            [y, gx, gv]
        })
    };
    let found = run(1);
    assert_eq!(found, run(3));
    let terms = (rows.iter().map(Vec::len).sum::<usize>() + dim) as f64;
    for (found, expected) in found.iter().zip([product, x_gradient, value_gradient]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(&expected) {
            assert!((f.to_f64() - e).abs() <= 4.0 * terms * T::EPSILON.to_f64(), "{f:?} {e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn products_and_gradients_agree_with_naive_code(
        (columns, rows) in (1usize..20).prop_flat_map(|columns| {
            let row = prop::collection::vec((0..columns as u32, -1.0f64..1.0), 0..9);
            (Just(columns), prop::collection::vec(row, 0..25))
        }),
        dim in prop_oneof![0usize..20, Just(31), Just(64), 60usize..140],
        weighted in any::<bool>(),
    ) {
        agrees_with_naive_code::<f32>(columns, &rows, dim, weighted);
        agrees_with_naive_code::<f64>(columns, &rows, dim, weighted);
        let matrix = csr::<f64>(columns, &rows, weighted);
        let (transpose, order) = matrix.transpose();
        for (at, &entry) in order.iter().enumerate() {
            prop_assert_eq!(transpose.offsets().partition_point(|&o| o <= at) - 1, matrix.indices()[entry as usize] as usize);
            prop_assert_eq!(transpose.values().map(|v| v[at]), matrix.values().map(|v| v[entry as usize]));
        }
        // Only the order within a row may change there and back.
        prop_assert_eq!(transpose.transpose().0.transpose().0, transpose);
    }
}

#[test]
fn nothing_at_all() {
    agrees_with_naive_code::<f32>(0, &[], 3, true);
    agrees_with_naive_code::<f32>(0, &[vec![], vec![]], 3, false);
    agrees_with_naive_code::<f64>(4, &[], 1, true);
}

#[test]
fn normalisation_divides_by_the_roots_of_both_degrees() {
    // Degrees of rows 4, 1, 0 and of columns 1, 4, 0, whose roots are exact.
    let normal = csr::<f64>(3, &[vec![(0, 1.0), (1, 3.0)], vec![(1, 1.0)], vec![]], true).normalized();
    assert_eq!(normal.values().unwrap(), [0.5, 0.75, 0.5]);
    let ones = csr::<f32>(2, &[vec![(0, 9.0); 4]], false).normalized();
    assert_eq!(ones.values().unwrap(), [0.25; 4]);
    assert_eq!(csr::<f32>(1, &[vec![(0, -1.0)]], true).normalized().values().unwrap(), [-0.0]);
}

#[test]
#[should_panic(expected = "an index is not below 2")]
fn indices_must_be_columns() {
    Csr::<f32>::new(2, vec![0, 1], vec![2], None);
}

#[test]
#[should_panic(expected = "as many values as indices")]
fn values_must_be_as_many() {
    Csr::<f32>::new(2, vec![0, 1], vec![1], Some(vec![]));
}
