//! Tensors in safetensors files: latents in and out, and what else a run leaves.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Write},
    path::Path,
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View, tensor::Metadata};

use crate::device;
use crate::error::{self, DeviceError, Error, FileError, RequestError, listed};
use crate::image_io::{RECIPE, Settings, write_atomically};

/// The tensor of a file of latents.
const LATENTS: &str = "latents";

/// What the header of kept latents calls what a picture keeps beside the recipe, which stands there under its own key: a list of pairs, as
/// their order counts.
const TEXTS: &str = "texts";

/// Bytes of texts in a header beyond which there are none: no reader takes a header of more than 100 million.
const MOST_TEXTS: usize = 64 << 20;

/// Bytes that say how long a header is.
const LENGTH: usize = 8;

/// Bytes of the longest header of such a file: the texts, and what describes the tensors.
const LONGEST_HEADER: u64 = MOST_TEXTS as u64 + (1 << 20);

/// Bytes of the most latents: four channels of 8192x8192 in f64, the most pixels of a request.
const LARGEST: u64 = 2 << 30;

/// Reads the tensor `latents`, `[items, channels, height, width]`, as f32.
///
/// # Errors
///
/// A file error if the file cannot be read, a request error if it holds no such tensor of finite floating point numbers.
pub fn read_latents(path: &Path, device: &Device) -> Result<Tensor<4>, Error> {
    LatentsFile::read(path).map(|file| file.latents(device))
}

/// Latents of a file, and what it says of the run that left them.
#[derive(Debug)]
pub struct LatentsFile {
    data: TensorData,
    /// What a picture of the run keeps, the recipe at the end; nothing in files that do not say it.
    pub texts: Settings,
}

impl LatentsFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// As [`read_latents`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = whole(path).map_err(|source| FileError::Read {
            what: "the latents".into(),
            path: path.into(),
            source,
        })?;
        let texts = texts(&bytes).unwrap_or_default();
        let data = latents(bytes).map_err(|reason| RequestError::InitialLatents {
            path: path.into(),
            reason,
        })?;
        Ok(Self { data, texts })
    }

    /// `[items, channels, height, width]`
    pub fn shape(&self) -> [usize; 4] {
        let shape: &[usize] = self.data.shape();
        [shape[0], shape[1], shape[2], shape[3]]
    }

    /// The latents on a device.
    pub fn latents(self, device: &Device) -> Tensor<4> {
        Tensor::from_data(self.data, device)
    }
}

/// The bytes of a safetensors file, and no more than its header says: what goes on for ever is no reason to read on.
fn whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    let mut more = |bytes: &mut Vec<u8>, count: u64| (&mut file).take(count).read_to_end(bytes);
    more(&mut bytes, LENGTH as u64)?;
    let Ok(length) = <[u8; LENGTH]>::try_from(bytes.as_slice()) else {
        return Ok(bytes);
    };
    more(&mut bytes, u64::from_le_bytes(length).min(LONGEST_HEADER))?;
    let header = serde_json::from_slice::<Metadata>(&bytes[LENGTH..]);
    let data = header.map_or(0, |header| header.data_len() as u64);
    if data > LARGEST {
        let (data, most) = (error::bytes(data), error::bytes(LARGEST));
        let said = format!("its tensors have {data}, and {most} are the most that latents have");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, said));
    }
    // One byte more, so that a file that is longer than it says is found out.
    more(&mut bytes, data + 1)?;
    Ok(bytes)
}

/// The tensor of a file as f32, or why it cannot be used.
fn latents(bytes: Vec<u8>) -> Result<TensorData, String> {
    let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
    let latents = file.tensor(LATENTS).map_err(|_| {
        let mut names: Vec<_> = file.names().into_iter().map(str::to_owned).collect();
        names.sort();
        match names.len() {
            0 => "there is no tensor `latents`, nor any other".to_owned(),
            _ => format!("there is no tensor `latents`, only {}", listed(&names)),
        }
    })?;
    let dtype = float(latents.dtype());
    let dtype = dtype.ok_or_else(|| format!("`latents` is {:?}", latents.dtype()))?;
    let shape = latents.shape();
    if shape.len() != 4 || shape.contains(&0) {
        return Err(format!("`latents` has the shape {shape:?}"));
    }
    let data = TensorData::from_bytes_vec(latents.data().to_vec(), shape, dtype);
    // Those of 16 bits grow.
    drop(bytes);
    let data = data.convert::<f32>();
    // Found later, it would look like the model's doing.
    if !data.iter::<f32>().all(f32::is_finite) {
        return Err("`latents` holds values that are not finite".into());
    }
    Ok(data)
}

