//! Room for packed numbers that begins where a cache line begins: vectors that straddle two lines are slow to load.

/// Numbers beginning at a cache line; grows, and is not cleared in between.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
    len: usize,
}

const LINE: usize = 64;

impl<T: bytemuck::Zeroable + Copy> Aligned<T> {
    pub const EMPTY: Self = Self { values: Vec::new(), start: 0, len: 0 };

    /// Room for `len` numbers, whatever they are.
    pub fn resize(&mut self, len: usize) -> &mut [T] {
        let spare = LINE / size_of::<T>();
        if self.values.len() < len + spare {
            self.values = vec![T::zeroed(); len + spare];
            // Where the address cannot be known (Miri), it begins anywhere: alignment is for speed alone.
            self.start = self.values.as_ptr().align_offset(LINE).min(spare);
        }
        self.len = len;
        &mut self.values[self.start..][..len]
    }

    pub fn get(&self) -> &[T] {
        &self.values[self.start..][..self.len]
    }
}
