//! Exif with a comment and nothing else: the place that programs for pictures of diffusion models read settings from in JPEG and WebP.
//!
//! Source: CIPA DC-008, Exif 2.32, 4.5 and 4.6.5 (`UserComment`); TIFF 6.0, section 2.

/// The most bytes that a JPEG's segment has room for: its length is of 16 bits, and counts itself and `Exif\0\0`.
const MOST: usize = u16::MAX as usize - 2 - 6;

/// Before the characters of a comment in Unicode.
const UNICODE: &[u8] = b"UNICODE\0";

/// Where the second directory begins: behind the header, and a directory of one entry.
const SECOND: u32 = HEADER + DIRECTORY;
const HEADER: u32 = 8;
/// Bytes of a count, one entry and the offset of the next directory.
const DIRECTORY: u32 = 2 + 12 + 4;

const EXIF_DIRECTORY: u16 = 0x8769;
const USER_COMMENT: u16 = 0x9286;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// Units of UTF-16 that a comment in a JPEG has room for.
const ROOM: usize = (MOST - (SECOND + DIRECTORY) as usize - UNICODE.len()) / 2;

/// Whether a JPEG has room for the comment `text`.
pub(super) fn fits_jpeg(text: &str) -> bool {
    text.encode_utf16().nth(ROOM).is_none()
}

/// As much of `text` as a JPEG has room for.
pub(super) fn cut_for_jpeg(text: &str) -> &str {
    let mut units = 0;
    let whole = |(_, letter): &(usize, char)| {
        units += letter.len_utf16();
        units > ROOM
    };
    let cut = text.char_indices().find(whole);
    cut.map_or(text, |(at, _)| &text[..at])
}

/// A TIFF block whose user comment is `text`.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let characters = text.encode_utf16().flat_map(u16::to_be_bytes);
    let value: Vec<u8> = UNICODE.iter().copied().chain(characters).collect();
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let mut block = b"MM\0\x2a".to_vec();
    block.extend(HEADER.to_be_bytes());
    block.extend(directory(EXIF_DIRECTORY, LONG, 1, SECOND));
    block.extend(directory(
        USER_COMMENT,
        UNDEFINED,
        length,
        SECOND + DIRECTORY,
    ));
    block.extend(value);
    block
}

/// A block without the name that it has in a JPEG, and that some programs put before it elsewhere too.
pub(super) fn bare(block: &[u8]) -> &[u8] {
    block.strip_prefix(b"Exif\0\0").unwrap_or(block)
}

/// The text of a block that [`comment`] made; `None` for one of another shape.
pub(super) fn text(block: &[u8]) -> Option<String> {
    let block = bare(block);
    let model = comment("");
    let (head, value) = block.split_at_checked(model.len())?;
    // All but the length of the comment is always the same.
    let length = SECOND as usize + 2 + 4;
    let alike = head[..length] == model[..length] && head[length + 4..] == model[length + 4..];
    let units = value.chunks_exact(2);
    let units = units.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).filter_map(Result::ok).collect();
    alike.then_some(text)
}

/// A directory of one entry, after which there is none.
fn directory(tag: u16, kind: u16, count: u32, value: u32) -> Vec<u8> {
    let mut bytes = 1u16.to_be_bytes().to_vec();
    bytes.extend(tag.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend(value.to_be_bytes());
    bytes.extend(0u32.to_be_bytes());
    bytes
}
