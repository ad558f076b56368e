//! Which column plays which part, and how the cells of one row become an example.

use crate::data::{Example, Shape};
use serde::{Deserialize, Serialize};

const ANCHOR: &[&str] = &["anchor", "query", "question", "sentence1"];
const POSITIVE: &[&str] = &["positive", "pos", "positives", "answer", "passage", "sentence2"];
/// Taken for the positive only when none of [`POSITIVE`] is there.
const TEXT: &[&str] = &["text"];
/// The same, only beside labels.
const LABELED: &[&str] = &["text", "docs"];
/// The scores that [`super::Rows::scores`] writes in the place of labels.
const SCORE: &[&str] = &["score", "scores"];
const LABEL: &[&str] = &["label", "labels"];
const POSITIVE_SCORES: &[&str] = &["pos_scores", "positive_scores"];
const NEGATIVE_SCORES: &[&str] = &["neg_scores", "negative_scores"];

/// Which columns (of CSV, TSV, Parquet) or keys (of JSON objects) to read, and how. By default they are recognised by
/// the names that sentence-transformers and FlagEmbedding users have, in upper or lower case:
///
/// - the anchor: `anchor`, `query`, `question`, `sentence1`
/// - the positive: `positive`, `pos`, `positives`, `answer`, `passage`, `sentence2`, or else `text` (beside labels also `docs`)
/// - negatives: `negative`, `neg`, `negatives`, `negative_1`, `negative_2`, …
/// - the labels of labelled pairs and lists, where there are no negatives: `label`, `labels`
/// - scores: `pos_scores`, `positive_scores`, `neg_scores`, `negative_scores`
///
/// A column that is named here is taken instead; all other columns are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The column of the anchor.
    pub anchor: Option<String>,
    /// The column of the positive, or of the list of positives; for labelled pairs, of the other text.
    pub positive: Option<String>,
    /// The columns of the negatives, each a text or a list of texts.
    pub negative: Vec<String>,
    /// The column of the label (1 or true: positive, 0 or false: negative).
    pub label: Option<String>,
    /// The column of the similarities of the positives.
    pub positive_scores: Option<String>,
    /// The column of the similarities of the negatives.
    pub negative_scores: Option<String>,
    /// Join adjacent rows of one anchor and positive into one example with all their negatives.
    /// (Labelled pairs of one anchor are always joined: a row with label 0 is no example of its own.)
    pub group: bool,
    /// Leave out, and count, rows with an empty text, without a positive, or with a positive among the negatives,
    /// instead of ending with an error.
    pub skip_bad: bool,
    /// CSV and TSV: a quote is a letter like any other.
    pub no_quotes: bool,
}

/// What stands in one place of a row, whatever the format.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cell {
    #[default]
    Null,
    Text(String),
    Texts(Vec<String>),
    Number(f64),
    Numbers(Vec<f64>),
    /// Anything else, in words.
    Other(&'static str),
}

impl Cell {
    /// A list from its items; an empty one counts as texts.
    pub fn list(items: impl Iterator<Item = Cell>) -> Self {
        let mut texts = Vec::new();
        let mut numbers = Vec::new();
        for item in items {
            match item {
                Cell::Text(text) if numbers.is_empty() => texts.push(text),
                Cell::Number(number) if texts.is_empty() => numbers.push(number),
                _ => return Cell::Other("a list with other things than texts in it"),
            }
        }
        if numbers.is_empty() { Cell::Texts(texts) } else { Cell::Numbers(numbers) }
    }

