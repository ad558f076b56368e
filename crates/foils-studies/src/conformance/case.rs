//! A golden file and typed access to a case's inputs and parameters.

use foils::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

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
    pub data: Vec<f64>,
    /// `f64` (or absent), `i64`, `bool`.
    #[serde(default)]
    pub dtype: Option<String>,
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
    /// When there is none of that name.
    pub fn input(&self, name: &str) -> Result<&Array> {
        self.inputs.get(name).ok_or_else(|| Error::invalid(format!("case {} has no input `{name}`", self.name)))
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
