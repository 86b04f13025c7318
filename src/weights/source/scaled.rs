//! Weights in eight bits beside the scales that they are to be multiplied by.
//!
//! **Source.** The scaled files in eight bits that Comfy-Org publishes and `ComfyUI` reads (its `QUANTIZATION.md`): beside `layer.weight` lies
//! `layer.weight_scale`, one number for all of the weight or one an output; `layer.input_scale` is for products in eight bits, which are
//! not made here; `layer.comfy_quant` names the format, a JSON object as bytes. Older files call them `scale_weight` and `scale_input`, and a
//! tensor `scaled_fp8` marks the file.

use std::collections::{BTreeMap, btree_map::Entry};

use super::super::unread::{ReadError, Unread};
use burn::tensor::{Bytes, DType};
use serde_json::Value;

use super::quantised;
use crate::error::WeightsError;

const WEIGHT: &str = ".weight";
const SCALES: [&str; 2] = [".weight_scale", ".scale_weight"];
/// What is not needed where products are made in floats.
const INPUT_SCALES: [&str; 2] = [".input_scale", ".scale_input"];
const MARK: &str = "scaled_fp8";
/// The name of a layer's format.
const FORMAT: &str = ".comfy_quant";
/// The formats that are read.
const FORMATS: [&str; 2] = ["float8_e4m3fn", "float8_e5m2"];
/// Bytes of a format's name and what belongs to it, at most.
const LONGEST: usize = 1 << 12;

/// The tensors with every scale taken into the weight beside it, which becomes f32; still unread. Scales without a weight stay.
///
/// # Errors
///
/// When a scale fits its weight's shape in no way, or a layer is of a format that is not read.
pub(super) fn multiplied(tensors: Vec<Unread>, origin: &str) -> Result<Vec<Unread>, WeightsError> {
    if !tensors.iter().any(|tensor| is_beside(&tensor.name)) {
        return Ok(tensors);
    }
    let mut scales = BTreeMap::new();
    let (mut others, mut found) = (Vec::with_capacity(tensors.len()), Vec::new());
    for tensor in tensors {
        match layer(&tensor.name).map(|layer| scales.entry(format!("{layer}{WEIGHT}"))) {
            None => others.push(tensor),
            Some(Entry::Vacant(entry)) => {
                entry.insert(tensor);
            }
            Some(Entry::Occupied(_)) => found.push(tensor),
        }
    }
    for tensor in others {
        let is_input = INPUT_SCALES.iter().any(|end| tensor.name.ends_with(end));
        if is_input || tensor.name.ends_with(MARK) {
            continue;
        }
        if let Some(layer) = tensor.name.strip_suffix(FORMAT) {
            check_format(layer, &tensor, origin)?;
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

/// Whether a tensor belongs to the weight beside it, which takes it in.
pub(super) fn is_beside(name: &str) -> bool {
    let input = INPUT_SCALES.iter().any(|end| name.ends_with(end));
    input || layer(name).is_some() || name.ends_with(FORMAT) || name.ends_with(MARK)
}

/// The layer that a scale is of.
fn layer(scale: &str) -> Option<&str> {
    SCALES.iter().find_map(|end| scale.strip_suffix(end))
}

/// Refuses a layer in a format whose weights are more than numbers and a scale.
fn check_format(layer: &str, format: &Unread, origin: &str) -> Result<(), WeightsError> {
    let said = || {
        let bytes = (format.byte_len() <= LONGEST).then(|| format.read().ok())?;
        let said: Value = serde_json::from_slice(&bytes?.into_parts().0).ok()?;
        said.get("format")?.as_str().map(str::to_owned)
    };
    let said = said();
    if said.as_deref().is_some_and(|said| FORMATS.contains(&said)) {
        return Ok(());
    }
    let by = match said {
        Some(said) => format!("ComfyUI as `{said}`"),
        None => "ComfyUI in a way that the file does not name".to_owned(),
    };
    Err(quantised::refused(layer, &by, origin))
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
