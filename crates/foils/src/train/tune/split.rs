//! Training, validation and test parts of a user's pairs, such that nothing is on both sides.

use crate::data::text::digest;
use crate::data::{Collection, Example, Qrels, Texts};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

/// What `tune` learns from and is judged by.
#[derive(Clone, Debug)]
pub struct TuneData {
    /// Training pairs.
    pub train: Vec<Example>,
    /// Held-out queries that choose the checkpoint (and, in a race, the negatives).
    pub validation: Collection,
    /// Held-out queries that are looked at once, at the end.
    pub test: Collection,
}

impl TuneData {
    /// Parts that were made elsewhere (a validation and a test file, or splits by package): each part is searched in its own documents.
    ///
    /// # Errors
    /// On an empty part, or an example without positives.
    pub fn from_parts(train: Vec<Example>, validation: &[Example], test: &[Example]) -> Result<Self> {
        let named =
            |name: &str, part: &[Example]| Collection::from_examples(part).map_err(|e| Error::invalid(format!("the {name} pairs: {e}")));
        if train.is_empty() {
            return Err(Error::invalid("there are no training pairs"));
        }
        Ok(Self { train, validation: named("validation", validation)?, test: named("test", test)? })
    }

    /// Splits one list of pairs: about `share` of it for validation and as much for the test, the rest to train on.
    ///
    /// Pairs that share an anchor or a positive (by normal form) stay together, so that no text is on two sides. Which side a
    /// group is on depends on its texts and the seed alone, not on the order of the file. Held-out queries are searched among the
    /// documents of all parts: that is the corpus that a user searches.
    ///
    /// # Errors
    /// When fewer than 10 groups of pairs are left to split, or a part stays empty.
    pub fn split(examples: Vec<Example>, share: f64, seed: u64) -> Result<Self> {
        if !(share > 0.0 && share < 0.5) {
            return Err(Error::invalid(format!("the held-out share must be between 0 and 0.5, not {share}")));
        }
        let whole = Collection::from_examples(&examples)?;
        let groups = groups(&examples);
        let distinct: HashSet<u128> = groups.iter().copied().collect();
        if distinct.len() < 10 {
            return Err(Error::invalid(format!(
                "{} pairs that share no text are too few to hold some out (10 are needed); give --validation and --test files",
                distinct.len()
            )));
        }
        let side = |group: u128| {
            let mut bytes = group.to_le_bytes().to_vec();
            bytes.extend(seed.to_le_bytes());
            let draw = xxhash_rust::xxh3::xxh3_64(&bytes) as f64 / u64::MAX as f64;
            if draw < share { 1 } else { usize::from(draw < 2.0 * share) * 2 }
        };
        let mut parts: [Vec<Example>; 3] = Default::default();
        for (example, group) in examples.into_iter().zip(groups) {
            parts[side(group)].push(example);
        }
        let [train, validation, test] = parts;
        for (name, part) in [("training", &train), ("validation", &validation), ("test", &test)] {
            if part.is_empty() {
                return Err(Error::invalid(format!(
                    "the split leaves no {name} pairs; give more pairs, another seed, or files of your own"
                )));
            }
        }
        Ok(Self { validation: against(&whole.corpus, &validation)?, test: against(&whole.corpus, &test)?, train })
    }
}

/// For each example the smallest digest of its group: examples are connected by equal anchors or equal positives.
fn groups(examples: &[Example]) -> Vec<u128> {
    let mut parent: Vec<usize> = (0..examples.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut first: HashMap<u128, usize> = HashMap::new();
    let mut smallest: Vec<u128> = vec![u128::MAX; examples.len()];
    for (i, example) in examples.iter().enumerate() {
        for text in std::iter::once(&example.anchor).chain(&example.positives) {
            let key = digest(text);
            smallest[i] = smallest[i].min(key);
            let other = *first.entry(key).or_insert(i);
            let (a, b) = (root(&mut parent, i), root(&mut parent, other));
            parent[a.max(b)] = a.min(b);
        }
    }
    for i in 0..examples.len() {
        let r = root(&mut parent, i);
        smallest[r] = smallest[r].min(smallest[i]);
    }
    (0..examples.len()).map(|i| smallest[root(&mut parent, i)]).collect()
}

/// The queries of `part`, to be searched in `corpus` (which holds their positives).
fn against(corpus: &Texts, part: &[Example]) -> Result<Collection> {
    let own = Collection::from_examples(part)?;
    let place: HashMap<u128, u32> = (0u32..).zip(&corpus.texts).map(|(i, text)| (digest(text), i)).collect();
    let rows = (0..own.queries.len())
        .map(|q| own.qrels.of(q).iter().map(|&(d, grade)| (place[&digest(&own.corpus.texts[d as usize])], grade)).collect())
        .collect();
    Ok(Collection { queries: own.queries, corpus: corpus.clone(), qrels: Qrels::new(rows)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(n: usize) -> Vec<Example> {
        // Every third anchor shares its positive with the one before.
        (0..n).map(|i| Example::pair(format!("question {i}"), format!("answer {}", i - usize::from(i % 3 == 2)))).collect()
    }

    #[test]
    fn no_text_is_on_two_sides_and_order_does_not_matter() {
        let data = TuneData::split(examples(300), 0.1, 7).unwrap();
        let held: Vec<&str> = data.validation.queries.texts.iter().chain(&data.test.queries.texts).collect();
        assert_eq!(data.train.len() + held.len(), 300);
        let trained: HashSet<u128> = data.train.iter().flat_map(|e| [digest(&e.anchor), digest(&e.positives[0])]).collect();
        for part in [&data.validation, &data.test] {
            assert_eq!(part.corpus.len(), 200);
            for q in 0..part.queries.len() {
                assert!(!trained.contains(&digest(&part.queries.texts[q])));
                for (d, _) in part.qrels.of(q) {
                    assert!(!trained.contains(&digest(&part.corpus.texts[*d as usize])));
                }
            }
        }
        let mut reversed = examples(300);
        reversed.reverse();
        let again = TuneData::split(reversed, 0.1, 7).unwrap();
        let sorted = |c: &Collection| {
            let mut texts: Vec<String> = c.queries.texts.iter().map(str::to_owned).collect();
            texts.sort();
            texts
        };
        assert_eq!(sorted(&data.test), sorted(&again.test));
        assert_ne!(sorted(&data.test), sorted(&TuneData::split(examples(300), 0.1, 8).unwrap().test));
    }

    #[test]
    fn too_few_pairs_are_refused() {
        let error = TuneData::split(examples(9), 0.1, 0).unwrap_err().to_string();
        assert!(error.contains("--validation"), "{error}");
    }
}
