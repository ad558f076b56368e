//! Are two texts the same, or nearly? Digests of texts, and the Jaccard similarity of their sets of words.

use crate::data::TextList;
use crate::data::text::{digest, each_word};
use rayon::prelude::*;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Each text's digest and, where near-copies are asked for, its set of words as sorted 64-bit digests.
pub(super) struct Looks {
    looks: Vec<(u128, Box<[u64]>)>,
    /// Of which text each is; none: of all, in order.
    places: Option<HashMap<u32, usize>>,
}

impl Looks {
    /// Of all `texts`.
    pub fn of_all(texts: &TextList, words: bool) -> Self {
        Self { looks: (0..texts.len()).into_par_iter().map(|i| look(&texts[i], words)).collect(), places: None }
    }

    /// Of those that are named.
    pub fn of(texts: &TextList, named: impl Iterator<Item = u32>, words: bool) -> Self {
        let mut named: Vec<u32> = named.collect();
        named.sort_unstable();
        named.dedup();
        let looks = named.par_iter().map(|&i| look(&texts[i as usize], words)).collect();
        Self { looks, places: Some(named.into_iter().enumerate().map(|(place, i)| (i, place)).collect()) }
    }

    /// The digest of a text.
    pub fn digest(&self, text: u32) -> u128 {
        self.look(text).0
    }

    fn look(&self, text: u32) -> &(u128, Box<[u64]>) {
        &self.looks[self.places.as_ref().map_or(text as usize, |places| places[&text])]
    }

    /// Whether |A ∩ B| / |A ∪ B| ≥ `threshold` for the words of texts `a` and `b`. Texts without words are copies of none.
    pub fn near(&self, a: u32, b: u32, threshold: f64) -> bool {
        let (a, b) = (&self.look(a).1, &self.look(b).1);
        let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        // The intersection is at most the smaller set: most pairs end here, without a look at the words.
        if small.is_empty() || (small.len() as f64) < threshold * large.len() as f64 {
            return false;
        }
        let mut rest = &large[..];
        let mut common = 0usize;
        for word in small {
            let skip = rest.partition_point(|other| other < word);
            rest = &rest[skip..];
            common += usize::from(rest.first() == Some(word));
        }
        common as f64 >= threshold * (small.len() + large.len() - common) as f64
    }
}

fn look(text: &str, words: bool) -> (u128, Box<[u64]>) {
    let mut digests: Vec<u64> = Vec::new();
    if words {
        each_word(text, |word| digests.push(xxh3_64(word.as_bytes())));
        digests.sort_unstable();
        digests.dedup();
    }
    (digest(text), digests.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaccard_of_word_sets() {
        let ten = "one two three four five six seven eight nine ten";
        let texts = [ten, "Ten, nine eight seven six five four three two ONE!", "one two three four five six seven eight nine", "", "--"];
        let texts: TextList = texts.iter().collect();
        let sets = Looks::of_all(&texts, true);
        assert!(sets.near(0, 1, 1.0));
        assert!(sets.near(0, 2, 0.9) && sets.near(2, 0, 0.9) && !sets.near(0, 2, 0.91));
        assert!(!sets.near(3, 4, 0.5) && !sets.near(0, 3, 0.1));
        let some = Looks::of(&texts, [2, 0, 2].into_iter(), true);
        assert!(some.near(0, 2, 0.9) && !some.near(0, 2, 0.91));
        assert_eq!((some.digest(2), sets.digest(0)), (digest(&texts[2]), digest(&texts[0])));
    }
}
