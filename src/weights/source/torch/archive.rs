//! The two containers of torch's files, and the bytes of tensors in them.
//!
//! **Source.** `torch/serialization.py`: since 1.6 a ZIP archive of `data.pkl` and a file `data/KEY` for each storage; before, pickles that
//! follow each other, behind them each storage as a count of elements and its bytes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::super::{place::Place, stored::Stored};
use super::fault::Fault;
use super::machine::{Pickled, run};
use super::value::{Node, Storage, View};

/// Bytes that may be taken beside the file's own size.
const SPARE: u64 = 32 << 20;
/// The number that old files begin with, as a pickle has it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same, written in digits.
const DIGITS: &[u8] = b"119547037146038801333356";

/// A file: what its pickle says, and where the storages are.
pub(super) struct Archive {
    pub(super) pickled: Pickled,
    pub(super) storages: Storages,
}

/// Where the storages of a file are.
pub(super) enum Storages {
    Zip {
        archive: Arc<Mutex<ZipArchive<File>>>,
        place: Place,
        /// What the names of all files in it begin with.
        prefix: String,
        /// Bytes that a compressed storage may have.
        most: u64,
    },
    /// Start and bytes of each.
    Stream(Place, BTreeMap<String, (u64, u64)>),
}

/// Reads the pickle of the file at `path`.
pub(super) fn open(mut file: File, path: &Path) -> Result<Archive, Fault> {
    let length = file.metadata()?.len();
    let most = length + SPARE;
    let mut start = Vec::new();
    file.by_ref().take(64).read_to_end(&mut start)?;
    file.rewind()?;
    let old = |magic: &[u8]| start.windows(magic.len()).any(|bytes| bytes == magic);
    if start.starts_with(b"PK") {
        return zipped(file, path, most);
    }
    if old(&MAGIC) || old(DIGITS) {
        return stream(file, length, most);
    }
    let pickled = run(&mut BufReader::new(&file), budget(most))?;
    let storages = Storages::Stream(Place::of(file), BTreeMap::new());
    Ok(Archive { pickled, storages })
}

