//! Sums of gathered rows and inner products with them: what products of a sparse matrix with a dense one consist of.
//!
//! Every path multiplies and then adds, in the order of the entries, so all have the same bits. There is nothing to gain from a
//! fused operation: the time goes into fetching rows.

#[cfg(target_arch = "x86_64")]
use super::features;
use super::prefetch;
use crate::Real;

/// The row that is gathered so many entries later is fetched from memory meanwhile, because nothing else foretells which it is.
const AHEAD: usize = 16;

/// Rows of a sparse matrix in compressed form; `offsets` are those of the first row and on, into all entries.
#[derive(Clone, Copy)]
pub(crate) struct Entries<'a, T> {
    pub offsets: &'a [usize],
    pub columns: &'a [u32],
    /// None: all 1.
    pub values: Option<&'a [T]>,
}

/// `out[row] = Σ value · x[column]` over the entries of each row; `out` and `x` are `[_, dim]`.
pub(crate) fn gather<T: Real>(out: &mut [T], entries: Entries<T>, x: &[T], dim: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if features().avx512 {
            // SAFETY: the processor has the features that the function is compiled for, as just asked.
            return unsafe { gather_avx512(out, entries, x, dim) };
        }
        if features().avx2 {
            // SAFETY: as above.
            return unsafe { gather_avx2(out, entries, x, dim) };
        }
    }
    gather_rows::<T, 32>(out, entries, x, dim);
}

/// `out[entry] = ⟨g[row], x[column]⟩`, each summed in sixteen lanes.
pub(crate) fn dots<T: Real>(out: &mut [T], entries: Entries<T>, g: &[T], x: &[T], dim: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if features().avx512 {
            // SAFETY: as in `gather`.
            return unsafe { dots_avx512(out, entries, g, x, dim) };
        }
        if features().avx2 {
            // SAFETY: as above.
            return unsafe { dots_avx2(out, entries, g, x, dim) };
        }
    }
    dots_rows(out, entries, g, x, dim);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2")]
