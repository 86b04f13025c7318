//! Whether a file goes on to its end: decoders fill in what is missing, or do not look.

/// Whether a JPEG file has its end-of-image marker, whatever follows it.
///
/// Source: ITU-T T.81, annex B: segments are `FF`, a marker and a length; in coded data, `FF` is followed by 0 or a restart marker.
pub(super) fn jpeg(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        let Some(start) = rest.iter().position(|&byte| byte == 0xff) else {
            return false;
        };
        rest = &rest[start..];
        let Some(fill) = rest.iter().position(|&byte| byte != 0xff) else {
            return false;
        };
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        match marker {
            0xd9 => return true,
            0x00 | 0x01 | 0xd0..=0xd8 => (),
            _ => match rest.first_chunk() {
                Some(&length) => rest = skipped(rest, u16::from_be_bytes(length).into()),
                None => return false,
            },
        }
    }
}

/// Whether a WebP file is as long as it says; a byte of padding at its end is often left out.
///
/// Source: RFC 9649, section 2.4: `RIFF`, and the length of what follows.
pub(super) fn webp(bytes: &[u8]) -> bool {
    const HEADER: usize = 8;
    let length = bytes.get(4..).and_then(<[u8]>::first_chunk);
    length.is_some_and(|length| {
        let announced = u32::from_le_bytes(*length) as usize;
        bytes.len() + 1 >= HEADER + announced
    })
}

/// What a GIF file holds: `None` if it breaks off inside a frame, else how many frames there are.
///
/// Source: `CompuServe`, `GIF89a` specification, section 12 on.
pub(super) fn gif_frames(bytes: &[u8]) -> Option<usize> {
    const HEADER: usize = 13;
    const DESCRIPTOR: usize = 9;
    let flags = *bytes.get(10)?;
    let mut rest = bytes.get(HEADER + colours(flags)..)?;
    let mut frames = 0;
    loop {
        match rest.split_first() {
            Some((0x21, extension)) => rest = blocks(extension.get(1..)?)?,
            Some((0x2c, frame)) => {
                let table = colours(*frame.get(DESCRIPTOR - 1)?);
                rest = blocks(frame.get(DESCRIPTOR + table + 1..)?)?;
                frames += 1;
            }
            // The trailer, or what stands in for it.
            _ => return Some(frames),
        }
    }
}

/// Whether a TIFF file has another page after its first. Smaller copies of the first, as scanners add them, are pages of their own kind
/// and do not count.
///
/// Source: TIFF revision 6.0 (Adobe, 1992), section 2: directories of entries of 12 bytes, chained by the byte at which the next begins;
/// `BigTIFF`, where entries have 20 bytes and places 8.
pub(super) fn has_pages(bytes: &[u8]) -> bool {
    const MOST_COPIES: usize = 1024;
    let Some(layout) = Tiff::of(bytes) else {
        return false;
    };
    let first = layout.first();
    let mut next = first.and_then(|first| Some(layout.directory(first)?.1));
    // A chain may come back to where it was.
    for _ in 0..MOST_COPIES {
        let Some((is_copy, after)) = next.and_then(|place| layout.directory(place)) else {
            return false;
        };
        if !is_copy {
            return true;
        }
        next = Some(after);
    }
    false
}

/// How a TIFF file lays out its numbers.
struct Tiff<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
    /// Places of 8 bytes.
    is_big: bool,
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
        if self.is_big {
            self.place(8, 8)
        } else {
            self.place(4, 4)
        }
    }

    /// Whether the directory at `place` is of a smaller copy, and where the next begins; nothing at 0, where none can be.
    fn directory(&self, place: usize) -> Option<(bool, usize)> {
        const KIND: u64 = 254; // `NewSubfileType`, whose lowest bit says so
        const MOST: usize = 1 << 16;
        let [head, entry, width] = if self.is_big { [8, 20, 8] } else { [2, 12, 4] };
        let count = self.place(place, head);
        let count = count.filter(|count| place > 0 && *count < MOST)?;
        let start = place.checked_add(head)?;
        let end = start.checked_add(count * entry)?;
        let next = self.place(end, width)?;
        let mut entries = (start..end).step_by(entry);
        let kind = entries.find(|&at| self.number(at, 2) == Some(KIND));
        // A number of 32 bits lies at the beginning of its field.
        let kind = kind.and_then(|at| self.number(at + entry - width, 4));
        Some((kind.is_some_and(|kind| kind & 1 == 1), next))
    }
}

/// Bytes of the colour table that these flags announce.
fn colours(flags: u8) -> usize {
    if flags & 0x80 == 0 {
        return 0;
    }
    3 << ((flags & 7) + 1)
}

/// What follows a chain of blocks, each a length and as many bytes, that ends in an empty one.
fn blocks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, after) = rest.split_first()?;
        rest = after.get(length.into()..)?;
        if length == 0 {
            return Some(rest);
        }
    }
}

/// `rest` without its first `count` bytes; nothing if it has fewer.
fn skipped(rest: &[u8], count: usize) -> &[u8] {
    rest.get(count..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_ends_in_its_marker() {
        // Begin, a segment of four bytes with a false end in it, a scan with a stuffed and a restart marker.
        let start = b"\xff\xd8\xff\xe1\0\x04\xff\xd9\xff\xda\0\x02ab\xff\0c\xff\xd0d";
        assert!(!jpeg(start) && !jpeg(b"") && !jpeg(b"\xff\xd8\xff"));
        assert!(jpeg(&[&start[..], b"\xff\xff\xd9 and more"].concat()));
    }

    #[test]
    fn a_webp_is_as_long_as_it_says() {
        assert!(webp(b"RIFF\x06\0\0\0WEBPxx") && webp(b"RIFF\x06\0\0\0WEBPx"));
        assert!(!webp(b"RIFF\x06\0\0\0WEBP") && !webp(b"RIFF"));
    }

    #[test]
    fn frames_of_a_gif_are_counted() {
        let head = b"GIF89a\x01\0\x01\0\x80\0\0abcdef";
        let frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0";
        let one = [&head[..], frame].concat();
        assert_eq!(gif_frames(&one), Some(1));
        let two = [&one[..], frame, b"\x3b"].concat();
        assert_eq!(gif_frames(&two), Some(2));
        assert_eq!(gif_frames(&one[..one.len() - 2]), None);
        assert_eq!(gif_frames(b"GIF89a"), None);
    }

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

    #[test]
    fn pages_of_a_tiff_are_seen() {
        assert!(!has_pages(&tiff(&[0])) && !has_pages(&tiff(&[0, 1])));
        assert!(has_pages(&tiff(&[0, 0])) && has_pages(&tiff(&[0, 1, 2])));
        assert!(!has_pages(b"II*\0") && !has_pages(b"MM\0*\0\0\0\x08\0\x01"));
        // The second, a smaller copy, says that it is followed by itself.
        let mut circle = tiff(&[0, 1]);
        let last = circle.len() - 4;
        circle[last] = 26;
        assert!(!has_pages(&circle));
    }
}
