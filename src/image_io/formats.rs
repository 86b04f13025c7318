//! Formats of files by their first bytes: those that are read, and the names of those that are not.

use image::ImageFormat;

/// What is read.
const READ: [ImageFormat; 8] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
    ImageFormat::Tga,
    ImageFormat::Pnm,
];

/// The same for messages.
pub(super) const NAMES: &str = "PNG, JPEG, WebP, GIF, BMP, TIFF, TGA and PNM pictures are read";

/// How files of formats that are not read begin.
const FOREIGN: [(&[u8], &str); 23] = [
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc", "JPEG XR"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"#?RADIANCE", "HDR"),
    (b"#?RGBE", "HDR"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"\0\0\x01\0", "ICO"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"farbfeld", "Farbfeld"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "XCF"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\x1a\x45\xdf\xa3", "WebM"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
];

/// Brands of the ISO base media format, which pictures and films share, by how they begin.
///
/// Source: ISO/IEC 14496-12, 4.3; ISO/IEC 23008-12, annex B (HEIF and HEIC); the AV1 Image File Format, section 6.
const BRANDS: [(&[u8], &str); 7] = [
    (b"avi", "AVIF"),
    (b"hei", "HEIC"),
    (b"hev", "HEIC"),
    (b"mif1", "HEIC"),
    (b"msf1", "HEIC"),
    (b"crx", "CR3"),
    (b"qt  ", "QuickTime"),
];

/// Bytes of a text that are looked through for what it is.
const HEAD: usize = 4096;

/// By the first bytes. TGA has none of its own and goes by `named`, the format that the file's name says, or by how its head is filled in.
pub(super) fn known(bytes: &[u8], named: Option<ImageFormat>) -> Option<ImageFormat> {
    let tga = || named == Some(ImageFormat::Tga) || is_tga(bytes);
    let guessed = image::guess_format(bytes).ok();
    match guessed {
        Some(format) => READ.contains(&format).then_some(format),
        None if foreign(bytes).is_none() && tga() => Some(ImageFormat::Tga),
        None => None,
    }
}

/// The name of a format that is not read.
pub(super) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let begins = |(head, _): &&(&[u8], &str)| bytes.starts_with(head);
    let found = FOREIGN.iter().find(begins).map(|(_, name)| *name);
    found.or_else(|| media(bytes)).or_else(|| text(bytes))
}

/// Whether a PNG is packed for Apple's devices: by a chunk before its head, which no other program reads.
pub(super) fn is_packed_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"CgBI")
}

/// Of pictures and films that are boxes or chunks.
fn media(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") {
        return Some("AVI");
    }
    match bytes.get(4..8)? {
        b"moov" | b"mdat" | b"wide" => Some("QuickTime"),
        b"ftyp" => {
            let brand = bytes.get(8..12)?;
            // A picture's own brand may stand among those that it is compatible with.
            let length = bytes
                .first_chunk()
                .map_or(0, |head| u32::from_be_bytes(*head));
            let end = bytes.len().min(length as usize);
            let brands = bytes.get(16..end).unwrap_or_default();
            if brand == b"mif1" && brands.chunks_exact(4).any(|brand| brand == b"avif") {
                return Some("AVIF");
            }
            let found = BRANDS.iter().find(|(head, _)| brand.starts_with(head));
            Some(found.map_or("MP4", |(_, name)| *name))
        }
        _ => None,
    }
}

/// Of texts: drawings, and pages that are sent where a picture was asked for.
fn text(bytes: &[u8]) -> Option<&'static str> {
    let head = &bytes[..bytes.len().min(HEAD)];
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let head = head.trim_ascii_start().to_ascii_lowercase();
    if !head.starts_with(b"<") {
        return None;
    }
    let has = |word: &[u8]| head.windows(word.len()).any(|found| found == word);
    // A page may have drawings in it.
    if has(b"<!doctype html") || has(b"<html") {
        return Some("HTML");
    }
    has(b"<svg").then_some("SVG")
}

/// Whether the head is filled in as that of a TGA file with pixels.
///
/// Source: Truevision TGA File Format Specification 2.0, fields 1 to 5.
fn is_tga(bytes: &[u8]) -> bool {
    let Some(&head) = bytes.first_chunk::<18>() else {
        return false;
    };
    let [_, mapped, kind, map @ .., depth, flags] = head;
    let colours = u16::from_le_bytes([map[2], map[3]]);
    let fits = match (mapped, kind) {
        (1, 1 | 9) => colours > 0 && matches!(map[4], 15 | 16 | 24 | 32) && matches!(depth, 8 | 16),
        (0, 2 | 10) => matches!(depth, 15 | 16 | 24 | 32),
        (0, 3 | 11) => matches!(depth, 8 | 16),
        _ => false,
    };
    let empty = |map: &[u8]| map.iter().all(|byte| *byte == 0);
    let has_pixels = !empty(&map[9..11]) && !empty(&map[11..13]);
    fits && (mapped == 1 || empty(&map[..5])) && has_pixels && flags & 0xc0 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_have_a_name() {
        let heads: [(&[u8], &str); 14] = [
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "AVIF"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x18ftypisom\0\0\x02\0isommp41", "MP4"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "QuickTime"),
            (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe", "HDR"),
            (b"\x76\x2f\x31\x01\x02\0\0\0", "OpenEXR"),
            (b"\0\0\x01\0\x01\0\x10\x10", "ICO"),
            (b"DDS |\0\0\0", "DDS"),
            (b"qoif\0\0\0\x10", "QOI"),
            (b"farbfeld\0\0\0\x10", "Farbfeld"),
            (b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<svg xmlns=", "SVG"),
            (b"\n<!DOCTYPE html><title>404</title><svg>", "HTML"),
            (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        ];
        for (head, name) in heads {
            assert_eq!((known(head, None), foreign(head)), (None, Some(name)));
        }
        for head in [&b""[..], b"a text", b"\0\0\0\x18ftyp", b"<a>"] {
            assert_eq!((known(head, None), foreign(head)), (None, None));
        }
    }

    #[test]
    fn packed_pngs_are_told_apart() {
        assert!(is_packed_png(b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBIP\0 \x02"));
        assert!(!is_packed_png(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR") && !is_packed_png(b"CgBI"));
    }

    #[test]
    fn a_tga_is_known_by_how_its_head_is_filled_in() {
        let mut head = [0; 18];
        (head[2], head[12], head[14], head[16]) = (2, 40, 24, 24);
        assert_eq!(known(&head, None), Some(ImageFormat::Tga));
        for (at, byte) in [(2, 7), (5, 1), (12, 0), (16, 12), (17, 0x80)] {
            let mut other = head;
            other[at] = byte;
            assert_eq!(known(&other, None), None, "{at}");
            assert_eq!(
                known(&other, Some(ImageFormat::Tga)),
                Some(ImageFormat::Tga)
            );
        }
    }
}