fn gather_avx512<T: Real>(out: &mut [T], entries: Entries<T>, x: &[T], dim: usize) {
    gather_rows::<T, 64>(out, entries, x, dim);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn gather_avx2<T: Real>(out: &mut [T], entries: Entries<T>, x: &[T], dim: usize) {
    gather_rows::<T, 32>(out, entries, x, dim);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2")]
fn dots_avx512<T: Real>(out: &mut [T], entries: Entries<T>, g: &[T], x: &[T], dim: usize) {
    dots_rows(out, entries, g, x, dim);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dots_avx2<T: Real>(out: &mut [T], entries: Entries<T>, g: &[T], x: &[T], dim: usize) {
    dots_rows(out, entries, g, x, dim);
}

/// `WIDE`: how many sums the registers hold.
#[inline(always)]
fn gather_rows<T: Real, const WIDE: usize>(out: &mut [T], entries: Entries<T>, x: &[T], dim: usize) {
    for (out, range) in out.chunks_exact_mut(dim).zip(entries.offsets.windows(2)) {
        let columns = &entries.columns[range[0]..range[1]];
        let ahead = entries.columns.get(range[0] + AHEAD..).unwrap_or_default();
        let values = entries.values.map(|values| &values[range[0]..range[1]]);
        let mut at = 0;
        while at < dim {
            at += match dim - at {
                left if left >= WIDE => sums::<T, WIDE>(out, (columns, ahead), values, x, dim, at),
                left if left >= 32 => sums::<T, 32>(out, (columns, ahead), values, x, dim, at),
                left if left >= 16 => sums::<T, 16>(out, (columns, ahead), values, x, dim, at),
                left if left >= 4 => sums::<T, 4>(out, (columns, ahead), values, x, dim, at),
                _ => sums::<T, 1>(out, (columns, ahead), values, x, dim, at),
            };
        }
    }
}

/// `N` columns of one row from `at` on; returns `N`. Beside the columns of its entries there are those of the entries that are
/// [`AHEAD`] of them, as far as there are any.
#[inline(always)]
fn sums<T: Real, const N: usize>(
    out: &mut [T],
    (columns, ahead): (&[u32], &[u32]),
    values: Option<&[T]>,
    x: &[T],
    dim: usize,
    at: usize,
) -> usize {
    let mut sums = [T::ZERO; N];
    let row = |column: u32| x[column as usize * dim + at..].first_chunk::<N>().expect("a column below the number of rows");
    let fetched = |entry: usize, column: u32| {
        if let Some(&next) = ahead.get(entry) {
            prefetch(row(next));
        }
        row(column)
    };
    match values {
        Some(values) => {
            for (entry, (&column, &value)) in columns.iter().zip(values).enumerate() {
                sums.iter_mut().zip(fetched(entry, column)).for_each(|(sum, &x)| *sum += value * x);
            }
        }
        None => {
            for (entry, &column) in columns.iter().enumerate() {
                sums.iter_mut().zip(fetched(entry, column)).for_each(|(sum, &x)| *sum += x);
            }
        }
    }
    out[at..at + N].copy_from_slice(&sums);
    N
}

#[inline(always)]
fn dots_rows<T: Real>(out: &mut [T], entries: Entries<T>, g: &[T], x: &[T], dim: usize) {
    const LANES: usize = 16;
    let start = entries.offsets[0];
    for (g, range) in g.chunks_exact(dim).zip(entries.offsets.windows(2)) {
        let columns = &entries.columns[range[0]..range[1]];
        for (out, &column) in out[range[0] - start..range[1] - start].iter_mut().zip(columns) {
            let ((g, g_rest), (x, x_rest)) = (g.as_chunks::<LANES>(), x[column as usize * dim..][..dim].as_chunks::<LANES>());
            let mut sums = [T::ZERO; LANES];
            for (g, x) in g.iter().zip(x) {
                sums.iter_mut().zip(g.iter().zip(x)).for_each(|(sum, (&g, &x))| *sum += g * x);
            }
            sums.iter_mut().zip(g_rest.iter().zip(x_rest)).for_each(|(sum, (&g, &x))| *sum += g * x);
            // Halved again and again, as a tree.
            let mut half = LANES / 2;
            while half > 0 {
                let (low, high) = sums.split_at_mut(half);
                low.iter_mut().zip(high).for_each(|(l, &mut h)| *l += h);
                half /= 2;
            }
            *out = sums[0];
        }
    }
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    /// Every level, bit for bit, for every way in which a row's width is cut.
    fn levels_agree<T: Real>() {
        let (rows, columns) = (40, 50);
        let number = |i: usize| T::from_f64((i as f64 * 0.37).sin());
        // Rows of 0 to 30 entries.
        let offsets: Vec<usize> = (0..=rows).scan(0, |end, row| Some(std::mem::replace(end, *end + row * row % 31))).collect();
        let indices: Vec<u32> = (0..offsets[rows]).map(|i| (i * 7919 % columns) as u32).collect();
        let values: Vec<T> = (0..indices.len()).map(number).collect();
        for dim in [1, 3, 4, 15, 16, 21, 32, 53, 64, 100, 131, 200] {
            let (x, g): (Vec<T>, Vec<T>) = ((0..columns * dim).map(number).collect(), (0..rows * dim).map(|i| number(i + 9)).collect());
            for values in [None, Some(&values[..])] {
                let entries = Entries { offsets: &offsets, columns: &indices, values };
                let mut expected = vec![T::ZERO; rows * dim];
                gather_rows::<T, 32>(&mut expected, entries, &x, dim);
                let mut dotted = vec![T::ZERO; indices.len()];
                dots_rows(&mut dotted, entries, &g, &x, dim);
                let check = |product: Vec<T>, dots: Vec<T>, level: &str| {
                    assert!(product == expected && dots == dotted, "{level}, {dim} columns: other bits");
                };
                let (mut out, mut dots) = (vec![T::ONE; rows * dim], vec![T::ONE; indices.len()]);
                if features().avx2 {
                    // SAFETY: the processor has the features, as just asked.
                    unsafe {
                        gather_avx2(&mut out, entries, &x, dim);
                        dots_avx2(&mut dots, entries, &g, &x, dim);
                    }
                    check(out.clone(), dots.clone(), "AVX2");
                }
                if features().avx512 {
                    out.fill(T::ONE);
                    dots.fill(T::ONE);
                    // SAFETY: as above.
                    unsafe {
                        gather_avx512(&mut out, entries, &x, dim);
                        dots_avx512(&mut dots, entries, &g, &x, dim);
                    }
                    check(out, dots, "AVX-512");
                }
            }
        }
    }

    #[test]
    fn every_level_has_the_same_bits() {
        levels_agree::<f32>();
        levels_agree::<f64>();
    }
}
