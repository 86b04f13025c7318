//! A model's parts in numbers.

use std::collections::BTreeMap;

use crate::weights::WeightSource;

/// A part's weights in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSummary {
    /// `unet`, `vae`, …
    pub part: String,
    /// Its class in `model_index.json`.
    pub class: Option<String>,
    /// Where the weights are.
    pub origin: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements.
    pub parameters: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Elements by data type (`F32`, `F16`, …).
    pub dtypes: BTreeMap<String, u64>,
}

impl PartSummary {
    pub(super) fn new(part: &str, class: Option<&str>, source: &WeightSource) -> Self {
        let mut dtypes = BTreeMap::new();
        for tensor in source.packed() {
            let elements = tensor.shape.iter().product::<usize>() as u64;
            *dtypes.entry(tensor.stored()).or_default() += elements;
        }
        Self {
            part: part.to_owned(),
            class: class.map(str::to_owned),
            origin: source.origin().to_owned(),
            tensors: source.len(),
            parameters: source.parameters(),
            bytes: source.bytes(),
            dtypes,
        }
    }
}
