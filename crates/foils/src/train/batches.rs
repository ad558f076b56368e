//! Batches in which no text is another example's anchor or positive.

use super::training_set::{Ragged, TrainingSet};
use crate::seed;
use crate::{Error, Result};
use rand::seq::SliceRandom;
use std::collections::HashSet;

/// Deals examples into batches so that no two examples of a batch share an anchor or a positive, or have one's anchor as the
/// other's positive, by the text's normal form: such an example would be a false negative to the other.
///
/// An epoch is planned as a whole in O(examples), so its number of batches is known exactly before it begins. Sizes differ by
/// at most a few examples: there is no small last batch whose anchors see few negatives.
pub struct BatchSampler {
    keys: Ragged,
    key_count: usize,
    batch_size: usize,
}

/// The batches of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    order: Vec<u32>,
    ends: Vec<usize>,
    left_out: usize,
}

impl Epoch {
    /// How many batches.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The examples of a batch.
    pub fn batch(&self, i: usize) -> &[u32] {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.order[begin..self.ends[i]]
    }

    /// Examples that found no batch without a text of theirs: a text that occurs in more examples than there are batches leaves
    /// the rest out. Another epoch's shuffle leaves out others.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

const NOWHERE: u32 = u32::MAX;

impl BatchSampler {
    /// A sampler of batches of at most `batch_size` examples.
    ///
    /// # Errors
    /// When `batch_size` is below 2 (an anchor would have no in-batch negative), or there is one example only.
    pub fn new(set: &TrainingSet, batch_size: usize) -> Result<Self> {
        if set.len() < 2 {
            return Err(Error::invalid("one training example makes no batch: at least two are needed"));
        }
        let mut keys = Ragged::new();
        for e in 0..set.len() as u32 {
            keys.push(std::iter::once(set.anchor(e)).chain(set.positives(e).iter().copied()).map(|t| set.class(t)));
        }
        Self::from_keys(keys, batch_size)
    }

    fn from_keys(keys: Ragged, batch_size: usize) -> Result<Self> {
        if batch_size < 2 {
            return Err(Error::invalid(format!("the batch size is {batch_size}; at least 2 is needed")));
        }
        let key_count = keys.largest().map_or(0, |k| k as usize + 1);
        Ok(Self { keys, key_count, batch_size })
    }

    /// The batches of epoch `epoch`: the same for the same seed.
    ///
    /// First fit over a shuffle: each key remembers the first batch that it may still enter, and full batches are skipped by
    /// path compression. What is left then is tried in whatever batches still have room.
    pub fn epoch(&self, seed: u64, epoch: usize) -> Epoch {
        let examples = self.keys.len();
        let mut shuffled: Vec<u32> = (0..examples as u32).collect();
        shuffled.shuffle(&mut seed::rng(seed, 2 * epoch as u64));
        let plan = self.plan(&shuffled, examples);
        // What is left out leaves the last batches small: deal once more, for as many as can be placed.
        let placed = examples - plan.left_out;
        if plan.left_out > 0 && placed >= 2 * examples.div_ceil(self.batch_size) {
            let again = self.plan(&shuffled, placed);
            if again.left_out <= plan.left_out {
                return again;
            }
        }
        plan
    }

    /// Deals for batches that hold `slots` examples together at first.
    fn plan(&self, shuffled: &[u32], slots: usize) -> Epoch {
        let examples = shuffled.len();
        let batches = examples.div_ceil(self.batch_size);
        let even = |b: usize| slots / batches + usize::from(b < slots % batches);
        let mut room: Vec<u32> = (0..batches).map(|b| even(b) as u32).collect();
        let mut skip: Vec<u32> = (0..=batches as u32).collect(); // the next batch with room, itself if it has some
        let mut earliest = vec![0u32; self.key_count];
        let mut place = vec![NOWHERE; examples];
        for &example in shuffled {
            let keys = self.keys.row(example as usize);
            let wanted = keys.iter().map(|&k| earliest[k as usize]).max().unwrap_or(0);
            let b = next_with_room(&mut skip, wanted.min(batches as u32));
            if b as usize == batches {
                continue;
            }
            place[example as usize] = b;
            room[b as usize] -= 1;
            if room[b as usize] == 0 {
                skip[b as usize] = b + 1;
            }
            keys.iter().for_each(|&k| earliest[k as usize] = b + 1);
        }
        for (b, room) in room.iter_mut().enumerate() {
            *room += (self.batch_size - even(b)) as u32;
        }
        self.place_the_rest(shuffled, &mut place, &mut room);
        collect(shuffled, &place, batches)
    }

