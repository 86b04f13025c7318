//! Weights in eight bits beside the scales that they are to be multiplied by.
//!
//! **Source.** The scaled files in eight bits that Comfy-Org publishes and `ComfyUI` reads: beside `layer.weight` lies `layer.scale_weight`,
//! one number for all of the weight or one an output; `layer.scale_input` is for products in eight bits, which are not made here; a
//! tensor `scaled_fp8` marks the file.

use std::collections::BTreeMap;

use super::super::unread::{ReadError, Unread};
use burn::tensor::{Bytes, DType};

use crate::error::WeightsError;

const WEIGHT: &str = ".weight";
const SCALE: &str = ".scale_weight";
const INPUT_SCALE: &str = ".scale_input";
const MARK: &str = "scaled_fp8";

/// The tensors with every scale taken into the weight beside it, which becomes f32; still unread. Scales without a weight stay.
///
/// # Errors
///
/// When a scale fits its weight's shape in no way.
pub(super) fn multiplied(tensors: Vec<Unread>, origin: &str) -> Result<Vec<Unread>, WeightsError> {
    let has_scale = |tensor: &Unread| tensor.name.ends_with(SCALE);
    if !tensors.iter().any(has_scale) {
        return Ok(tensors);
    }
    let (scales, others): (Vec<_>, Vec<_>) = tensors.into_iter().partition(has_scale);
    let of_weight = |scale: Unread| {
        let layer = scale.name.strip_suffix(SCALE).unwrap_or_default();
        (format!("{layer}{WEIGHT}"), scale)
    };
    let mut scales: BTreeMap<_, _> = scales.into_iter().map(of_weight).collect();
    let mut found = Vec::with_capacity(others.len());
    for tensor in others {
        if tensor.name.ends_with(INPUT_SCALE) || tensor.name.ends_with(MARK) {
            continue;
        }
        let scale = scales.remove(&tensor.name);
        found.push(match scale.filter(|_| tensor.dtype.is_float()) {
            Some(scale) => product(tensor, scale, origin)?,
            None => tensor,
        });
    }
    found.extend(scales.into_values());
    Ok(found)
}

/// `weight`, `[outputs, …]`, times `scale`, one number or one an output.
fn product(weight: Unread, scale: Unread, origin: &str) -> Result<Unread, WeightsError> {
    let count: usize = scale.shape.iter().product();
    if count != 1 && weight.shape.first() != Some(&count) {
        let (scale_shape, shape) = (scale.shape.to_vec(), weight.shape.to_vec());
        return Err(WeightsError::Tensor {
            name: scale.name,
            reason: format!(
                "its shape {scale_shape:?} is neither one number nor one for each output of a weight of shape {shape:?}"
            ),
            origin: origin.to_owned(),
        });
    }
    let (name, shape) = (weight.name.clone(), weight.shape.clone());
    Ok(Unread::deferred(name, DType::F32, shape, move || {
        let (mut weights, scales) = (floats(&weight)?, floats(&scale)?);
        let each = weights.len().div_ceil(count.max(1)).max(1);
        for (weights, scale) in weights.chunks_mut(each).zip(scales) {
            for weight in weights {
                *weight *= scale;
            }
        }
        Ok(Bytes::from_elems(weights))
    }))
}

fn floats(tensor: &Unread) -> Result<Vec<f32>, ReadError> {
    let data = tensor.read()?.convert_dtype(DType::F32);
    data.try_into_vec()
        .map_err(|error| ReadError(error.to_string()))
}
