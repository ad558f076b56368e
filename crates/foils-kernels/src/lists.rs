//! Ragged lists of indices: one flat array and where each list begins.

/// For each row a list of indices (CSR without values): list `i` is `indices[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    offsets: &'a [usize],
    indices: &'a [u32],
}

impl<'a> Lists<'a> {
    /// No indices, for any number of rows.
    pub const EMPTY: Lists<'static> = Lists { offsets: &[], indices: &[] };

    /// From the beginnings of the lists and their end (`rows + 1` offsets), and all indices.
    ///
    /// # Panics
    /// When the offsets do not begin at 0, descend, or do not end at the number of indices.
    pub fn new(offsets: &'a [usize], indices: &'a [u32]) -> Self {
        assert!(offsets.first() == Some(&0) && offsets.last() == Some(&indices.len()), "offsets must run from 0 to {}", indices.len());
        assert!(offsets.is_sorted(), "offsets must not descend");
        Self { offsets, indices }
    }

    /// The list of row `i`.
    pub fn get(&self, i: usize) -> &'a [u32] {
        if self.offsets.is_empty() { &[] } else { &self.indices[self.offsets[i]..self.offsets[i + 1]] }
    }

    /// Whether list `i` has an index, for any two: what [`crate::topk::top_k`] takes out. Looked for by halving.
    ///
    /// ```
    /// use foils_kernels::{Lists, topk::top_k};
    /// let excluded = Lists::new(&[0, 2, 2], &[0, 2]);
    /// let found = top_k(&[1.0f32, 2.0], &[3.0, 4.0, 5.0], 1, 1, excluded.members());
    /// assert_eq!(found, [[(1, 4.0)], [(2, 10.0)]]);
    /// ```
    ///
    /// # Panics
    /// When a list does not ascend (an index may come twice); what it returns, when there is no list `i`.
    pub fn members(self) -> impl Fn(usize, u32) -> bool + Sync + 'a {
        assert!(self.are_sorted(), "the indices of a list must ascend");
        move |i, index| self.get(i).binary_search(&index).is_ok()
    }

    /// Whether every list ascends.
    pub(crate) fn are_sorted(&self) -> bool {
        self.offsets.windows(2).all(|w| self.indices[w[0]..w[1]].is_sorted())
    }

    /// Asserts that there are `rows` lists of indices below `columns`.
    pub(crate) fn check(&self, rows: usize, columns: usize, what: &str) {
        assert!(self.offsets.is_empty() || self.offsets.len() == rows + 1, "{what}: {} lists for {rows} rows", self.offsets.len() - 1);
        assert!(self.indices.iter().all(|&j| (j as usize) < columns), "{what}: an index is not below {columns}");
    }
}
