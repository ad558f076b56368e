//! A golden file and typed access to a case's inputs and parameters.

use foils::{Error, Result};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// One file of golden vectors.
#[derive(Clone, Debug, Deserialize)]
pub struct GoldenFile {
    /// The paper's slug.
    pub paper: String,
    /// By which code the vectors were made.
    #[serde(default)]
    pub source: String,
    /// The cases.
    pub cases: Vec<Case>,
}

impl GoldenFile {
    /// Reads a file. Python's words for numbers that JSON does not have (NaN, Infinity, -Infinity) are understood.
    ///
    /// # Errors
    /// When it cannot be read or is no golden file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        foils::files::open(path)?.read_to_string(&mut text).map_err(Error::io("read", path))?;
        if text.contains("NaN") || text.contains("Infinity") {
            text = quote_words(&text);
        }
        serde_json::from_str(&text).map_err(|e| Error::file(path, e.line() as u64, e.to_string()))
    }
}

/// The words as strings, where they are not in one.
fn quote_words(text: &str) -> String {
    let (mut parts, mut inside) = (Vec::new(), false);
    for part in text.split('"') {
        parts.push(if inside {
            part.to_owned()
        } else {
            part.replace("NaN", "\"nan\"").replace("-Infinity", "\"-inf\"").replace("Infinity", "\"inf\"")
        });
        inside = inside == part.ends_with('\\');
    }
    parts.join("\"")
}

/// A call of a function with what it must return.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The case's name.
    pub name: String,
    /// The function's name.
    pub function: String,
    /// Arrays by name.
    pub inputs: BTreeMap<String, Array>,
    /// Parameters by name; null means off.
    #[serde(default)]
    pub params: BTreeMap<String, serde_json::Value>,
    /// What must come back.
    pub outputs: BTreeMap<String, Array>,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
}

/// A row-major array; integers and booleans (0/1) are held as f64, exactly.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Array {
    /// The extents; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values, row-major.
    #[serde(deserialize_with = "numbers")]
    pub data: Vec<f64>,
    /// `f64` (or absent), `i64`, `bool`.
    #[serde(default)]
    pub dtype: Option<String>,
}

/// Numbers, and words for those that JSON does not have.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(f64),
        Word(String),
    }
    let number = |n| match n {
        Number::Number(v) => Ok(v),
        Number::Word(w) => w.parse().map_err(|_| D::Error::custom(format!("{w:?} is no number"))),
    };
    Vec::<Number>::deserialize(deserializer)?.into_iter().map(number).collect()
}

impl Array {
    /// An array of `shape`.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Vec<f64>>) -> Self {
        Self { shape: shape.into(), data: data.into(), dtype: None }
    }

    /// A scalar.
    pub fn scalar(value: f64) -> Self {
        Self::new([], [value])
    }

    /// The extents as a fixed-size array.
    ///
    /// # Errors
    /// When the array does not have `N` axes.
    pub fn dims<const N: usize>(&self) -> Result<[usize; N]> {
        self.shape.clone().try_into().map_err(|s: Vec<usize>| Error::invalid(format!("shape {s:?} has {} axes, expected {N}", s.len())))
    }

    /// The values as integers (indices, labels, tokens).
    ///
    /// # Errors
    /// On a value that is no integer.
    pub fn integers(&self) -> Result<Vec<i64>> {
        self.data
            .iter()
            .map(|&v| if v.fract() == 0.0 { Ok(v as i64) } else { Err(Error::invalid(format!("{v} is not an integer"))) })
            .collect()
    }

    /// The values as booleans.
    pub fn booleans(&self) -> Vec<bool> {
        self.data.iter().map(|&v| v != 0.0).collect()
    }
}

/// What a function returned, by name.
#[derive(Clone, Debug, Default)]
pub struct Outputs(BTreeMap<String, Array>);

impl Outputs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an output.
    pub fn with(mut self, name: &str, value: Array) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// An output by name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// All outputs with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }
}

impl Case {
    /// An input array.
    ///
    /// # Errors
    /// When there is none of that name, or it has not as many values as its shape says.
    pub fn input(&self, name: &str) -> Result<&Array> {
        let found = self.inputs.get(name).ok_or_else(|| Error::invalid(format!("case {} has no input `{name}`", self.name)))?;
        let (shape, values) = (&found.shape, found.data.len());
        if shape.iter().try_fold(1_usize, |size, &extent| size.checked_mul(extent)) != Some(values) {
            return Err(Error::invalid(format!("case {}: input `{name}` has shape {shape:?} and {values} values", self.name)));
        }
        Ok(found)
    }

    /// A parameter: `f64`, `usize`, `bool`, `String`, or `Option` of them for one that may be null or absent.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn param<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.params.get(name).cloned().unwrap_or(serde_json::Value::Null);
        serde_json::from_value(value).map_err(|e| Error::invalid(format!("case {}: parameter `{name}`: {e}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_json_does_not_have_are_numbers_and_lengths_are_checked() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let case = r#"{"name": "a \"NaN\"", "function": "f", "params": {}, "outputs": {}, "rtol": 0, "atol": 0, "inputs": {
            "x": {"shape": [2, 2], "data": [NaN, -Infinity, Infinity, 3]}, "short": {"shape": [2, 2], "data": [1, 2, 3]},
            "huge": {"shape": [4294967296, 4294967296, 4294967296], "data": []}}}"#;
        std::fs::write(&path, format!(r#"{{"paper": "p", "cases": [{case}]}}"#)).unwrap();
        let file = GoldenFile::read(path.path()).unwrap();
        assert_eq!(file.cases[0].name, "a \"NaN\"");
        let x = &file.cases[0].input("x").unwrap().data;
        assert!(x[0].is_nan() && x[1..] == [f64::NEG_INFINITY, f64::INFINITY, 3.0]);
        for (name, words) in [("short", "`short` has shape [2, 2] and 3 values"), ("huge", "0 values"), ("y", "no input `y`")] {
            let message = file.cases[0].input(name).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        std::fs::write(&path, r#"{"paper": "p", "cases": [{"data": [1, "x"]}]}"#).unwrap();
        assert!(GoldenFile::read(path.path()).is_err());
    }
}