    fn kind(&self) -> &'static str {
        match self {
            Cell::Null => "nothing",
            Cell::Text(_) => "a text",
            Cell::Texts(_) => "a list of texts",
            Cell::Number(_) => "a number",
            Cell::Numbers(_) => "a list of numbers",
            Cell::Other(kind) => kind,
        }
    }

    fn into_texts(self) -> Result<Vec<String>, &'static str> {
        match self {
            Cell::Null => Ok(Vec::new()),
            Cell::Text(text) => Ok(vec![text]),
            Cell::Texts(texts) => Ok(texts),
            other => Err(other.kind()),
        }
    }

    fn into_scores(self) -> Result<Vec<f32>, &'static str> {
        match self {
            Cell::Null => Ok(Vec::new()),
            Cell::Texts(texts) if texts.is_empty() => Ok(Vec::new()),
            Cell::Text(text) => text.trim().parse().map(|n| vec![n]).map_err(|_| "a text that is no number"),
            Cell::Number(number) => Ok(vec![number as f32]),
            Cell::Numbers(numbers) => Ok(numbers.into_iter().map(|n| n as f32).collect()),
            other => Err(other.kind()),
        }
    }

    fn into_labels(self) -> Result<Vec<bool>, String> {
        let number = |n: f64| match n {
            1.0 => Ok(true),
            0.0 => Ok(false),
            _ => Err(format!("the label {n} is neither 0 nor 1")),
        };
        match self {
            Cell::Number(n) => Ok(vec![number(n)?]),
            Cell::Numbers(numbers) => numbers.into_iter().map(number).collect(),
            Cell::Text(text) => match text.trim() {
                "1" | "1.0" | "true" | "True" | "TRUE" => Ok(vec![true]),
                "0" | "0.0" | "false" | "False" | "FALSE" => Ok(vec![false]),
                other => Err(format!("the label `{other}` is neither 0 nor 1")),
            },
            other => Err(format!("the label is {}; 0 or 1 is needed", other.kind())),
        }
    }
}

/// The parts, as places in a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    anchor: usize,
    positive: usize,
    negatives: Vec<usize>,
    label: Option<usize>,
    positive_scores: Option<usize>,
    negative_scores: Option<usize>,
}

impl Layout {
    /// Finds the parts among the columns that are there.
    ///
    /// # Errors
    /// In words, without the place: a part that is missing, or for which there are two columns.
    pub fn resolve(found: &[String], columns: &Columns) -> Result<Self, String> {
        let find = |named: &Option<String>, option: &str, known: &[&str]| match named {
            Some(name) => named_column(found, name, option).map(Some),
            None => known_column(found, option, known),
        };
        let missing = |part: &str, option: &str, known: &[&str]| {
            let known = known.join(", ");
            format!("no column for the {part}: found {}; understood are {known}; name yours with the option `{option}`", list(found))
        };
        let anchor = find(&columns.anchor, "anchor", ANCHOR)?.ok_or_else(|| missing("anchor", "anchor", ANCHOR))?;
        let mut label = columns.label.as_ref().map(|name| named_column(found, name, "label")).transpose()?;
        let negatives = if !columns.negative.is_empty() {
            columns.negative.iter().map(|name| named_column(found, name, "negative")).collect::<Result<Vec<_>, _>>()?
        } else if label.is_some() {
            Vec::new()
        } else {
            numbered_negatives(found)
        };
        if label.is_some() && !negatives.is_empty() {
            return Err("a label and negatives are both named: labelled pairs have no column of negatives".into());
        }
        if label.is_none() && negatives.is_empty() {
            label = known_column(found, "label", LABEL)?;
        }
        let positive = match find(&columns.positive, "positive", POSITIVE)? {
            Some(at) => at,
            None => {
                let known = if label.is_some() { LABELED } else { TEXT };
                let at = known_column(found, "positive", known)?;
                let at = at.ok_or_else(|| missing("positive", "positive", &[POSITIVE, known].concat()))?;
                let score = found.iter().find(|name| SCORE.contains(&name.trim().to_lowercase().as_str()));
                if let Some(score) = score.filter(|_| label.is_none() && negatives.is_empty()) {
                    return Err(format!(
                        "the texts of `{}` have scores (`{score}`) and no labels, so that it is not known which are positives; name the \
                         column with the option `positive` if all of them are",
                        found[at]
                    ));
                }
                at
            }
        };
        let mut parts = negatives.clone();
        parts.extend([anchor, positive]);
        parts.extend(label);
        parts.sort_unstable();
        if let Some(twice) = parts.windows(2).find(|w| w[0] == w[1]) {
            return Err(format!("the column `{}` is named for two parts", found[twice[0]]));
        }
        Ok(Self {
            anchor,
            positive,
            negatives,
            label,
            positive_scores: find(&columns.positive_scores, "positive_scores", POSITIVE_SCORES)?.filter(|_| label.is_none()),
            negative_scores: find(&columns.negative_scores, "negative_scores", NEGATIVE_SCORES)?.filter(|_| label.is_none()),
        })
    }