    /// Exact second try for the few that first fit could not place, in batches with room.
    fn place_the_rest(&self, shuffled: &[u32], place: &mut [u32], room: &mut [u32]) {
        const TRIES: usize = 64;
        let rest: Vec<u32> = shuffled.iter().copied().filter(|&e| place[e as usize] == NOWHERE).collect();
        let concerned: HashSet<u32> = rest.iter().flat_map(|&e| self.keys.row(e as usize)).copied().collect();
        let mut taken: HashSet<(u32, u32)> = HashSet::new();
        if rest.is_empty() {
            return;
        }
        for (e, &b) in place.iter().enumerate().filter(|(_, b)| **b != NOWHERE) {
            taken.extend(self.keys.row(e).iter().filter(|k| concerned.contains(k)).map(|&k| (k, b)));
        }
        let mut open: Vec<u32> = (0..room.len() as u32).filter(|&b| room[b as usize] > 0).collect();
        for (turn, example) in rest.into_iter().enumerate() {
            let keys = self.keys.row(example as usize);
            // Starting at another batch each time keeps the batches even.
            let fits = |at: &usize| keys.iter().all(|&k| !taken.contains(&(k, open[*at])));
            let Some(at) = (0..open.len().min(TRIES)).map(|i| (turn + i) % open.len()).find(fits) else { continue };
            let b = open[at];
            place[example as usize] = b;
            taken.extend(keys.iter().map(|&k| (k, b)));
            room[b as usize] -= 1;
            if room[b as usize] == 0 {
                open.swap_remove(at);
            }
        }
    }
}

/// The first batch at or after `b` with room, shortening the way there for the next question.
fn next_with_room(skip: &mut [u32], mut b: u32) -> u32 {
    while skip[b as usize] != b {
        skip[b as usize] = skip[skip[b as usize] as usize];
        b = skip[b as usize];
    }
    b
}

/// Examples by batch, in shuffled order within one; a batch of a single example is left out.
fn collect(shuffled: &[u32], place: &[u32], batches: usize) -> Epoch {
    let mut begin = vec![0usize; batches + 1];
    for &b in place.iter().filter(|b| **b != NOWHERE) {
        begin[b as usize + 1] += 1;
    }
    begin[1..].iter_mut().for_each(|size| *size *= usize::from(*size >= 2));
    for b in 0..batches {
        begin[b + 1] += begin[b];
    }
    let mut at = begin[..batches].to_vec();
    let mut order = vec![0u32; begin[batches]];
    for &example in shuffled {
        let b = place[example as usize];
        if b != NOWHERE && at[b as usize] < begin[b as usize + 1] {
            order[at[b as usize]] = example;
            at[b as usize] += 1;
        }
    }
    let ends = (1..=batches).filter(|&b| begin[b] > begin[b - 1]).map(|b| begin[b]).collect();
    Epoch { left_out: shuffled.len() - order.len(), order, ends }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Example;
    use proptest::prelude::*;

    fn sampler(rows: &[Vec<u32>], batch_size: usize) -> BatchSampler {
        let mut keys = Ragged::new();
        rows.iter().for_each(|r| keys.push(r.iter().copied()));
        BatchSampler::from_keys(keys, batch_size).unwrap()
    }

    proptest! {
        #[test]
        fn no_text_twice_in_a_batch_and_every_example_once_or_counted(
            rows in prop::collection::vec(prop::collection::vec(0u32..40, 1..4), 2..120),
            batch_size in 2usize..20,
            seed in any::<u64>(),
        ) {
            let epoch = sampler(&rows, batch_size).epoch(seed, 3);
            let mut seen = HashSet::new();
            for b in 0..epoch.len() {
                let batch = epoch.batch(b);
                prop_assert!((2..=batch_size).contains(&batch.len()));
                let mut texts = HashSet::new();
                for &e in batch {
                    prop_assert!(seen.insert(e));
                    let own: HashSet<u32> = rows[e as usize].iter().copied().collect();
                    prop_assert!(own.is_disjoint(&texts), "batch {b}: example {e}");
                    texts.extend(own);
                }
            }
            prop_assert_eq!(seen.len() + epoch.left_out(), rows.len());
        }

        /// Distinct texts: nothing is left out and sizes differ by one at most.
        #[test]
        fn without_copies_the_batches_are_even(examples in 2usize..300, batch_size in 2usize..50, seed in any::<u64>()) {
            let rows: Vec<Vec<u32>> = (0..examples as u32).map(|e| vec![2 * e, 2 * e + 1]).collect();
            let epoch = sampler(&rows, batch_size).epoch(seed, 0);
            let sizes: Vec<usize> = (0..epoch.len()).map(|b| epoch.batch(b).len()).collect();
            let single = usize::from(batch_size == 2 && examples % 2 == 1); // sizes 2, 2, …, 1
            prop_assert_eq!(epoch.left_out(), single);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            prop_assert_eq!(epoch.len() + single, examples.div_ceil(batch_size));
        }
    }

    #[test]
    fn a_text_in_more_examples_than_batches_leaves_exactly_the_rest_out() {
        // 30 examples of one anchor among 100, batches of 10: one of them in each of the ten batches.
        let rows: Vec<Vec<u32>> = (0..100).map(|e| vec![if e < 30 { 1000 } else { e }, 2000 + e]).collect();
        let epoch = sampler(&rows, 10).epoch(1, 0);
        assert_eq!(epoch.left_out(), 20);
        assert_eq!(epoch.len(), 10);
        assert!((0..10).all(|b| (7..=9).contains(&epoch.batch(b).len())), "80 examples, evenly");
    }

    #[test]
    fn anchors_with_five_rows_each_all_find_a_place() {
        let rows: Vec<Vec<u32>> = (0..10_000).map(|e| vec![e / 5, 50_000 + e]).collect();
        let epoch = sampler(&rows, 512).epoch(1, 0);
        assert_eq!(epoch.left_out(), 0);
        assert_eq!(epoch.len(), 20);
    }

    #[test]
    fn the_same_seed_gives_the_same_batches_and_another_epoch_others() {
        let rows: Vec<Vec<u32>> = (0..500).map(|e| vec![e % 300, 1000 + e]).collect();
        let sampler = sampler(&rows, 32);
        assert_eq!(sampler.epoch(5, 2), sampler.epoch(5, 2));
        assert_ne!(sampler.epoch(5, 2), sampler.epoch(5, 3));
        assert_ne!(sampler.epoch(5, 2), sampler.epoch(6, 2));
    }

    #[test]
    fn copies_are_found_by_normal_form_across_anchors_and_positives() {
        let examples = [Example::pair("Sort a list", "x"), Example::pair("sort  A LIST", "y"), Example::pair("z", "Sort a list")];
        let set = TrainingSet::new(&examples).unwrap();
        let epoch = BatchSampler::new(&set, 8).unwrap().epoch(0, 0);
        assert_eq!((epoch.len(), epoch.left_out()), (0, 3));
        assert!(BatchSampler::new(&set, 1).is_err());
    }

    #[test]
    fn a_million_rows_are_planned_in_well_under_two_seconds() {
        let keys = |e: u32| [e * 7 % 800_000, 1_000_000 + e % 900_000];
        let mut ragged = Ragged::new();
        (0..1_000_000).for_each(|e| ragged.push(keys(e)));
        let sampler = BatchSampler::from_keys(ragged, 512).unwrap();
        let started = std::time::Instant::now();
        let epoch = sampler.epoch(1, 0);
        let seconds = started.elapsed().as_secs_f64();
        assert_eq!(epoch.left_out(), 0);
        assert_eq!(epoch.len(), 1_000_000usize.div_ceil(512));
        assert!(seconds < 1.5, "{seconds} s");
    }
}