fn budget(most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// What is wrong with an archive that cannot be opened.
fn unfinished(error: ZipError, place: &Place, length: u64) -> Fault {
    match error {
        _ if ends_in_script(place, length) => script(),
        ZipError::InvalidArchive(_) => {
            Fault::cut("its end, which says what is in it, is not there or damaged")
        }
        ZipError::Io(error) => error.into(),
        other => other.into(),
    }
}

/// A file that a program compiled of a model lies in, and which no file of weights has.
const SCRIPT: &str = "constants.pkl";
/// Bytes at an archive's end that list the last of what is in it.
const END: u64 = 1 << 16;

/// Whether the list at an archive's end has that file.
fn ends_in_script(place: &Place, length: u64) -> bool {
    let bytes = length.min(END);
    let end = place.read(length - bytes, bytes as usize);
    end.is_ok_and(|end| {
        let mut windows = end.windows(SCRIPT.len());
        windows.any(|window| window == SCRIPT.as_bytes())
    })
}

fn script() -> Fault {
    Fault::wrong(
        "it is a TorchScript archive, a model compiled into a program\nhint: use a file of the model's weights alone, in safetensors or as a state dict",
    )
}

fn zipped(file: File, path: &Path, most: u64) -> Result<Archive, Fault> {
    const PICKLE: &str = "data.pkl";
    // A handle of its own, as another's position would move under it.
    let place = Place::of(File::open(path)?);
    let length = file.metadata()?.len();
    let mut archive = ZipArchive::new(file).map_err(|error| unfinished(error, &place, length))?;
    if archive
        .file_names()
        .flatten()
        .any(|name| name.ends_with(SCRIPT))
    {
        return Err(script());
    }
    let found = archive.file_names().flatten().find_map(|name| {
        let prefix = name.strip_suffix(PICKLE)?;
        let whole = prefix.is_empty() || prefix.ends_with('/');
        whole.then(|| prefix.to_owned())
    });
    let prefix = found.ok_or_else(|| {
        Fault::wrong(
            "it is an archive without `data.pkl`: unpack it, if files of weights are in it",
        )
    })?;
    if let Ok(order) = archive.by_name(&format!("{prefix}byteorder")) {
        let mut text = String::new();
        order.take(16).read_to_string(&mut text)?;
        if text.trim() == "big" {
            return Err(Fault::wrong(
                "it was written on a machine of big-endian order",
            ));
        }
    }
    let pickle = archive.by_name(&format!("{prefix}{PICKLE}"))?;
    let pickled = run(&mut BufReader::new(pickle.take(most)), budget(most))?;
    Ok(Archive {
        pickled,
        storages: Storages::Zip {
            archive: Arc::new(Mutex::new(archive)),
            place,
            prefix,
            most,
        },
    })
}

/// Pickles of the magic number, the protocol, the machine, the object and the keys of its storages; then the storages.
fn stream(file: File, length: u64, most: u64) -> Result<Archive, Fault> {
    let mut reader = BufReader::new(file);
    for _ in 0..3 {
        run(&mut reader, budget(SPARE))?;
    }
    let pickled = run(&mut reader, budget(most))?;
    let keys = run(&mut reader, budget(most))?;
    let sizes = pickled.sizes();
    let mut storages = BTreeMap::new();
    let mut at = reader.stream_position()?;
    for key in keys.heap.items(keys.root).unwrap_or_default() {
        let name = keys.heap.name(*key).unwrap_or_default();
        let size = sizes.get(&name).copied();
        let size = size.ok_or_else(|| Fault::wrong("it has a storage that nothing refers to"))?;
        let mut count = [0; 8];
        reader.seek(SeekFrom::Start(at))?;
        reader.read_exact(&mut count)?;
        let bytes = u64::from_le_bytes(count).checked_mul(size);
        let end = bytes.and_then(|bytes| bytes.checked_add(at + 8));
        let inside = bytes.zip(end.filter(|end| *end <= length));
        let (bytes, end) =
            inside.ok_or_else(|| Fault::cut("a storage goes on beyond the end of the file"))?;
        storages.insert(name, (at + 8, bytes));
        at = end;
    }
    let place = Place::of(reader.into_inner());
    Ok(Archive {
        pickled,
        storages: Storages::Stream(place, storages),
    })
}

impl Pickled {
    /// Bytes of an element of each storage.
    fn sizes(&self) -> BTreeMap<String, u64> {
        let storages = self.heap.nodes().filter_map(|node| match node {
            Node::Storage(storage) => Some(storage),
            _ => None,
        });
        let size = |storage: &Storage| storage.stored.map_or(1, Stored::size);
        let sizes = storages.filter_map(|storage| {
            let name = self.heap.name(storage.key)?;
            Some((name, size(storage) as u64))
        });
        sizes.collect()
    }
}

/// The bytes of one storage.
pub(super) enum Bytes {
    /// As they are, from this byte on.
    Plain(Place, u64),
    /// In a compressed file of this name.
    Packed(Arc<Mutex<ZipArchive<File>>>, String),
}

impl Storages {
    /// Where a storage is, and its bytes.
    pub(super) fn find(&self, key: &str) -> Result<(Bytes, u64), Fault> {
        match self {
            Self::Stream(place, storages) => {
                let found = storages.get(key).copied();
                let (start, bytes) = found.ok_or_else(|| missing(key))?;
                Ok((Bytes::Plain(place.clone(), start), bytes))
            }
            Self::Zip {
                archive,
                place,
                prefix,
                most,
            } => {
                let name = format!("{prefix}data/{key}");
                let mut held = archive.lock().unwrap_or_else(PoisonError::into_inner);
                let entry = held.by_name(&name).map_err(|_| missing(key))?;
                let (method, bytes) = (entry.compression(), entry.size());
                match entry.data_start() {
                    Some(start) if method == CompressionMethod::Stored => {
                        Ok((Bytes::Plain(place.clone(), start), bytes))
                    }
                    _ if bytes > *most => Err(Fault::wrong("a storage is larger than its file")),
                    _ => Ok((Bytes::Packed(archive.clone(), name), bytes)),
                }
            }
        }
    }
}

fn missing(key: &str) -> Fault {
    Fault::Malformed(format!("the storage `{key}` is not in it"))
}

impl Bytes {
    /// `length` bytes from byte `start` of the storage.
    fn read(&self, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain(place, origin) => place.read(origin + start, length),
            Self::Packed(archive, name) => {
                let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
                let entry = archive.by_name(name)?;
                let mut entry = BufReader::new(entry);
                std::io::copy(&mut (&mut entry).take(start), &mut std::io::sink())?;
                let mut bytes = Vec::new();
                entry.take(length as u64).read_to_end(&mut bytes)?;
                if bytes.len() < length {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                Ok(bytes)
            }
        }
    }

    /// The elements of `view`, in the order of its sides.
    pub(super) fn elements(&self, view: &View) -> std::io::Result<Vec<u8>> {
        let size = view.stored.size();
        let start = (view.storage.start * size) as u64;
        let bytes = self.read(start, view.extent() * size)?;
        Ok(view.stored.widened(view.gathered(bytes)))
    }
}

impl View {
    /// Its elements out of `bytes`, from its first to its last.
    fn gathered(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.is_plain() {
            return bytes;
        }
        let size = self.stored.size();
        let mut gathered = Vec::with_capacity(self.elements() * size);
        let mut index = vec![0_usize; self.shape.len()];
        for _ in 0..self.elements() {
            let place = index.iter().zip(&self.strides);
            let at = place.map(|(index, stride)| index * stride).sum::<usize>() * size;
            gathered.extend_from_slice(&bytes[at..at + size]);
            for (index, side) in index.iter_mut().zip(&self.shape).rev() {
                *index += 1;
                if *index < *side {
                    break;
                }
                *index = 0;
            }
        }
        gathered
    }

    /// Whether its elements follow each other.
    fn is_plain(&self) -> bool {
        let mut step = 1;
        let mut sides = self.shape.iter().zip(&self.strides).rev();
        sides.all(|(&side, &stride)| {
            let follows = side <= 1 || stride == step;
            step *= side;
            follows
        })
    }
}
