//! Little-endian numbers and texts of a file, one after the other, never beyond its end.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read as _},
};

use super::super::stand_in::CUT;

/// Type of a text among values.
pub(super) const TEXT: u32 = 8;
/// Bytes of a text that is kept, at most.
pub(super) const LONGEST_TEXT: u64 = 1 << 16;

/// Why a header could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// What is wrong with the file.
    Wrong(String),
    /// What the system says.
    Read(io::Error),
}

impl Fault {
    pub(super) fn wrong(reason: impl Into<String>) -> Self {
        Self::Wrong(reason.into())
    }
}

/// A file from its beginning on.
pub(super) struct Reader<'a> {
    file: BufReader<&'a File>,
    /// Bytes read so far.
    position: u64,
    /// Bytes of the file.
    length: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File, length: u64) -> Self {
        Self {
            file: BufReader::new(file),
            position: 0,
            length,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.length.saturating_sub(self.position)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        let read = self.file.read_exact(bytes);
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Fault::wrong(format!(
                "its header goes on at its end, byte {}{CUT}",
                self.length
            )),
            _ => Fault::Read(error),
        })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.bytes().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.bytes().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A text behind its length, of at most `most` bytes; `what` is what the message calls it.
    pub(super) fn text(&mut self, most: u64, what: &str) -> Result<String, Fault> {
        let length = self.u64()?;
        if length > most {
            return Err(Fault::wrong(format!(
                "{what} of {length} bytes, {most} are allowed"
            )));
        }
        self.text_of(length, what)
    }

    /// A text of `length` bytes.
    pub(super) fn text_of(&mut self, length: u64, what: &str) -> Result<String, Fault> {
        if length > self.left() {
            let left = self.left();
            return Err(Fault::wrong(format!(
                "{what} of {length} bytes, where {left} are left{CUT}"
            )));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Passes over so many bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Fault> {
        if count > self.left() {
            let left = self.left();
            return Err(Fault::wrong(format!(
                "a value of {count} bytes, where {left} are left{CUT}"
            )));
        }
        self.file
            .seek_relative(count.cast_signed())
            .map_err(Fault::Read)?;
        self.position += count;
        Ok(())
    }
}
