//! Custom Diffusion files: keys and values of the attention to the text, trained anew.

use std::path::Path;

use super::super::unread::Unread;

use super::{
    names::Target,
    told::{self, CUSTOM_DIFFUSION as MARK},
};
use crate::error::{AdapterError, Error};
use crate::weights::WeightSource;

/// What the tensors are called, for those who meet something else.
const HINT: &str = "its tensors are called `….attn2.processor.to_k_custom_diffusion.weight`";

/// A Custom Diffusion file (`pytorch_custom_diffusion_weights.safetensors` or `.bin`), unread. The embeddings of its modifier tokens come
/// in files of their own, as textual inversion's do.
#[derive(Debug, Clone)]
pub struct CustomDiffusion {
    origin: String,
    pub(super) layers: Vec<(Target, Unread)>,
    left_out: Vec<String>,
}

impl CustomDiffusion {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// As [`WeightSource::open`], and when it holds something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_source(&WeightSource::open(path)?)
    }

    /// Reads the names of a source, and looks at its values.
    ///
    /// # Errors
    ///
    /// When it holds no such weights, or values that are no finite numbers.
    pub fn from_source(source: &WeightSource) -> Result<Self, Error> {
        let origin = source.origin().to_owned();
        let layer = |tensor: &Unread| {
            let (front, end) = tensor.name.split_once(MARK)?;
            let stem = format!("{front}{}", end.strip_suffix(".weight")?);
            Some((Target::new(&stem), tensor.clone()))
        };
        let (mut layers, mut left_out) = (Vec::new(), Vec::new());
        for tensor in source.packed() {
            match layer(tensor) {
                Some(layer) => layers.push(layer),
                None => left_out.push(tensor.name.clone()),
            }
        }
        if layers.is_empty() {
            return Err(AdapterError::Kind {
                expected: "Custom Diffusion",
                found: left_out,
                hint: told::hint(source, HINT),
                origin,
            }
            .into());
        }
        for (_, tensor) in &layers {
            source.read_finite(&tensor.name)?;
        }
        Ok(Self {
            origin,
            layers,
            left_out,
        })
    }

    /// Names of the tensors that belong to nothing known.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Whether a source looks like one.
    pub fn is_one(source: &WeightSource) -> bool {
        source.names().any(|name| name.contains(MARK))
    }

    /// Path of the file, or what else errors call it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of weights that it replaces.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether it replaces none, which no opened file does.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}
