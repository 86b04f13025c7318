//! Weight files and the tensors in them.

#[derive(Debug, thiserror::Error)]
pub(crate) enum WeightsError {}
