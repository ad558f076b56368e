//! Texts one after the other, in memory or in files that are mapped.

use crate::Result;
use crate::scratch::{Scratch, ScratchWriter};
use std::ops::{Index, Range};
use std::path::Path;
use std::sync::Arc;

/// Texts by number, kept as one run of bytes with the end of each, so that a text costs its bytes and 8 more. In memory, or for
/// corpora beyond that in files without a name, which are gone with the process ([`super::Collection::from_stream`]).
#[derive(Clone)]
pub struct TextList(Store);

#[derive(Clone)]
enum Store {
    Held { bytes: String, ends: Vec<u64> },
    Filed(Arc<(Scratch<u8>, Scratch<u64>)>),
}

impl TextList {
    /// None.
    pub fn new() -> Self {
        Self(Store::Held { bytes: String::new(), ends: Vec::new() })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all.
    pub fn bytes(&self) -> usize {
        self.ends().last().map_or(0, |&end| end as usize)
    }

    /// Adds one. Texts in files are first copied into memory.
    pub fn push(&mut self, text: &str) {
        if let Store::Filed(_) = self.0 {
            *self = self.iter().collect();
        }
        if let Store::Held { bytes, ends } = &mut self.0 {
            bytes.push_str(text);
            ends.push(bytes.len() as u64);
        }
    }

    /// The text at `i`, if there is one.
    pub fn get(&self, i: usize) -> Option<&str> {
        (i < self.len()).then(|| &self[i])
    }

    /// All, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone + use<'_> {
        (0..self.len()).map(|i| &self[i])
    }

    /// A range of them, as what most functions take.
    pub fn refs(&self, range: Range<usize>) -> Vec<&str> {
        range.map(|i| &self[i]).collect()
    }

    fn ends(&self) -> &[u64] {
        match &self.0 {
            Store::Held { ends, .. } => ends,
            Store::Filed(files) => &files.1,
        }
    }
}

impl Index<usize> for TextList {
    type Output = str;

    fn index(&self, i: usize) -> &str {
        let ends = self.ends();
        let range = if i == 0 { 0 } else { ends[i - 1] as usize }..ends[i] as usize;
        match &self.0 {
            Store::Held { bytes, .. } => &bytes[range],
            // The file has no name, so that nobody else can have written to it.
            Store::Filed(files) => std::str::from_utf8(&files.0[range]).expect("what was written was text"),
        }
    }
}

impl Default for TextList {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TextList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for TextList {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<S: AsRef<str>, const N: usize> PartialEq<[S; N]> for TextList {
    fn eq(&self, other: &[S; N]) -> bool {
        self.iter().eq(other.iter().map(AsRef::as_ref))
    }
}

impl<'a> IntoIterator for &'a TextList {
    type Item = &'a str;
    type IntoIter = Box<dyn Iterator<Item = &'a str> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<S: AsRef<str>> FromIterator<S> for TextList {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut out = Self::new();
        texts.into_iter().for_each(|text| out.push(text.as_ref()));
        out
    }
}

/// Texts on their way into memory or into files.
pub(super) enum TextListBuilder {
    Held(TextList),
    Filed { bytes: ScratchWriter<u8>, ends: ScratchWriter<u64> },
}

impl TextListBuilder {
    /// In files on the disk of `scratch`, if it is given.
    pub fn new(scratch: Option<&Path>) -> Result<Self> {
        Ok(match scratch {
            None => Self::Held(TextList::new()),
            Some(folder) => Self::Filed { bytes: ScratchWriter::new(folder)?, ends: ScratchWriter::new(folder)? },
        })
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Held(list) => list.len(),
            Self::Filed { ends, .. } => ends.len(),
        }
    }

    pub fn push(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Held(list) => list.push(text),
            Self::Filed { bytes, ends } => {
                bytes.extend(text.as_bytes())?;
                ends.extend(&[bytes.len() as u64])?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<TextList> {
        Ok(match self {
            Self::Held(list) => list,
            Self::Filed { bytes, ends } => TextList(Store::Filed(Arc::new((bytes.finish()?, ends.finish()?)))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_files_are_those_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        for texts in [vec![], vec![""], vec!["", ""], vec!["one", "", "größer", "\u{1F98A}\n"]] {
            let build = |scratch| {
                let mut builder = TextListBuilder::new(scratch).unwrap();
                texts.iter().for_each(|t| builder.push(t).unwrap());
                assert_eq!(builder.len(), texts.len());
                builder.finish().unwrap()
            };
            let (held, mut filed) = (build(None), build(Some(folder.path())));
            assert_eq!(held, filed);
            assert_eq!(held, texts.iter().collect::<TextList>());
            assert_eq!(filed.iter().collect::<Vec<_>>(), texts);
            assert_eq!((filed.get(texts.len()), filed.bytes()), (None, texts.concat().len()));
            filed.push("more");
            assert_eq!(filed.iter().next_back(), Some("more"));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing has a name");
    }
}
