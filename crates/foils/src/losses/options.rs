//! Settings that several losses share.

use serde::{Deserialize, Serialize};

/// How a loss is computed; the answers are the same to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// The tiled kernel on the CPU, which never holds the matrix of logits; tensor operations on other devices.
    #[default]
    Auto,
    /// Tensor operations everywhere. Takes memory for several `[n, m]` matrices.
    TensorOps,
}

/// What to do with a row without direction (norm ≤ 1e-12) where rows are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroRows {
    /// Refuse it: its gradient would be the loss's divided by 1e-12.
    #[default]
    Refuse,
    /// Take it as the zero vector, with that gradient.
    Allow,
}

/// Settings of computation, not of the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Kernel or tensor operations.
    pub compute: Compute,
    /// Rows without direction.
    pub zero_rows: ZeroRows,
}

/// How like two rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// Cosine: rows are normalised first.
    #[default]
    #[serde(alias = "cosine")]
    Cos,
    /// Inner product of the rows as they are.
    Dot,
}

impl Similarity {
    /// Whether rows are divided by their norm.
    pub fn normalizes(self) -> bool {
        self == Self::Cos
    }

    /// `Cos` for true.
    pub fn from_normalize(normalize: bool) -> Self {
        if normalize { Self::Cos } else { Self::Dot }
    }
}

impl std::fmt::Display for Similarity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.normalizes() { "cosine" } else { "dot" })
    }
}
