//! Is one text nearly a copy of another? The Jaccard similarity of their sets of words.

use crate::data::text::each_word;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// Each text's set of words, as sorted 64-bit digests.
pub(crate) struct WordSets {
    sets: Vec<Box<[u64]>>,
}

impl WordSets {
    pub fn new(texts: &[String]) -> Self {
        let set = |text: &String| {
            let mut digests: Vec<u64> = Vec::new();
            each_word(text, |word| digests.push(xxh3_64(word.as_bytes())));
            digests.sort_unstable();
            digests.dedup();
            digests.into_boxed_slice()
        };
        Self { sets: texts.par_iter().map(set).collect() }
    }

    /// Whether |A ∩ B| / |A ∪ B| ≥ `threshold` for the words of texts `a` and `b`. Texts without words are copies of none.
    pub fn near(&self, a: u32, b: u32, threshold: f64) -> bool {
        let (a, b) = (&self.sets[a as usize], &self.sets[b as usize]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaccard_of_word_sets() {
        let ten = "one two three four five six seven eight nine ten";
        let texts = [ten, "Ten, nine eight seven six five four three two ONE!", "one two three four five six seven eight nine", "", "--"];
        let sets = WordSets::new(&texts.map(str::to_owned));
        assert!(sets.near(0, 1, 1.0));
        assert!(sets.near(0, 2, 0.9) && sets.near(2, 0, 0.9) && !sets.near(0, 2, 0.91));
        assert!(!sets.near(3, 4, 0.5) && !sets.near(0, 3, 0.1));
    }
}
