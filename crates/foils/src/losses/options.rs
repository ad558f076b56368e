//! Settings that several losses share.

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
