//! The setters that most losses have, written once.

/// Setters of the fields that are named, inside an `impl`.
macro_rules! setters {
    (normalize) => {
        /// Whether rows are divided by their norms.
        #[must_use]
        pub fn normalize(mut self, normalize: bool) -> Self {
            self.normalize = normalize;
            self
        }
    };
    (options) => {
        /// Sets how it is computed.
        #[must_use]
        pub fn options(mut self, options: Options) -> Self {
            self.options = options;
            self
        }
    };
    ($($field:ident),+) => {
        $(setters!($field);)+
    };
}

pub(super) use setters;
