//! Candidates of earlier batches, whose vectors are as they were then (MoCo's queue without its second encoder).

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// First in, first out; empty at the start, and at most so long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Queue {
    length: usize,
    /// A candidate and what stands for it among anchors.
    texts: VecDeque<(u32, u32)>,
    vectors: VecDeque<f32>,
}

impl Queue {
    pub fn new(length: usize) -> Self {
        Self { length, ..Self::default() }
    }

    /// The texts of its candidates, oldest first, each with what stands for it.
    pub fn texts(&self) -> impl Iterator<Item = (u32, u32)> {
        self.texts.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Their vectors, row after row.
    pub fn vectors(&self) -> Vec<f32> {
        self.vectors.iter().copied().collect()
    }

    /// Takes the newest; the oldest go.
    pub fn push(&mut self, texts: impl ExactSizeIterator<Item = (u32, u32)>, vectors: &[f32]) {
        if self.length == 0 || texts.len() == 0 {
            return;
        }
        let width = vectors.len() / texts.len();
        self.texts.extend(texts);
        self.vectors.extend(vectors);
        let gone = self.texts.len().saturating_sub(self.length);
        self.texts.drain(..gone);
        self.vectors.drain(..gone * width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut queue = Queue::new(3);
        queue.push([(1, 1), (2, 1)].into_iter(), &[1.0, 1.5, 2.0, 2.5]);
        queue.push([(3, 3), (4, 3)].into_iter(), &[3.0, 3.5, 4.0, 4.5]);
        assert_eq!(queue.texts().collect::<Vec<_>>(), [(2, 1), (3, 3), (4, 3)]);
        assert_eq!((queue.len(), queue.vectors()), (3, vec![2.0, 2.5, 3.0, 3.5, 4.0, 4.5]));
        queue.push((0..5).map(|i| (i, i)), &[0.0; 10]);
        assert_eq!(queue.texts().collect::<Vec<_>>(), [(2, 2), (3, 3), (4, 4)]);
        let mut none = Queue::new(0);
        none.push([(1, 1)].into_iter(), &[1.0]);
        assert_eq!(none.len(), 0);
    }
}
