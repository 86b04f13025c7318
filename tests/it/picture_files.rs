//! Picture files of the kinds people have: read as Pillow reads them, or refused, and what is dropped is said.
//!
//! `tests/fixtures/pictures/make.py` has made the files, and beside each what Pillow's `convert("RGB")` makes of it.

use std::path::{Path, PathBuf};

use afterimage::{
    Error,
    image_io::{Dropped, Picture},
};

use crate::fixture::fixture;

fn folder() -> PathBuf {
    fixture("pictures")
}

fn read(path: &Path) -> (Result<Picture, Error>, Vec<Dropped>) {
    let mut dropped = Vec::new();
    let read = Picture::read_with(path, &mut |one| dropped.push(one));
    (read, dropped)
}

/// Each file, how far a channel may lie from Pillow's, and what is dropped of it. JPEG and lossy WebP leave a decoder some freedom.
const FILES: [(&str, u8, &[Dropped]); 27] = [
    ("baseline.jpg", 6, &[]),
    ("progressive.jpg", 6, &[]),
    ("restarts.jpg", 6, &[]),
    ("grey.jpg", 2, &[]),
    ("cmyk.jpg", 4, &[Dropped::Inks]),
    ("profile.jpg", 6, &[Dropped::Profile]),
    ("srgb.jpg", 6, &[]),
    ("turned.jpg", 6, &[]),
    ("lossy.webp", 6, &[]),
    ("lossless.webp", 0, &[]),
    ("alpha.webp", 6, &[Dropped::Alpha]),
    ("moving.webp", 0, &[Dropped::Frames]),
    ("moving.gif", 0, &[Dropped::Frames]),
    ("still.gif", 0, &[]),
    ("moving.png", 0, &[Dropped::Frames]),
    ("alpha.png", 0, &[Dropped::Alpha]),
    ("opaque.png", 0, &[]),
    ("palette.png", 0, &[]),
    ("palette-alpha.png", 0, &[Dropped::Alpha]),
    ("grey.png", 0, &[]),
    ("bits.png", 0, &[]),
    ("scan.tif", 0, &[]),
    ("pages.tif", 0, &[Dropped::Pages]),
    ("inks.tif", 1, &[Dropped::Inks]),
    ("plain.bmp", 0, &[]),
    ("plain.tga", 0, &[]),
    ("plain.ppm", 0, &[]),
];

#[test]
fn files_are_read_as_by_pillow() {
    for (name, allowed, expected) in FILES {
        let path = folder().join(name);
        let (picture, dropped) = read(&path);
        let picture = picture.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(dropped, expected, "{name}");
        let theirs = image::open(folder().join(format!("{name}.png")));
        let theirs = Picture::from(theirs.expect("a PNG").into_rgb8());
        let sides = |picture: &Picture| (picture.width(), picture.height());
        assert_eq!(sides(&picture), sides(&theirs), "{name}");
        let pairs = picture.pixels().iter().zip(theirs.pixels());
        let worst = pairs.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(allowed), "{name}: {worst:?}");
    }
}

/// Cut at any length, a file is refused, or is read as if nothing were missing: nothing is filled in.
#[test]
fn files_that_are_cut_off_are_refused() {
    let place = tempfile::tempdir().expect("a folder");
    for (name, _, _) in FILES {
        let whole = std::fs::read(folder().join(name)).expect("a file");
        let picture = read(&folder().join(name)).0.expect("a picture");
        let path = place.path().join(name);
        let mut refused = 0;
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("a file");
            match read(&path).0 {
                Ok(read) => assert!(read == picture, "{name}: {length} of {} bytes", whole.len()),
                Err(error) => {
                    let message = error.to_string();
                    assert!(error.is_file() && message.contains("hint: "), "{message}");
                    assert!(message.ends_with(name), "{message}");
                    refused += 1;
                }
            }
        }
        assert!(3 * refused > whole.len(), "{name}: {refused} refused");
    }
}

/// Changed at any place, a file never ends the program; a picture stays as large as it says.
#[test]
fn files_that_are_damaged_do_no_harm() {
    let place = tempfile::tempdir().expect("a folder");
    for (name, _, _) in FILES {
        let whole = std::fs::read(folder().join(name)).expect("a file");
        let path = place.path().join(name);
        for at in (0..whole.len()).step_by(1 + whole.len() / 150) {
            for flipped in [0xff, 0x10] {
                let mut damaged = whole.clone();
                damaged[at] ^= flipped;
                std::fs::write(&path, &damaged).expect("a file");
                if let Ok(picture) = read(&path).0 {
                    let (width, height) = (picture.width(), picture.height());
                    assert_eq!(picture.pixels().len(), 3 * width * height, "{name} at {at}");
                }
            }
        }
    }
}

