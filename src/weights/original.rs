//! The layout of original checkpoints.
