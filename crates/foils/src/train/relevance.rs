//! How related anchors and candidates are, by a second encoder, by their words, or by the scores that came with the examples. What is
//! embedded is embedded once, before the first step.

use super::TrainingSet;
use crate::data::text::words;
use crate::data::{Embeddings, Example};
use crate::models::{Encoder, Role};
use crate::search::check_directions;
use crate::weighting::BatchBm25;
use crate::{Error, Result};
use std::collections::HashMap;

/// Not a place among the vectors.
const NOWHERE: u32 = u32::MAX;

/// One of the drawn candidates: whose it is, and which of its positives or negatives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The anchor's place in the batch.
    pub anchor: usize,
    /// Among the positives of its example for the first candidates, one an anchor; then among its negatives.
    pub at: usize,
}

/// What is drawn for a batch, as far as a source of scores looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn<'b> {
    /// The examples of the anchors.
    pub examples: &'b [u32],
    /// Texts of the anchors.
    pub anchors: &'b [u32],
    /// Texts of the candidates.
    pub candidates: &'b [u32],
    /// What stands for each candidate where it is compared with anchors as one of them: the anchor that it is a positive of, or a mined
    /// negative itself.
    pub keys: &'b [u32],
    /// Of the first candidates; those of a queue have none.
    pub places: &'b [Place],
}

/// Where scores of anchors and candidates come from.
pub(super) enum Source<'a> {
    /// Cosines of anchors and candidates.
    Encoder { anchors: Vectors, others: Vectors },
    /// Cosines of anchors and what stands for the candidates.
    Queries(Vectors),
    /// BM25 of anchors and what stands for the candidates, which are the corpus. Words by text, and how many an anchor has on average.
    Bm25 { words: Vec<Vec<i64>>, bm25: BatchBm25 },
    /// The scores of the examples.
    File(&'a [Example]),
}

impl<'a> Source<'a> {
    /// Each text of `set` is embedded once for each role that it plays.
    ///
    /// # Errors
    /// When the encoder gives a text no direction.
    pub fn encoder(encoder: &dyn Encoder, set: &TrainingSet) -> Result<Self> {
        let others = (0..set.len() as u32).flat_map(|e| set.positives(e).iter().chain(set.negatives(e))).copied();
        Ok(Self::Encoder {
            anchors: Vectors::new(encoder, Role::Query, set, anchors(set))?,
            others: Vectors::new(encoder, Role::Document, set, others)?,
        })
    }

    /// Anchors and mined negatives, all embedded as queries.
    ///
    /// # Errors
    /// As [`Source::encoder`].
    pub fn queries(encoder: &dyn Encoder, set: &TrainingSet) -> Result<Self> {
        let keys = anchors(set).chain((0..set.len() as u32).flat_map(|e| set.negatives(e)).copied());
        Ok(Self::Queries(Vectors::new(encoder, Role::Query, set, keys)?))
    }

    /// # Errors
    /// When no anchor has a word.
    pub fn bm25(set: &TrainingSet) -> Result<Self> {
        let mut ids: HashMap<String, i64> = HashMap::new();
        let mut of = |text: &str| -> Vec<i64> {
            words(text)
                .map(|word| {
                    let next = ids.len() as i64;
                    *ids.entry(word).or_insert(next)
                })
                .collect()
        };
        let words: Vec<Vec<i64>> = set.texts().iter().map(|text| of(text)).collect();
        let all: usize = anchors(set).map(|text| words[text as usize].len()).sum();
        if all == 0 {
            return Err(Error::invalid("bm25 has nothing to compare: no anchor has a word (a letter or digit)"));
        }
        Ok(Self::Bm25 { bm25: BatchBm25::new(all as f64 / set.len() as f64, 0)?, words })
    }

    /// # Errors
    /// When an example has no score for one of its texts, or one that is not finite.
    pub fn file(examples: &'a [Example]) -> Result<Self> {
        check_scores(examples)?;
        Ok(Self::File(examples))
    }

    /// The scores `[anchors, candidates]`; NaN where there is none.
    pub fn scores(&self, drawn: &Drawn) -> Vec<f64> {
        let (n, m) = (drawn.anchors.len(), drawn.candidates.len());
        let cosines = |a: Embeddings, c: Embeddings| {
            let (mut scores, dim) = (vec![0.0; n * m], a.dim());
            foils_kernels::product_threaded(&mut scores, (n, m, dim), a.data(), (dim, 1), c.data(), (1, dim), false, 1.0f32);
            scores.into_iter().map(f64::from).collect()
        };
        match self {
            Self::Encoder { anchors, others } => cosines(anchors.of(drawn.anchors), others.of(drawn.candidates)),
            Self::Queries(vectors) => cosines(vectors.of(drawn.anchors), vectors.of(drawn.keys)),
            Self::Bm25 { words, bm25 } => {
                let of = |texts: &[u32]| texts.iter().map(|&text| &words[text as usize]).collect::<Vec<_>>();
                bm25.relevance(&of(drawn.anchors), &of(drawn.keys)).expect("ids are counted from 0")
            }
            Self::File(all) => {
                let mut scores = vec![f64::NAN; n * m];
                for (column, place) in drawn.places.iter().enumerate() {
                    let example = &all[drawn.examples[place.anchor] as usize];
                    let own = if column < n { &example.positive_scores } else { &example.negative_scores };
                    scores[place.anchor * m + column] = own[place.at].into();
                }
                scores
            }
        }
    }
}

fn anchors(set: &TrainingSet) -> impl Iterator<Item = u32> {
    (0..set.len() as u32).map(|e| set.anchor(e))
}

/// Vectors of some texts.
pub(super) struct Vectors {
    /// The row of a text.
    pub rows: Vec<u32>,
    pub vectors: Embeddings,
}

impl Vectors {
    fn new(encoder: &dyn Encoder, role: Role, set: &TrainingSet, wanted: impl Iterator<Item = u32>) -> Result<Self> {
        let (mut rows, mut texts) = (vec![NOWHERE; set.texts().len()], Vec::new());
        for text in wanted {
            let row = &mut rows[text as usize];
            if *row == NOWHERE {
                *row = texts.len() as u32;
                texts.push(set.texts()[text as usize]);
            }
        }
        let vectors = encoder.embed_as(role, &texts)?;
        check_directions("training text", &vectors)?;
        Ok(Self { rows, vectors: vectors.normalized() })
    }

    fn of(&self, texts: &[u32]) -> Embeddings {
        self.vectors.select(&texts.iter().map(|&text| self.rows[text as usize]).collect::<Vec<_>>())
    }
}

fn check_scores(examples: &[Example]) -> Result<()> {
    for (i, example) in examples.iter().enumerate() {
        let parts = [
            ("positive", &example.positive_scores, example.positives.len()),
            ("negative", &example.negative_scores, example.negatives.len()),
        ];
        for (part, scores, texts) in parts {
            let wrong = if scores.len() != texts {
                format!("has {} {part}_scores for {texts} {part}s", scores.len())
            } else if let Some(score) = scores.iter().find(|s| !s.is_finite()) {
                format!("has the {part} score {score}")
            } else {
                continue;
            };
            let advice = "the teacher `file` reads a score of every positive and negative (`foils mine --shape lists` writes them so)";
            return Err(Error::invalid(format!("training example {} {wrong}; {advice}", i + 1)));
        }
    }
    Ok(())
}
