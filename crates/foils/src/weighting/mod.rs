//! Which foils to trust, and how much? Weights and filters.
