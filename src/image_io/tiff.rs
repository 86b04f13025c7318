//! The directories of a TIFF file, looked at before anything is decoded.
//!
//! **Source.** TIFF revision 6.0 (Adobe, 1992), section 2: directories of entries of 12 bytes, chained by the byte at which the next begins;
//! `BigTIFF`, where entries have 20 bytes and places 8.

/// Pages that may be smaller copies of the first, at most.
const MOST_COPIES: usize = 1024;
/// Entries of a directory, at most.
const MOST_ENTRIES: usize = 1 << 16;
/// Numbers of an entry, at most: the decoder takes 32 bytes for each. No picture has as many strips or tiles.
const MOST_NUMBERS: u64 = 1 << 19;
/// `NewSubfileType`, whose lowest bit says that a page is a smaller copy.
const KIND: u64 = 254;

/// Whether a file has another page after its first. Smaller copies of the first, as scanners add them, do not count.
///
/// # Errors
///
/// What is wrong, if the first page is described by more numbers than the file has room for.
pub(super) fn has_pages(bytes: &[u8]) -> Result<bool, &'static str> {
    let Some(layout) = Tiff::of(bytes) else {
        return Ok(false);
    };
    let Some(first) = layout.first().and_then(|place| layout.directory(place)) else {
        return Ok(false);
    };
    if !first.entries().all(|entry| layout.holds(entry)) {
        return Err("it is described by more numbers than it has");
    }
    let mut next = layout.directory(first.next);
    // A chain may come back to where it was.
    for _ in 0..MOST_COPIES {
        let Some(page) = next else { break };
        if !layout.is_copy(&page) {
            return Ok(true);
        }
        next = layout.directory(page.next);
    }
    Ok(false)
}

/// How a file lays out its numbers.
struct Tiff<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    /// Places of 8 bytes.
    is_big: bool,
}

/// Where the entries of a directory lie, so many bytes each, and where the next begins.
struct Directory {
    start: usize,
    end: usize,
    entry: usize,
    next: usize,
}

impl Directory {
    /// Where each entry begins.
    fn entries(&self) -> impl Iterator<Item = usize> {
        (self.start..self.end).step_by(self.entry)
    }
}

impl<'a> Tiff<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let is_big_endian = match bytes.get(..2)? {
            b"MM" => true,
            b"II" => false,
            _ => return None,
        };
        let plain = Self {
            bytes,
            is_big_endian,
            is_big: false,
        };
        let is_big = match plain.number(2, 2)? {
            42 => false,
            43 => true,
            _ => return None,
        };
        Some(Self { is_big, ..plain })
    }

    fn number(&self, place: usize, count: usize) -> Option<u64> {
        let bytes = self.bytes.get(place..place.checked_add(count)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.is_big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        })
    }

    fn place(&self, place: usize, count: usize) -> Option<usize> {
        usize::try_from(self.number(place, count)?).ok()
    }

    /// Where the first directory begins.
    fn first(&self) -> Option<usize> {
        self.place(self.width(), self.width())
    }

    /// The directory at `place`; nothing at 0, where none can be.
    fn directory(&self, place: usize) -> Option<Directory> {
        let [head, entry] = if self.is_big { [8, 20] } else { [2, 12] };
        let count = self.place(place, head);
        let count = count.filter(|count| place > 0 && *count < MOST_ENTRIES)?;
        let start = place.checked_add(head)?;
        let end = start.checked_add(count * entry)?;
        let next = self.place(end, self.width())?;
        Some(Directory {
            start,
            end,
            entry,
            next,
        })
    }

    fn is_copy(&self, page: &Directory) -> bool {
        let kind = page.entries().find(|&at| self.number(at, 2) == Some(KIND));
        // A number of 32 bits lies at the beginning of its field.
        let value = kind.and_then(|at| self.number(at + page.entry - self.width(), 4));
        value.is_some_and(|value| value & 1 == 1)
    }

    /// Bytes of a place, and of the field of an entry that has its value.
    fn width(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    /// Whether the file has room for the values of the entry at `at`.
    fn holds(&self, at: usize) -> bool {
        let kind = self.number(at + 2, 2);
        let size = match kind {
            Some(1 | 2 | 6 | 7) => 1, // bytes and text
            Some(3 | 8) => 2,
            Some(5 | 10 | 12 | 16..=18) => 8,
            _ => 4,
        };
        let count = self.number(at + 4, self.width());
        count.is_some_and(|count| {
            let fits = count.saturating_mul(size) <= self.bytes.len() as u64;
            fits && (size == 1 || count <= MOST_NUMBERS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories of one entry each: `NewSubfileType`.
    fn tiff(kinds: &[u8]) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        for (index, kind) in kinds.iter().enumerate() {
            let is_last = index + 1 == kinds.len();
            let next = if is_last { 0 } else { bytes.len() as u8 + 18 };
            bytes.extend(b"\x01\0\xfe\0\x04\0\x01\0\0\0");
            bytes.extend([*kind, 0, 0, 0, next, 0, 0, 0]);
        }
        bytes
    }

    fn pages(bytes: &[u8]) -> bool {
        has_pages(bytes).expect("no more numbers than there are")
    }

    #[test]
    fn pages_are_seen() {
        assert!(!pages(&tiff(&[0])) && !pages(&tiff(&[0, 1])));
        assert!(pages(&tiff(&[0, 0])) && pages(&tiff(&[0, 1, 2])));
        assert!(!pages(b"II*\0") && !pages(b"MM\0*\0\0\0\x08\0\x01"));
        // The second, a smaller copy, says that it is followed by itself.
        let mut circle = tiff(&[0, 1]);
        let last = circle.len() - 4;
        circle[last] = 26;
        assert!(!pages(&circle));
    }

    #[test]
    fn numbers_that_are_not_there_are_refused() {
        let mut bytes = tiff(&[0]);
        bytes[14] = 100; // as many numbers of its one entry
        assert!(has_pages(&bytes).is_err());
        bytes[12] = 2; // or so many letters
        assert!(has_pages(&bytes).is_err());
        bytes.resize(120, 0);
        assert!(has_pages(&bytes).is_ok());
    }
}
