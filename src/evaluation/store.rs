//! A folder of batches.
//!
//! `manifest.json` is the [`Study`]; `batch-000012.safetensors` holds the pictures of one batch by every method (`pictures.0`, … ,
//! u8 `[items, height, width, 3]`) and in its metadata what they took. Both appear whole or not at all, so that a run that is
//! killed at any moment leaves a folder that another can complete.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, View, tensor::Metadata};
use serde::{Deserialize, Serialize};

use super::study::{LONGEST, Study};
use crate::error::{Error, EvaluationError, FileError};
use crate::image_io::{Picture, create_atomically, make_folder, write_atomically};
use crate::reading::read_bounded;

const MANIFEST: &str = "manifest.json";

/// The key of a batch's metadata.
const RECORD: &str = "record";

/// Bytes of the longest header of a batch: a number for each picture of every method.
const LONGEST_HEADER: u64 = 64 << 20;

/// What one method took for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of the denoising loop.
    pub denoising: f64,
    /// Seconds from what is asked for to the pixels, loading left out.
    pub whole: f64,
    /// Cells that ran, over all evaluations.
    pub cells: usize,
}

/// How a batch came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) batch: usize,
    /// [`fingerprint`] of the study.
    pub(super) study: String,
    pub(super) device: String,
    /// Whether the process had made pictures before: kernels are compiled and tuned by the first.
    pub(super) warm: bool,
    /// By method.
    pub(super) costs: Vec<Cost>,
    /// By method, then picture: the [`float_error`](crate::metrics::float_error) against the plain run's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) float_errors: Vec<Vec<f64>>,
    /// The same against the converged run's, where one is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) converged_errors: Vec<Vec<f64>>,
}

/// One batch, by method; the frames of a film are pictures one after the other.
#[derive(Debug)]
pub struct Batch {
    pub(super) record: Record,
    pub(super) pictures: Vec<Vec<Picture>>,
}

impl Batch {
    /// The pictures of a method.
    pub fn pictures(&self, method: usize) -> &[Picture] {
        &self.pictures[method]
    }

    /// How far a method's pictures are from the plain run's before rounding; nothing where an older version made them.
    pub(super) fn float_errors(&self, method: usize) -> &[f64] {
        self.record
            .float_errors
            .get(method)
            .map_or(&[], Vec::as_slice)
    }

    /// How far they are from the converged run's; nothing where none was made.
    pub(super) fn converged_errors(&self, method: usize) -> &[f64] {
        self.record
            .converged_errors
            .get(method)
            .map_or(&[], Vec::as_slice)
    }

    /// What each method took.
    pub fn costs(&self) -> &[Cost] {
        &self.record.costs
    }
}

/// The folder of an evaluation or of some of its shards.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    study: Study,
}

impl Store {
    /// Begins an evaluation in `folder`, or goes on with it.
    ///
    /// # Errors
    ///
    /// If the folder holds another evaluation, or cannot be written.
    pub fn begin(folder: &Path, study: &Study) -> Result<Self, Error> {
        make_folder(folder, "the evaluation")?;
        let manifest = folder.join(MANIFEST);
        if !manifest.exists() {
            create_atomically(&manifest, "the manifest", |file| {
                serde_json::to_writer_pretty(&mut *file, study)?;
                writeln!(file)
            })?;
        }
        // Read back in any case: several processes may begin in one folder at the same moment, and the first one counts.
        let store = Self::open(folder)?;
        match store.study.difference(study) {
            None => Ok(store),
            Some((field, found, wanted)) => Err(EvaluationError::OtherStudy {
                field,
                found,
                wanted,
                path: manifest,
            }
            .into()),
        }
    }