#[test]
fn sixteen_bits_become_eight_and_it_is_said() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("deep.png");
    let deep = image::ImageBuffer::from_fn(4, 2, |x, _| image::Rgb([257 * (10 * x as u16); 3]));
    image::DynamicImage::ImageRgb16(deep)
        .save(&path)
        .expect("a file");
    let (picture, dropped) = read(&path);
    assert_eq!(dropped, [Dropped::Depth(16)]);
    assert_eq!(picture.expect("a picture").pixel(3, 1), Some([30; 3]));
    assert!(dropped[0].to_string().contains("16 bits a channel"));
}

/// Some programs add to a `WebP`, or begin its Exif as in a JPEG.
#[test]
fn webps_are_read_to_their_end_and_turned() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("a.webp");
    let plain = folder().join("lossless.webp");
    let upright = read(&plain).0.expect("a picture");
    let mut bytes = std::fs::read(plain).expect("a file");
    bytes.extend_from_slice(b"\nmore than its length says");
    std::fs::write(&path, &bytes).expect("a file");
    assert!(read(&path).0.expect("a picture") == upright);
    // Lies on its side: orientation 6.
    let turned = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let (width, height) = (upright.width(), upright.height());
    for name in [&b""[..], b"Exif\0\0"] {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
        let block = [name, turned].concat();
        image::ImageEncoder::set_exif_metadata(&mut encoder, block).expect("room");
        let [wide, high] = [width, height].map(|side| side as u32);
        let pixels = upright.pixels();
        let written = encoder.encode(pixels, wide, high, image::ExtendedColorType::Rgb8);
        written.expect("a picture");
        std::fs::write(&path, &bytes).expect("a file");
        let picture = read(&path).0.expect("a picture");
        assert_eq!((picture.width(), picture.height()), (height, width));
        assert_eq!(picture.pixel(0, 0), upright.pixel(0, height - 1));
    }
}

/// What a format has and the decoders have not is no damage, and no other format helps by its name.
#[test]
fn kinds_of_formats_that_are_not_read_are_told_so() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("a.tif");
    // One pixel of 8 bits, its photometric interpretation CIELab.
    let mut tiff = b"II*\0\x08\0\0\0\x07\0".to_vec();
    let entries: [(u16, u16, u32); 7] = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 8),
        (273, 4, 8),
        (279, 4, 1),
    ];
    for (tag, kind, value) in entries {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(1_u32.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([0; 4]);
    let apples = b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBIP\0 \x02\0\0\0\0".to_vec();
    for bytes in [tiff, apples] {
        std::fs::write(&path, bytes).expect("a file");
        let error = read(&path).0.expect_err("not read").to_string();
        let hint =
            "hint: the format is read, this kind of it is not: save the picture as a plain PNG";
        assert!(error.contains(hint), "{error}");
    }
}

/// The formats of phones and of other programs, by their first bytes.
#[test]
fn foreign_pictures_are_called_by_their_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let heads: [(&[u8], &str); 12] = [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "the format HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "the format HEIC"),
        (b"\xff\x0a\xfa\x7f", "the format JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0", "the format JPEG 2000"),
        (b"8BPS\0\x01\0\0", "the format Photoshop"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "the format AVIF"),
        (b"#?RADIANCE\n", "the format HDR"),
        (b"\0\0\x01\0\x01\0\x10\x10", "the format ICO"),
        (
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "the format SVG",
        ),
        (b"\0\0\0\x18ftypisom\0\0\x02\0isommp41", "the format MP4"),
        (b"", "the file is empty\nhint: the file is damaged"),
        (b"\0\0\0\x18ftyp", "no format that is known"),
    ];
    for (head, word) in heads {
        let path = folder.path().join("photo.png");
        std::fs::write(&path, head).expect("a file");
        let error = read(&path).0.expect_err("no picture").to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn pictures_without_pixels_and_foreign_formats_are_refused_by_name() {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().join("empty.ppm");
    let said = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("a file");
        read(&path).0.expect_err("no picture").to_string()
    };
    assert!(said(b"P6 0 5 255\n").contains("cannot read the picture: "));
    let flat = said(b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\0\0\0\x05\0\0\0\x01\0\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert!(flat.contains("cannot read the picture: "), "{flat}");
    let avif = said(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1");
    assert!(avif.contains("hint: PNG, JPEG, WebP, GIF"), "{avif}");
    let text = said(b"a text");
    assert!(text.contains("begins like no format"), "{text}");
    let absent = read(&place.path().join("absent.png")).0;
    let absent = absent.expect_err("nothing there").to_string();
    assert!(!absent.contains("hint"), "{absent}");
}
