//! The settings that a file of a picture or a film holds, ours or another program's, read back.
//!
//! | file | place |
//! |---|---|
//! | PNG, animated or not | text chunks |
//! | JPEG, `WebP` | Exif's user comment |
//! | GIF | its first comment |
//! | MP4 | the description |
//!
//! Sources: as of the files that write them; ISO/IEC 14496-12, 4.2 (boxes) and Apple, `QuickTime` File Format, "Metadata item list".

use std::io::Cursor;

use image::{ImageDecoder, codecs::jpeg::JpegDecoder, codecs::webp::WebPDecoder};

use super::{exif, texts::pairs, whole};

/// Bytes of a text beyond which none is unpacked: a small file can describe one that fills all memory.
const MOST_TEXT: usize = 1 << 20;

/// Keys and texts, in the order of the file.
pub type Settings = Vec<(String, String)>;

/// What a file holds; nothing where it has no place for settings or they are damaged. `None` for files that are neither a picture nor a
/// film of these formats.
pub fn settings(bytes: &[u8]) -> Option<Settings> {
    const JPEG: &[u8] = b"\xff\xd8\xff";
    if bytes.starts_with(b"\x89PNG") {
        return Some(png(bytes).unwrap_or_default());
    }
    let comment = if bytes.starts_with(JPEG) {
        let decoder = JpegDecoder::new(Cursor::new(bytes));
        decoder.ok().and_then(exif_comment)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        // Its reader takes as much memory as a part says it has.
        let bytes = whole::kept_word(whole::to_its_end(bytes));
        let whole = whole::webp(&bytes).is_ok();
        let decoder = whole.then(|| WebPDecoder::new(Cursor::new(&*bytes)).ok());
        decoder.flatten().and_then(exif_comment)
    } else if bytes.starts_with(b"GIF8") {
        whole::gif_comment(bytes)
    } else if bytes.get(4..8) == Some(b"ftyp") {
        description(bytes).map(<[u8]>::to_vec)
    } else {
        return None;
    };
    let text = comment.map(|comment| String::from_utf8_lossy(&comment).into_owned());
    Some(text.map(|text| pairs(&text)).unwrap_or_default())
}

fn png(bytes: &[u8]) -> Option<Settings> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().ok()?;
    // Other programs put texts after the pixels too.
    let _ = reader.finish();
    let info = reader.info();
    let utf8 = info.utf8_text.iter().filter_map(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MOST_TEXT).ok()?;
        Some((chunk.keyword.clone(), chunk.get_text().ok()?))
    });
    let plain = info.uncompressed_latin1_text.iter();
    let plain = plain.map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let packed = info.compressed_latin1_text.iter().filter_map(|chunk| {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MOST_TEXT).ok()?;
        Some((chunk.keyword.clone(), chunk.get_text().ok()?))
    });
    Some(utf8.chain(plain).chain(packed).collect())
}

fn exif_comment(mut decoder: impl ImageDecoder) -> Option<Vec<u8>> {
    let block = decoder.exif_metadata().ok()??;
    exif::text(&block).map(String::into_bytes)
}

/// The text of a film's description, below five boxes, of which one has four bytes before what it holds.
fn description(file: &[u8]) -> Option<&[u8]> {
    let moov = boxed(file, *b"moov")?;
    let meta = boxed(boxed(moov, *b"udta")?, *b"meta")?;
    let list = boxed(meta.get(4..)?, *b"ilst")?;
    let data = boxed(boxed(list, *b"desc")?, *b"data")?;
    // Before the text, its type and its language.
    data.get(8..)
}

/// What the first box of this name holds.
fn boxed(mut rest: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    const HEADER: usize = 8;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let whole = rest.get(..length).filter(|_| length >= HEADER)?;
        if whole[4..HEADER] == name {
            return Some(&whole[HEADER..]);
        }
        rest = &rest[length..];
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU16, path::Path};

    use super::*;
    use crate::image_io::{Film, Picture};

    fn told() -> Settings {
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        vec![
            pair("prompt", "a fox, naïve ❤"),
            pair("recipe", r#"{"seed":7}"#),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let picture = Picture::filled(16, 16, [7, 99, 200]);
        let mut files = Vec::new();
        for name in ["a.png", "a.jpg", "a.webp"] {
            let path = folder.path().join(name);
            picture.save(&path, &told()).expect("a file");
            files.push(path);
        }
        let rate = NonZeroU16::MIN;
        let film = Film::new(vec![picture.clone(), picture], rate);
        let films: &[&str] = if cfg!(feature = "video") {
            &["b.png", "b.gif", "b.mp4"]
        } else {
            &["b.png", "b.gif"]
        };
        for name in films {
            let path = folder.path().join(name);
            film.save(&path, &told()).expect("a file");
            files.push(path);
        }
        for path in files {
            let bytes = std::fs::read(&path).expect("the file");
            assert_eq!(settings(&bytes), Some(told()), "{}", path.display());
        }
    }

    #[test]
    fn other_files_have_none() {
        assert_eq!(settings(b"plain text"), None);
        assert_eq!(settings(b""), None);
        assert_eq!(settings(b"GIF89a"), Some(Vec::new()));
        assert_eq!(settings(b"\x89PNG and no more"), Some(Vec::new()));
        assert_eq!(settings(b"\xff\xd8\xff"), Some(Vec::new()));
        let mut film = b"\0\0\0\x08ftyp\0\0\0\x07moov".to_vec();
        assert_eq!(settings(&film), Some(Vec::new()), "a box below its header");
        film.truncate(10);
        assert_eq!(settings(&film), Some(Vec::new()));
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
        for entry in std::fs::read_dir(fixture).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            let found = settings(&bytes).unwrap_or_default();
            assert!(found.iter().all(|(key, _)| key != "recipe"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_stop_the_reader(kind in 0..5_usize, rest in proptest::collection::vec(0..=255_u8, 0..400)) {
            let heads: [&[u8]; 5] = [
                b"\x89PNG\r\n\x1a\n",
                b"\xff\xd8\xff",
                b"RIFF\x20\0\0\0WEBP",
                b"GIF89a\x01\0\x01\0\x80\0\0",
                b"\0\0\0\x08ftyp",
            ];
            let found = settings(&[heads[kind], &rest].concat());
            proptest::prop_assert!(found.is_some());
        }
    }
}