    /// Opens what an evaluation left.
    ///
    /// # Errors
    ///
    /// If there is none, or its manifest is unreadable.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        let text = read_bounded(&path, LONGEST).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::from(EvaluationError::NoStudy {
                path: folder.into(),
            }),
            _ => unreadable(&path, source).into(),
        })?;
        let study = serde_json::from_slice(&text).map_err(|error| EvaluationError::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            folder: folder.into(),
            study,
        })
    }

    /// What is evaluated.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a batch is there, and all of it.
    pub fn has(&self, batch: usize) -> bool {
        let path = self.path(batch);
        path.is_file() && damage(&path).is_none()
    }

    /// How the file of a batch is damaged, if one is there that is.
    pub(super) fn damage(&self, batch: usize) -> Option<(PathBuf, String)> {
        let path = self.path(batch);
        let reason = damage(&path)?;
        Some((path, reason))
    }

    fn path(&self, batch: usize) -> PathBuf {
        self.folder.join(format!("batch-{batch:06}.safetensors"))
    }

    /// Writes a batch.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), Error> {
        let named = |(method, pictures): (usize, &Vec<Picture>)| {
            (tensor_name(method), Pixels::new(pictures))
        };
        let views = batch.pictures.iter().enumerate().map(named);
        let record = serde_json::to_string(&batch.record).map(|text| (RECORD.to_owned(), text));
        write_atomically(&self.path(batch.record.batch), "a batch", |file| {
            let metadata = HashMap::from([record?]);
            let bytes = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
            file.write_all(&bytes)
        })
    }

    /// Reads a batch.
    ///
    /// # Errors
    ///
    /// If it is damaged, or belongs to another study.
    pub fn read(&self, batch: usize) -> Result<Batch, Error> {
        let path = self.path(batch);
        let samples = self.study.samples_in(batch);
        let shown = samples.saturating_mul(self.study.frames);
        let most = self.study.bytes_of(shown).saturating_add(LONGEST_HEADER);
        let damaged = |reason: String| {
            Error::from(EvaluationError::Damaged {
                path: path.clone(),
                reason,
            })
        };
        let bytes = read_bounded(&path, most).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => damaged(source.to_string()),
            _ => unreadable(&path, source).into(),
        })?;
        let (record, pictures) = decode(&bytes, self.study.methods.len()).map_err(damaged)?;
        if record.study != fingerprint(&self.study) || record.batch != batch {
            return Err(damaged("it belongs to another evaluation".into()));
        }
        if record.costs.len() != pictures.len() || pictures.iter().any(|made| made.len() != shown) {
            return Err(damaged(format!(
                "it should hold {shown} pictures of each method"
            )));
        }
        // Everything that measures pictures or writes them takes their size from the manifest.
        let asked = (self.study.width, self.study.height);
        let sizes = pictures.iter().flatten();
        let mut sizes = sizes.map(|one| (one.width(), one.height()));
        if let Some((width, height)) = sizes.find(|size| *size != asked) {
            let (across, down) = asked;
            return Err(damaged(format!(
                "it holds pictures of {width}x{height}, and the manifest says {across}x{down}"
            )));
        }
        Ok(Batch { record, pictures })
    }
}

/// What is wrong with the file of a batch as far as its header and its length tell. What cannot be read is not damaged: reading it says
/// why.
fn damage(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    match header(file) {
        Ok(header)
            if header
                .metadata()
                .as_ref()
                .is_some_and(|it| it.contains_key(RECORD)) =>
        {
            None
        }
        Ok(_) => Some("its metadata are missing".into()),
        Err(error) => is_damage(&error).then(|| error.to_string()),
    }
}

fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};

    matches!(error.kind(), InvalidData | UnexpectedEof)
}

/// The header of a safetensors file whose data are as long as it says.
fn header(mut file: File) -> io::Result<Metadata> {
    let damaged = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let length = file.metadata()?.len();
    let mut size = [0; 8];
    let left = length.checked_sub(size.len() as u64);
    let left = left.ok_or_else(|| damaged("it is cut off"))?;
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    let left = left.checked_sub(size);
    let left = left.ok_or_else(|| damaged("its header is cut off"))?;
    if size > LONGEST_HEADER {
        return Err(damaged("its header is longer than any"));
    }
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    let header: Metadata = serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if header.data_len() as u64 == left {
        Ok(header)
    } else {
        Err(damaged("it is cut off"))
    }
}

fn unreadable(path: &Path, source: io::Error) -> FileError {
    FileError::Read {
        what: "the evaluation".into(),
        path: path.into(),
        source,
    }
}

fn tensor_name(method: usize) -> String {
    format!("pictures.{method}")
}

fn decode(bytes: &[u8], methods: usize) -> Result<(Record, Vec<Vec<Picture>>), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().as_ref();
    let record = metadata.and_then(|metadata| metadata.get(RECORD));
    let record = record.ok_or("its metadata are missing")?;
    let record = serde_json::from_str(record).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let pictures = (0..methods).map(|method| {
        let tensor = tensors
            .tensor(&tensor_name(method))
            .map_err(|error| error.to_string())?;
        let (&[_, height, width, 3], Dtype::U8) = (tensor.shape(), tensor.dtype()) else {
            return Err(format!(
                "`{}` is {} {:?}",
                tensor_name(method),
                tensor.dtype(),
                tensor.shape()
            ));
        };
        // The file holds as many bytes as the shape says: only a set without pictures may name sides that no memory holds.
        let size = height.saturating_mul(width).saturating_mul(3).max(1);
        let pictures = tensor.data().chunks_exact(size);
        Ok(pictures
            .map(|pixels| Picture::from_pixels(width, height, pixels.to_vec()))
            .collect())
    });
    Ok((record, pictures.collect::<Result<_, _>>()?))
}

/// Sixteen digits that differ when studies do; where the model lies does not count.
pub(super) fn fingerprint(study: &Study) -> String {
    let mut study = study.clone();
    study.model.clear();
    let text = serde_json::to_string(&study).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
    });
    format!("{hash:016x}")
}

/// Pictures of one size as safetensors wants to see them.
struct Pixels {
    shape: [usize; 4],
    bytes: Vec<u8>,
}

impl Pixels {
    fn new(pictures: &[Picture]) -> Self {
        let (width, height) = pictures
            .first()
            .map_or((0, 0), |first| (first.width(), first.height()));
        Self {
            shape: [pictures.len(), height, width, 3],
            bytes: pictures.iter().flat_map(Picture::pixels).copied().collect(),
        }
    }
}

impl View for Pixels {
    fn dtype(&self) -> Dtype {
        Dtype::U8
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
