//! Prior-noise injection.
