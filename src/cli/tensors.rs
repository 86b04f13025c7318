//! Tensor files at the edge: initial latents in, traces out.

use std::{borrow::Cow, io::Write, path::Path};

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use crate::{
    error::{Error, FileError, RequestError},
    image_io::write_atomically,
};

/// Reads the tensor `latents` as f32.
///
/// # Errors
///
/// A file error if the file cannot be read, a request error if it holds no such tensor of floating point numbers.
pub(super) fn read_latents(path: &Path) -> Result<TensorData, Error> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read {
        what: "the initial latents".into(),
        path: path.into(),
        source,
    })?;
    let unusable = |reason: String| RequestError::InitialLatents {
        path: path.into(),
        reason,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| unusable(error.to_string()))?;
    let latents = file.tensor("latents").map_err(|_| {
        let names = file.names().join("`, `");
        unusable(format!("there is no tensor `latents`, only `{names}`"))
    })?;
    let dtype = float(latents.dtype())
        .ok_or_else(|| unusable(format!("`latents` is {:?}", latents.dtype())))?;
    let data = TensorData::from_bytes_vec(latents.data().to_vec(), latents.shape(), dtype);
    Ok(data.convert::<f32>())
}

fn float(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// Writes named tensors as f32.
///
/// # Errors
///
/// A file error if the folder does not take the file.
pub(super) fn write_trace(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, TensorData)>,
) -> Result<(), Error> {
    let tensors = tensors.into_iter();
    let views = tensors.map(|(name, data)| (name, Values(data.convert::<f32>())));
    let bytes = safetensors::serialize(views, None);
    write_atomically(path, "the trace", |file| {
        file.write_all(&bytes.map_err(std::io::Error::other)?)
    })
}

/// Tensor data as safetensors wants to see it.
struct Values(TensorData);

impl View for Values {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.as_bytes().into()
    }

    fn data_len(&self) -> usize {
        self.0.as_bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trace.safetensors");
        let data = TensorData::new(vec![1.0f32, -2.0, 3.5, 0.0], [1, 4, 1, 1]);
        write_trace(&path, [("latents".into(), data.clone())]).expect("a file");
        assert_eq!(read_latents(&path).expect("latents"), data);
    }

    #[test]
    fn a_file_without_latents_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("other.safetensors");
        let data = TensorData::new(vec![1.0f32], [1]);
        write_trace(&path, [("noise".into(), data)]).expect("a file");
        let error = read_latents(&path).expect_err("no latents");
        assert!(error.is_request());
        assert!(
            error
                .to_string()
                .contains("no tensor `latents`, only `noise`")
        );
        std::fs::write(&path, "not safetensors").expect("a file");
        assert!(read_latents(&path).expect_err("garbage").is_request());
        assert!(
            read_latents(&folder.path().join("none"))
                .expect_err("missing")
                .is_file()
        );
    }
}
