//! Sums of gathered rows and inner products with them: what products of a sparse matrix with a dense one consist of.
//!
//! Every path multiplies and then adds, in the order of the entries, so all have the same bits. There is nothing to gain from a
//! fused operation: the time goes into fetching rows.

#[cfg(target_arch = "x86_64")]
use super::features;
use crate::Real;

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
        let values = entries.values.map(|values| &values[range[0]..range[1]]);
        let mut at = 0;
        while at < dim {
            at += match dim - at {
                left if left >= WIDE => sums::<T, WIDE>(out, columns, values, x, dim, at),
                left if left >= 32 => sums::<T, 32>(out, columns, values, x, dim, at),
                left if left >= 16 => sums::<T, 16>(out, columns, values, x, dim, at),
                left if left >= 4 => sums::<T, 4>(out, columns, values, x, dim, at),
                _ => sums::<T, 1>(out, columns, values, x, dim, at),
            };
        }
    }
}

/// `N` columns of one row from `at` on; returns `N`.
#[inline(always)]
fn sums<T: Real, const N: usize>(out: &mut [T], columns: &[u32], values: Option<&[T]>, x: &[T], dim: usize, at: usize) -> usize {
    let mut sums = [T::ZERO; N];
    let row = |column: u32| x[column as usize * dim + at..].first_chunk::<N>().expect("a column below the number of rows");
    match values {
        Some(values) => {
            for (&column, &value) in columns.iter().zip(values) {
                sums.iter_mut().zip(row(column)).for_each(|(sum, &x)| *sum += value * x);
            }
        }
        None => {
            for &column in columns {
                sums.iter_mut().zip(row(column)).for_each(|(sum, &x)| *sum += x);
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
