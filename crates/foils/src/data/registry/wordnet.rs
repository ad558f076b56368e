//! WordNet 3.0: sets of synonyms, each with a gloss, joined by typed pointers.

use super::package::{Client, Package};
use super::{Dataset, keep_files};
use crate::data::Example;
use crate::{Error, Result, files};
use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

pub(super) const DATASET: Dataset = Dataset {
    name: "wordnet",
    what_for: "text retrieval and relations: 117,659 synsets with glosses, 377,592 typed pointers",
    licence: "WordNet 3.0 (permissive), MIT (package)",
    kept_bytes: 21_700_000,
    revision: 1,
    packages: &[Package {
        client: Client::Npm,
        name: "wordnet",
        version: "2.0.0",
        bytes: 8_468_952,
        sha256: "b73b42eda3743309c6ed971b50f624d111a1d7849e8da5994d6d8dd536fcf984",
        options: &[],
        keep: &[
            ("package/db/data.noun", "data.noun"),
            ("package/db/data.verb", "data.verb"),
            ("package/db/data.adj", "data.adj"),
            ("package/db/data.adv", "data.adv"),
        ],
    }],
    build: keep_files,
};

const FILES: [(&str, char); 4] = [("data.noun", 'n'), ("data.verb", 'v'), ("data.adj", 'a'), ("data.adv", 'r')];

/// How one synset is to another: the pointer symbols of wninput(5WN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are WordNet's own")]
pub enum Relation {
    Antonym,
    Hypernym,
    InstanceHypernym,
    Hyponym,
    InstanceHyponym,
    MemberHolonym,
    SubstanceHolonym,
    PartHolonym,
    MemberMeronym,
    SubstanceMeronym,
    PartMeronym,
    Attribute,
    Derivation,
    Topic,
    TopicMember,
    Region,
    RegionMember,
    Usage,
    UsageMember,
    Entailment,
    Cause,
    AlsoSee,
    VerbGroup,
    SimilarTo,
    Participle,
    Pertainym,
}

impl Relation {
    fn of(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "!" => Self::Antonym,
            "@" => Self::Hypernym,
            "@i" => Self::InstanceHypernym,
            "~" => Self::Hyponym,
            "~i" => Self::InstanceHyponym,
            "#m" => Self::MemberHolonym,
            "#s" => Self::SubstanceHolonym,
            "#p" => Self::PartHolonym,
            "%m" => Self::MemberMeronym,
            "%s" => Self::SubstanceMeronym,
            "%p" => Self::PartMeronym,
            "=" => Self::Attribute,
            "+" => Self::Derivation,
            ";c" => Self::Topic,
            "-c" => Self::TopicMember,
            ";r" => Self::Region,
            "-r" => Self::RegionMember,
            ";u" => Self::Usage,
            "-u" => Self::UsageMember,
            "*" => Self::Entailment,
            ">" => Self::Cause,
            "^" => Self::AlsoSee,
            "$" => Self::VerbGroup,
            "&" => Self::SimilarTo,
            "<" => Self::Participle,
            "\\" => Self::Pertainym,
            _ => return None,
        })
    }
}

/// A pointer from one synset to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Its kind.
    pub relation: Relation,
    /// The synset that it leads to, as an index into [`WordNet::synsets`].
    pub to: u32,
    /// The terms that it joins, from 1, when it joins terms and not whole synsets: (of this synset, of the other).
    pub terms: Option<(u8, u8)>,
}

/// Words that mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synset {
    /// `n` noun, `v` verb, `a` adjective, `s` satellite adjective, `r` adverb.
    pub part_of_speech: char,
    /// The lexicographer's file, 0 to 44: a coarse class (noun.animal is 5).
    pub class: u8,
    /// The synonyms, with spaces.
    pub terms: Vec<String>,
    /// What they mean, with examples in quotes.
    pub gloss: String,
    /// Where it points.
    pub pointers: Vec<Pointer>,
}

impl Synset {
    /// The gloss up to its first quoted example.
    pub fn definition(&self) -> &str {
        self.gloss.split_once("; \"").map_or(self.gloss.as_str(), |(definition, _)| definition).trim()
    }
}

/// All synsets: nouns, verbs, adjectives, adverbs, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordNet {
    /// The synsets.
    pub synsets: Vec<Synset>,
}

impl WordNet {
    /// Term → definition: for each synset its terms, joined by ", ", and its definition.
    pub fn examples(&self) -> Vec<Example> {
        self.synsets.iter().map(|s| Example::pair(s.terms.join(", "), s.definition())).collect()
    }
}

/// WordNet 3.0.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn wordnet() -> Result<WordNet> {
    read(&super::get(DATASET.name)?)
}

/// A pointer whose end is still a place in a file.
type Pending = Vec<(Relation, (char, u32), Option<(u8, u8)>, u64)>;

