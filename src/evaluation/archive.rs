//! Pictures as the `.npz` file that the ADM evaluator reads: `arr_0`, u8 `[pictures, height, width, 3]`, and `arr_1`, the labels.
//!
//! A channel's byte is `clamp((x + 1) / 2, 0, 1) · 255 + 0.5`, truncated, as in the evaluation of latent diffusion and ADM: the same as
//! rounding to nearest, which every [`Picture`](crate::image_io::Picture) does.
//!
//! The format of an array (magic, version 1.0, a Python dictionary as header, data) is written and read here: a header of three known
//! keys is twenty lines, and the crates for it bring a parser generator along.
//!
//! Source: `NumPy` Enhancement Proposal 1, "A Simple File Format for `NumPy` Arrays".

use std::{
    io::{self, Read, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::joined::Joined;
use crate::error::Error;
use crate::image_io::write_atomically;
use crate::metrics::Asked;

const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";

/// Bytes to a multiple of which a header is filled up.
const ALIGNMENT: usize = 64;

/// What stands in front of an array's data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// `|u1`, `<i8`, …
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
}

impl Header {
    fn new(dtype: &str, shape: &[usize]) -> Self {
        Self {
            dtype: dtype.into(),
            shape: shape.into(),
        }
    }

    fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let sides: Vec<String> = self.shape.iter().map(|side| format!("{side},")).collect();
        let text = format!(
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
            self.dtype,
            sides.join(" ")
        );
        let prefix = MAGIC.len() + 2;
        let length = (prefix + text.len() + 1).next_multiple_of(ALIGNMENT) - prefix;
        let short = u16::try_from(length).map_err(io::Error::other)?;
        writer.write_all(MAGIC)?;
        writer.write_all(&short.to_le_bytes())?;
        writeln!(writer, "{text:<width$}", width = length - 1)
    }

    /// Reads the header of an array in C order.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, String> {
        let failed = |error: io::Error| error.to_string();
        let mut start = [0; 10];
        reader.read_exact(&mut start).map_err(failed)?;
        if start[..8] != *MAGIC {
            return Err("not an array in NumPy's format, version 1.0".into());
        }
        let mut text = vec![0; usize::from(u16::from_le_bytes([start[8], start[9]]))];
        reader.read_exact(&mut text).map_err(failed)?;
        let text = String::from_utf8_lossy(&text);
        Self::parse(&text).ok_or_else(|| format!("the array is described by `{}`", text.trim()))
    }

    fn parse(text: &str) -> Option<Self> {
        let after = |key: &str| Some(text.split_once(&format!("'{key}':"))?.1.trim_start());
        after("fortran_order")?.strip_prefix("False")?;
        let sides = after("shape")?
            .strip_prefix('(')?
            .split_once(')')?
            .0
            .split(',');
        let sides = sides.map(str::trim).filter(|side| !side.is_empty());
        Some(Self {
            dtype: after("descr")?
                .strip_prefix('\'')?
                .split_once('\'')?
                .0
                .into(),
            shape: sides.map(|side| side.parse().ok()).collect::<Option<_>>()?,
        })
    }
}

/// Writes one method's pictures; labels as well, where the study has classes. One batch is in memory at a time.
///
/// # Errors
///
/// If a batch is damaged or the file cannot be written. What stood there before then still does.
pub fn write_archive(path: &Path, joined: &Joined, method: usize) -> Result<(), Error> {
    let mut failed = None;
    let written = write_atomically(path, "the pictures", |file| {
        // The writer seeks back to fill in sizes, so the file itself is handed over.
        let mut archive = ZipWriter::new(io::BufWriter::new(*file.get_ref()));
        archive.start_file("arr_0.npy", options())?;
        write_pictures(&mut archive, joined, method).map_err(|error| {
            failed = error.damage;
            error.source
        })?;
        if let Some(labels) = labels(joined) {
            archive.start_file("arr_1.npy", options())?;
            Header::new("<i8", &[labels.len()]).write(&mut archive)?;
            archive.write_all(&labels.concat())?;
        }
        archive.finish()?.flush()
    });
    match failed {
        Some(error) => Err(error),
        None => written,
    }
}

/// Stored, as `numpy.savez` does, and of any length.
fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true)
}

/// A file that does not take the data, or a batch that cannot be read.
struct Failure {
    source: io::Error,
    damage: Option<Error>,
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self {
            source,
            damage: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(damage: Error) -> Self {
        Self {
            source: io::ErrorKind::InvalidData.into(),
            damage: Some(damage),
        }
    }
}

fn write_pictures(writer: &mut impl Write, joined: &Joined, method: usize) -> Result<(), Failure> {
    let study = joined.study();
    // Of films every frame is a picture.
    let pictures = study.samples.saturating_mul(study.frames);
    Header::new("|u1", &[pictures, study.height, study.width, 3]).write(writer)?;
    for batch in joined.batches() {
        for picture in batch?.pictures(method) {
            writer.write_all(picture.pixels())?;
        }
    }
    Ok(())
}

/// The label of every sample as `i64`, if all have one.
fn labels(joined: &Joined) -> Option<Vec<[u8; 8]>> {
    let study = joined.study();
    let label = |index| match study.sample(index).asked {
        Asked::Class(label, _) => i64::try_from(label).ok().map(i64::to_le_bytes),
        Asked::Text(_) | Asked::Nothing => None,
    };
    (0..study.samples).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_numpys() {
        let mut bytes = Vec::new();
        let header = Header::new("|u1", &[2, 4, 5, 3]);
        header.write(&mut bytes).unwrap();
        // What numpy 2.4.6 writes for `numpy.zeros((2, 4, 5, 3), "u1")`, but for the comma that it leaves out behind the last side.
        assert_eq!(bytes.len(), 128);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert!(bytes.ends_with(b" \n"));
        assert_eq!(Header::read(&mut bytes.as_slice()).unwrap(), header);
    }

    #[test]
    fn what_numpy_writes_is_read_and_other_orders_are_not() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (7,), }";
        assert_eq!(Header::parse(text), Some(Header::new("<f4", &[7])));
        assert_eq!(Header::parse(&text.replace("False", "True")), None);
        assert_eq!(Header::parse("{}"), None);
        assert!(Header::read(&mut b"PK\x03\x04 no array".as_slice()).is_err());
    }
}