/// What the header says of the run, if it says a recipe.
fn texts(bytes: &[u8]) -> Option<Settings> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let said = header.metadata().as_ref()?;
    let recipe = said.get(RECIPE)?;
    let mut texts: Settings = said
        .get(TEXTS)
        .and_then(|texts| serde_json::from_str(texts).ok())
        .unwrap_or_default();
    texts.retain(|(key, _)| key != RECIPE);
    texts.push((RECIPE.to_owned(), recipe.clone()));
    Some(texts)
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

/// The same with what a picture of the run keeps in the header, if there is a recipe and the header has room for it: whether there is.
pub(super) fn write_kept(
    path: &Path,
    latents: &Tensor<4>,
    texts: &[(String, String)],
) -> Result<bool, Error> {
    let task = "reading the latents back";
    let data = device::caught(&latents.device(), task, || read_back(latents, task))?;
    let header = header(texts);
    let told = header.is_some();
    write_headed(path, "the latents", [(LATENTS.to_owned(), data)], header)?;
    Ok(told)
}

/// What the header of a file of latents says of the run.
fn header(texts: &[(String, String)]) -> Option<HashMap<String, String>> {
    let (recipe, others): (Vec<_>, Vec<_>) = texts.iter().partition(|(key, _)| key == RECIPE);
    let (_, recipe) = recipe.first()?;
    let others = serde_json::to_string(&others).ok()?;
    let said = [(RECIPE, recipe.clone()), (TEXTS, others)];
    let header = HashMap::from(said.map(|(key, text)| (key.to_owned(), text)));
    // As long as it will be there, with what JSON writes in front of quotes.
    let length = serde_json::to_string(&header).ok()?.len();
    (length <= MOST_TEXTS).then_some(header)
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
    write_headed(path, what, tensors, None)
}

/// The same under a header that says more.
fn write_headed(
    path: &Path,
    what: &str,
    tensors: impl IntoIterator<Item = (String, TensorData)>,
    header: Option<HashMap<String, String>>,
) -> Result<(), Error> {
    let tensors = tensors.into_iter();
    let views = tensors.map(|(name, data)| (name, Values(data.convert::<f32>())));
    let bytes = safetensors::serialize(views, header);
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
    fn kept_latents_say_how_they_came_about() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let recipe = pair(RECIPE, r#"{"prompts":["a \"fox\"\nseed: 3"],"version":1}"#);
        let texts = [
            pair("prompt", "a \"fox\"\nseed: 3"),
            pair("seed", "7"),
            recipe,
        ];
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.into_temp_path();
        let latents = Tensor::from_floats([[[[0.25, -0.5]]]], &processor());
        let kept = |texts: &[(String, String)]| {
            let told = write_kept(&path, &latents, texts).expect("a file");
            let read = LatentsFile::read(&path).expect("latents");
            assert_eq!(read.shape(), [1, 1, 1, 2]);
            (told, read.texts)
        };
        assert_eq!(kept(&texts), (true, texts.to_vec()));
        assert_eq!(kept(&texts[..2]), (false, Vec::new()), "no recipe");
        let long = [pair(RECIPE, &"\n".repeat(MOST_TEXTS / 2))];
        assert_eq!(kept(&long), (false, Vec::new()), "no room for it");
    }

    #[test]
    fn tensors_of_other_files_are_counted() {
        let tensor = |index: usize| (format!("t{index:02}"), TensorData::new(vec![1.0f32], [1]));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.into_temp_path();
        write_tensors(&path, "the tensors", (0..12).rev().map(tensor)).expect("a file");
        let refused = read_latents(&path, &processor()).expect_err("no latents");
        let told = refused.to_string();
        assert!(told.contains("only `t00`, `t01`, "), "{told}");
        assert!(told.contains("`t09` and 2 more\n"), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn what_never_ends_is_not_read_to_its_end() {
        let refused = read_latents(Path::new("/dev/zero"), &processor()).expect_err("no latents");
        assert!(refused.is_request(), "{refused}");
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