    /// All places that are read.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let optional = [self.label, self.positive_scores, self.negative_scores];
        [self.anchor, self.positive].into_iter().chain(self.negatives.iter().copied()).chain(optional.into_iter().flatten())
    }

    /// Whether the rows are labelled pairs, which have to be joined.
    pub fn labelled(&self) -> bool {
        self.label.is_some()
    }

    /// The shape that a row with these cells has.
    pub fn shape(&self, cells: &[Cell]) -> Shape {
        let is_list = |&at: &usize| matches!(cells[at], Cell::Texts(_) | Cell::Numbers(_));
        if self.label.is_some() {
            if is_list(&self.positive) { Shape::LabeledLists } else { Shape::LabeledPairs }
        } else if self.places().any(|at| is_list(&at)) {
            Shape::Lists
        } else {
            match self.negatives.len() {
                0 => Shape::Pairs,
                1 => Shape::Triplets,
                _ => Shape::NTuples,
            }
        }
    }

    /// The example in a row; its texts are taken out of `cells`. Says nothing yet about whether it can be used.
    ///
    /// # Errors
    /// In words, without the place: a cell of the wrong type, a wrong label.
    pub fn example(&self, cells: &mut [Cell], found: &[String]) -> Result<Example, String> {
        let mut take = |at: usize| std::mem::take(&mut cells[at]);
        let wrong = |at: usize, kind: &str, need: &str| format!("`{}` is {kind}; {need} is needed", found[at]);
        let anchor = match take(self.anchor) {
            Cell::Text(text) => text,
            Cell::Null => String::new(),
            other => return Err(wrong(self.anchor, other.kind(), "a text")),
        };
        let need = "a text or a list of texts";
        let positives = take(self.positive).into_texts().map_err(|kind| wrong(self.positive, kind, need))?;
        let mut out = Example { anchor, ..Example::default() };
        if let Some(at) = self.label {
            let labels = take(at).into_labels()?;
            if labels.len() != positives.len() {
                return Err(format!("{} labels for {} texts", labels.len(), positives.len()));
            }
            for (text, label) in positives.into_iter().zip(labels) {
                if label { out.positives.push(text) } else { out.negatives.push(text) }
            }
            return Ok(out);
        }
        out.positives = positives;
        for &at in &self.negatives {
            out.negatives.extend(take(at).into_texts().map_err(|kind| wrong(at, kind, need))?);
        }
        let mut scores = |at: Option<usize>| match at {
            Some(at) => take(at).into_scores().map_err(|kind| wrong(at, kind, "a list of numbers")),
            None => Ok(Vec::new()),
        };
        out.positive_scores = scores(self.positive_scores)?;
        out.negative_scores = scores(self.negative_scores)?;
        Ok(out)
    }
}

/// The place of a column named by an option: as written, or else in another case.
fn named_column(found: &[String], name: &str, option: &str) -> Result<usize, String> {
    if let Some(at) = found.iter().position(|f| f == name) {
        return Ok(at);
    }
    known_column(found, option, &[&name.to_lowercase()])?
        .ok_or_else(|| format!("no column `{name}`, which the option `{option}` names: found {}", list(found)))
}

/// The one column whose name is among `known`, if there is one.
fn known_column(found: &[String], option: &str, known: &[&str]) -> Result<Option<usize>, String> {
    let mut places = (0..found.len()).filter(|&i| known.contains(&found[i].trim().to_lowercase().as_str()));
    let (first, second) = (places.next(), places.next());
    match (first, second) {
        (Some(a), Some(b)) => Err(format!("both `{}` and `{}` could be it: name one with the option `{option}`", found[a], found[b])),
        _ => Ok(first),
    }
}

/// `negative`, `neg`, `negatives`, then `negative_1`, `negative_2`, … in the order of their numbers.
fn numbered_negatives(found: &[String]) -> Vec<usize> {
    let mut out: Vec<(u64, usize)> = Vec::new();
    for (at, name) in found.iter().enumerate() {
        let name = name.trim().to_lowercase();
        let number = match name.as_str() {
            "negative" | "neg" | "negatives" => Some(0),
            _ => ["negative", "neg"].iter().find_map(|stem| {
                let digits = name.strip_prefix(stem)?.trim_start_matches('_');
                digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
            }),
        };
        out.extend(number.map(|n| (n, at)));
    }
    out.sort_unstable();
    out.into_iter().map(|(_, at)| at).collect()
}

fn list(found: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut out = found.iter().take(SHOWN).map(|f| format!("`{f}`")).collect::<Vec<_>>().join(", ");
    match found.len() {
        0 => "no columns at all".clone_into(&mut out),
        n if n > SHOWN => out += &format!(" and {} more", n - SHOWN),
        _ => {}
    }
    out
}
