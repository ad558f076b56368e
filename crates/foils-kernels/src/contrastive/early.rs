//! Exponentials as soon as a panel's products are there, without waiting for the row's largest logit.
//!
//! Where |s| ≤ B is known beforehand (σ times the largest lengths of the rows), exp(s − B) can neither overflow nor, for a
//! moderate B, vanish, and serves as well as exp(s − max): the factor exp(B) cancels. A row of logits is then read from memory
//! once less, and written once less. The same goes for a bias whose finite values are within some bound in a block of anchors:
//! that is added to B.

use super::blocks::Job;
use super::settings::{Bias, Keep, Negatives, Settings};
use crate::simd::{self, Row};
use std::ops::Range;

/// What is known of each row of the block so far.
pub(super) struct Early<T> {
    /// The number of candidates.
    m: usize,
    /// The longest anchor's length times the longest candidate's.
    longest: f64,
    /// What |s| and |b| together may be.
    most: f64,
    /// |s| ≤ this.
    largest: f64,
    sorted: bool,
    rows: Vec<Sums>,
    /// The logits of the positives of all rows, as listed.
    saved: Vec<T>,
}

/// Of one row.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    /// B.
    pub shift: f64,
    /// The largest logit of a negative.
    pub hardest: f64,
    /// Σ exp(s − B) over the denominator.
    pub sum: f64,
    /// Which of the saved logits are this row's.
    saved: Range<usize>,
}

impl<T: Row> Early<T> {
    /// None where the whole row must be seen first.
    pub fn new(job: &Job<T>) -> Option<Self> {
        // exp(−2B) must be well within the numbers: products of it with small numbers, and divisions by it, are too.
        let most = if size_of::<T>() == 4 { 30.0 } else { 250.0 };
        let s = job.settings;
        let plain = matches!(s.negatives, Negatives::LogSumExp)
            && s.keep == Keep::All
            && !matches!(s.bias, Some(Bias::Rows(_)))
            && s.positive_logits.is_none()
            && s.extra_denominator.is_none();
        // A little more, for the rounding of products.
        let longest = 1.001 * job.a.longest() * job.c.longest();
        let scale = s.anchor_scale.map_or(s.scale.abs(), |scales| scales.iter().fold(0.0, |most: f64, s| most.max(s.abs())));
        // NaN is not below anything.
        let largest = scale * longest;
        (plain && largest <= most).then(|| Self {
            m: job.m,
            longest,
            most,
            largest,
            sorted: s.positives.are_sorted() && s.excluded.are_sorted(),
            rows: Vec::new(),
            saved: Vec::new(),
        })
    }

    /// Begins a block of these anchors, unless their biases reach too far.
    pub fn start(&mut self, settings: &Settings, anchors: Range<usize>) -> bool {
        let bias = match settings.bias {
            Some(Bias::Matrix(values)) => simd::row_largest_size(&values[anchors.start * self.m..anchors.end * self.m]).into(),
            _ => 0.0,
        };
        if self.largest + bias > self.most {
            return false;
        }
        self.rows.clear();
        let mut end = 0;
        self.rows.extend(anchors.map(|i| {
            let first = end;
            end += settings.positives.get(i).len();
            let shift = T::from_f64(settings.scale_of(i).abs() * self.longest + bias).to_f64();
            Sums { shift, hardest: f64::NEG_INFINITY, sum: 0.0, saved: first..end }
        }));
        self.saved.resize(end, T::ZERO);
        true
    }

    /// Turns a part of the row of anchor `i`, the k-th of the block, into exponentials.
    pub fn panel(&mut self, settings: &Settings, i: usize, k: usize, columns: &Range<usize>, row: &mut [T]) {
        let masked = T::from_f64(f64::NEG_INFINITY);
        let sums = &mut self.rows[k];
        let saved = &mut self.saved[sums.saved.clone()];
        let positives = within(settings.positives.get(i), columns, self.sorted);
        for (at, j) in positives.clone() {
            saved[at] = row[j];
        }
        let no_negatives = settings.first_negative.clamp(columns.start, columns.end) - columns.start;
        row[..no_negatives].fill(masked);
        for (_, j) in within(settings.excluded.get(i), columns, self.sorted).chain(positives.clone()) {
            row[j] = masked;
        }
        sums.hardest = sums.hardest.max(T::largest(row).to_f64());
        if let Some(Bias::Matrix(values)) = settings.bias {
            T::add_f32(row, &values[i * self.m..][columns.clone()]);
        }
        if settings.positive_in_denominator {
            positives.for_each(|(at, j)| row[j] = saved[at]);
        }
        sums.sum += T::exp_sum(row, T::from_f64(sums.shift));
    }

    /// What is known of the k-th row when all its panels have been seen, and the logits of its positives.
    pub fn row(&self, k: usize) -> (&Sums, &[T]) {
        (&self.rows[k], &self.saved[self.rows[k].saved.clone()])
    }
}

/// The entries of a list that are within a panel: which ones, and where in the panel.
fn within<'a>(list: &'a [u32], columns: &Range<usize>, sorted: bool) -> impl Iterator<Item = (usize, usize)> + Clone + 'a {
    let (start, end) = (columns.start, columns.end);
    let of =
        if sorted { list.partition_point(|&j| (j as usize) < start)..list.partition_point(|&j| (j as usize) < end) } else { 0..list.len() };
    let first = of.start;
    list[of]
        .iter()
        .enumerate()
        .filter(move |&(_, &j)| (start..end).contains(&(j as usize)))
        .map(move |(at, &j)| (first + at, j as usize - start))
}