fn read(folder: &Path) -> Result<WordNet> {
    let mut synsets: Vec<Synset> = Vec::new();
    let mut pending: Vec<Pending> = Vec::new();
    let mut places: HashMap<(char, u32), u32> = HashMap::new();
    let mut starts = Vec::new();
    for (file, part_of_speech) in FILES {
        let path = folder.join(file);
        starts.push(synsets.len());
        for (i, line) in files::open(&path)?.lines().enumerate() {
            let line = line.map_err(Error::io("read", &path))?;
            // The licence stands at the top, indented.
            if line.starts_with(' ') || line.is_empty() {
                continue;
            }
            let number = i as u64 + 1;
            let (offset, synset, pointers) =
                parse(&line, number).ok_or_else(|| Error::file(&path, number, "is not a line of a WordNet data file"))?;
            if places.insert((part_of_speech, offset), synsets.len() as u32).is_some() {
                return Err(Error::file(&path, number, format!("the synset {offset:08} is here twice")));
            }
            synsets.push(synset);
            pending.push(pointers);
        }
    }
    for (i, pointers) in pending.into_iter().enumerate() {
        for (relation, place, terms, line) in pointers {
            let to = *places.get(&place).ok_or_else(|| {
                let file = FILES[starts.partition_point(|&s| s <= i) - 1].0;
                Error::file(folder.join(file), line, format!("points to {:08} {}, which is not there", place.1, place.0))
            })?;
            synsets[i].pointers.push(Pointer { relation, to, terms });
        }
    }
    Ok(WordNet { synsets })
}

/// `offset class pos count(hex) (term id)… pointers(decimal) (symbol offset pos source-target(hex))… [frames] | gloss`, wndb(5WN).
fn parse(line: &str, number: u64) -> Option<(u32, Synset, Pending)> {
    let (data, gloss) = line.split_once(" | ")?;
    let mut fields = data.split(' ');
    let offset = fields.next()?.parse().ok()?;
    let class = fields.next()?.parse().ok()?;
    let part_of_speech = fields.next()?.chars().next()?;
    let count = usize::from_str_radix(fields.next()?, 16).ok()?;
    let mut terms = Vec::new();
    for _ in 0..count {
        let term = fields.next()?;
        fields.next()?;
        // Adjectives may carry where they stand: galore(ip).
        let term = if matches!(part_of_speech, 'a' | 's') { term.split('(').next()? } else { term };
        terms.push(term.replace('_', " "));
    }
    let count: usize = fields.next()?.parse().ok()?;
    let mut pointers = Vec::new();
    for _ in 0..count {
        let relation = Relation::of(fields.next()?)?;
        let to = fields.next()?.parse().ok()?;
        // A satellite is in the file of adjectives.
        let kind = fields.next()?.chars().next().map(|c| if c == 's' { 'a' } else { c })?;
        let ends = u16::from_str_radix(fields.next()?, 16).ok()?;
        let [source, target] = ends.to_be_bytes();
        pointers.push((relation, (kind, to), (ends != 0).then_some((source, target)), number));
    }
    let synset = Synset { part_of_speech, class, terms, gloss: gloss.trim().to_owned(), pointers: Vec::new() };
    Some((offset, synset, pointers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOUN: &str = "00000010 05 n 02 hot_dog 0 frank 1 002 @ 00000020 n 0000 ! 00000030 a 0201 | a sausage; \"a hot dog\"  ";
    const OTHER: &str = "00000020 13 n 01 food 0 000 | what is eaten  ";
    const ADJECTIVE: &str = "00000030 00 s 01 galore(ip) 0 000 | in great numbers; \"daffodils galore\"  ";

    #[test]
    fn reads_the_data_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |nouns: String| {
            for (file, lines) in
                [("data.noun", nouns), ("data.verb", String::new()), ("data.adj", ADJECTIVE.to_owned()), ("data.adv", String::new())]
            {
                files::write(folder.path().join(file), format!("  1 The licence\n{lines}\n")).unwrap();
            }
            read(folder.path())
        };
        let net = write(format!("{NOUN}\n{OTHER}")).unwrap();
        let dog = &net.synsets[0];
        assert_eq!((dog.part_of_speech, dog.class, dog.terms.join("|"), dog.definition()), ('n', 5, "hot dog|frank".into(), "a sausage"));
        assert_eq!(
            dog.pointers,
            [
                Pointer { relation: Relation::Hypernym, to: 1, terms: None },
                Pointer { relation: Relation::Antonym, to: 2, terms: Some((2, 1)) }
            ]
        );
        assert_eq!(net.synsets[2].terms, ["galore"]);
        assert_eq!(net.examples()[0], Example::pair("hot dog, frank", "a sausage"));

        let error = |nouns: String| write(nouns).unwrap_err().to_string();
        assert!(error(NOUN.to_owned()).contains("data.noun:2: points to 00000020 n, which is not there"));
        assert!(error(format!("{OTHER}\n{OTHER}")).contains("data.noun:3: the synset 00000020 is here twice"));
        assert!(error(format!("{OTHER}\n{}", &NOUN[..60])).contains("data.noun:3: is not a line"));
        assert!(error(OTHER.replace("000 |", "001 ?? 00000020 n 0000 |")).contains("data.noun:2: is not a line"));
    }
}
