//! Tensors in safetensors files: latents in and out, and what else a run leaves.

use std::{borrow::Cow, io::Write, path::Path};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};

use crate::device;
use crate::error::{DeviceError, Error, FileError, RequestError};
use crate::image_io::write_atomically;

/// The tensor of a file of latents.
const LATENTS: &str = "latents";

/// Reads the tensor `latents`, `[items, channels, height, width]`, as f32.
///
/// # Errors
///
/// A file error if the file cannot be read, a request error if it holds no such tensor of finite floating point numbers.
pub fn read_latents(path: &Path, device: &Device) -> Result<Tensor<4>, Error> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read {
        what: "the latents".into(),
        path: path.into(),
        source,
    })?;
    let unusable = |reason: String| RequestError::InitialLatents {
        path: path.into(),
        reason,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| unusable(error.to_string()))?;
    let latents = file.tensor(LATENTS).map_err(|_| {
        let names = file.names().join("`, `");
        unusable(format!("there is no tensor `latents`, only `{names}`"))
    })?;
    let dtype = float(latents.dtype())
        .ok_or_else(|| unusable(format!("`latents` is {:?}", latents.dtype())))?;
    let shape = latents.shape();
    if shape.len() != 4 || shape.contains(&0) {
        return Err(unusable(format!("`latents` has the shape {shape:?}")).into());
    }
    let data = TensorData::from_bytes_vec(latents.data().to_vec(), shape, dtype).convert::<f32>();
    // Found later, it would look like the model's doing.
    if !data.iter::<f32>().all(f32::is_finite) {
        return Err(unusable("`latents` holds values that are not finite".into()).into());
    }
    Ok(Tensor::from_data(data, device))
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

/// Writes `latents`, `[items, channels, height, width]`, as f32 to a file that [`read_latents`] reads.
///
/// # Errors
///
/// A device error if they cannot be read back, a file error if the folder does not take the file.
pub fn write_latents(path: &Path, latents: &Tensor<4>) -> Result<(), Error> {
    let task = "reading the latents back";
    let data = device::caught(&latents.device(), task, || read_back(latents, task))?;
    write_tensors(path, "the latents", [(LATENTS.to_owned(), data)])
}

/// A tensor's data on the host; `task` completes "while …".
pub(crate) fn read_back<const D: usize>(
    tensor: &Tensor<D>,
    task: &'static str,
) -> Result<TensorData, Error> {
    let data = tensor.clone().try_into_data();
    data.map_err(|cause| DeviceError::execution(task, &cause).into())
}

/// Writes tensors as f32; `what` names them in errors.
pub(crate) fn write_tensors(
    path: &Path,
    what: &str,
    tensors: impl IntoIterator<Item = (String, TensorData)>,
) -> Result<(), Error> {
    let tensors = tensors.into_iter();
    let views = tensors.map(|(name, data)| (name, Values(data.convert::<f32>())));
    let bytes = safetensors::serialize(views, None);
    write_atomically(path, what, |file| {
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    fn processor() -> Device {
        let open = crate::device::open(crate::device::DeviceChoice::Cpu);
        open.expect("the processor").device().clone()
    }

    fn written(name: &str, data: TensorData) -> tempfile::TempPath {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.into_temp_path();
        write_tensors(&path, "the tensors", [(name.into(), data)]).expect("a file");
        path
    }

    #[test]
    fn what_is_written_is_read_back() {
        let data = TensorData::new(vec![1.0f32, -2.0, 3.5, 0.0], [1, 4, 1, 1]);
        let path = written("latents", data.clone());
        let read = read_latents(&path, &processor()).expect("latents");
        assert_eq!(read.into_data(), data);
    }

    #[test]
    fn files_without_usable_latents_are_refused() {
        let one = || TensorData::new(vec![1.0f32], [1]);
        let refused = |path: &Path| read_latents(path, &processor()).expect_err("no latents");
        let other = refused(&written("noise", one()));
        assert!(other.is_request());
        assert!(
            other
                .to_string()
                .contains("no tensor `latents`, only `noise`")
        );
        let flat = refused(&written("latents", one()));
        assert!(
            flat.to_string().contains("`latents` has the shape [1]"),
            "{flat}"
        );
        for (data, word) in [
            (
                TensorData::new(Vec::<f32>::new(), [0, 4, 8, 8]),
                "[0, 4, 8, 8]",
            ),
            (
                TensorData::new(vec![1.0, f32::NAN], [1, 1, 1, 2]),
                "not finite",
            ),
            (
                TensorData::new(vec![1e39_f64, 0.0], [1, 1, 1, 2]),
                "not finite",
            ),
        ] {
            let empty = refused(&written("latents", data));
            assert!(
                empty.is_request() && empty.to_string().contains(word),
                "{empty}"
            );
        }
        let garbage = tempfile::NamedTempFile::new()
            .expect("a file")
            .into_temp_path();
        assert!(refused(&garbage).is_request());
        assert!(refused(Path::new("/no/such/file")).is_file());
    }
}
