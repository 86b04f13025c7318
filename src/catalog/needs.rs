//! How much of a model is asked for.

/// How much of a model a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// JSON and tokenizers.
    Configs,
    /// Weights as well.
    All,
}
