//! Pictures that leave and come back.

use std::{fs::File, io::BufReader};

use afterimage::{
    device::{DeviceChoice, open},
    image_io::{Mask, Picture},
};
use burn::tensor::Tensor;

/// `[3, 2, 2]` in 0 to 1, every value a multiple of 1/255.
const PLANES: [f32; 12] = [0.0, 1.0, 0.2, 0.4, 1.0, 0.0, 0.6, 0.8, 0.0, 0.0, 1.0, 1.0];

#[test]
fn a_png_carries_its_texts_and_its_pixels() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("picture.png");
    let picture = Picture::from_planes(&PLANES, 2, 2).expect("numbers");
    let texts = [("prompt", "ein roter Würfel ❤"), ("seed", "7")];
    let texts = texts.map(|(key, text)| (key.to_owned(), text.to_owned()));
    picture.save(&path, &texts).expect("a file");

    let file = BufReader::new(File::open(&path).expect("the file"));
    let reader = png::Decoder::new(file).read_info().expect("a PNG");
    let chunks = &reader.info().utf8_text;
    let read: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.get_text().expect("text")))
        .collect();
    assert_eq!(read, texts);

    let read = Picture::read(&path).expect("a picture");
    assert_eq!(read, picture);
    let device = open(DeviceChoice::Cpu).expect("the processor");
    let tensor = read.to_tensor(device.device());
    assert_eq!(tensor.dims(), [1, 3, 2, 2]);
    let back = Picture::from_batch(tensor).expect("numbers");
    assert_eq!(back, [picture]);
}

#[cfg(unix)]
#[test]
fn a_written_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a folder");
    let [ours, usual] = ["ours.png", "usual"].map(|name| folder.path().join(name));
    let picture = Picture::filled(1, 1, [0; 3]);
    picture.save(&ours, &[]).expect("a file");
    File::create(&usual).expect("a file");
    let mode = |path| {
        std::fs::metadata(path)
            .expect("a file")
            .permissions()
            .mode()
    };
    assert_eq!(mode(ours), mode(usual));
}

#[test]
fn tensors_of_any_layout_are_read_back_in_order() {
    let device = open(DeviceChoice::Cpu).expect("the processor");
    let planes = Tensor::<1>::from_floats(PLANES, device.device()).reshape([3, 2, 2]);
    let turned = planes.swap_dims(1, 2);
    let picture = Picture::from_tensor(turned).expect("numbers");
    assert_eq!(picture.pixels()[3..6], [51, 153, 255]);
}

/// Fails, names the file, and says why.
#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, afterimage::Error>, reason: &str, file: &str) {
    let error = outcome.expect_err("no picture");
    assert!(error.is_file(), "{error}");
    let message = error.to_string();
    assert!(message.contains(reason), "{message}");
    assert!(message.ends_with(file), "{message}");
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.png");
    let picture = Picture::from_fn(64, 64, |x, y| [(x * y) as u8, x as u8, y as u8]);
    let mut cut = Vec::new();
    picture.encode(&mut cut, &[]).expect("a PNG");
    cut.truncate(cut.len() / 2);
    for content in [
        &b"not a picture"[..],
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"",
        &cut,
    ] {
        std::fs::write(&path, content).expect("a file");
        refused(
            Picture::read(&path),
            "cannot read the picture: ",
            "notes.png",
        );
    }
    refused(
        Picture::read(&folder.path().join("absent.png")),
        "cannot read the picture: ",
        "absent.png",
    );
}

/// PNGs of a few bytes that would decode to gigabytes.
#[test]
fn a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bomb.png");
    for side in [60_000, 30_000] {
        let file = File::create(&path).expect("a file");
        let mut encoder = png::Encoder::new(file, side, side);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().expect("a header");
        let nothing = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
        writer
            .write_chunk(png::chunk::IDAT, &nothing)
            .expect("a chunk");
        drop(writer);
        refused(
            Picture::read(&path),
            &format!("the picture has {side}x{side} pixels"),
            "bomb.png",
        );
    }
}

#[test]
fn a_dark_mask_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mask.png");
    let dark = Picture::filled(8, 8, [100; 3]);
    dark.save(&path, &[]).expect("a file");
    refused(Mask::read(&path), "the mask is dark all over", "mask.png");
}

/// Bytes of a JPEG whose EXIF says *turn by 90 degrees clockwise* (orientation 6).
fn turned_jpeg(picture: &Picture) -> Vec<u8> {
    let buffer = image::RgbImage::from_raw(
        picture.width() as u32,
        picture.height() as u32,
        picture.pixels().to_vec(),
    );
    let mut jpeg = std::io::Cursor::new(Vec::new());
    let buffer = buffer.expect("a picture");
    buffer
        .write_to(&mut jpeg, image::ImageFormat::Jpeg)
        .expect("a JPEG");
    let jpeg = jpeg.into_inner();
    let tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let exif = [&b"Exif\0\0"[..], tiff].concat();
    let length = u16::try_from(exif.len() + 2).expect("a short segment");
    let segment = [&[0xff, 0xe1][..], &length.to_be_bytes(), &exif].concat();
    [&jpeg[..2], &segment, &jpeg[2..]].concat()
}

#[test]
fn photographs_are_turned_upright() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("photo.jpg");
    // Red on the left of the file, so red on top when upright.
    let lying = Picture::from_fn(
        32,
        16,
        |x, _| if x < 16 { [250, 0, 0] } else { [0, 0, 250] },
    );
    std::fs::write(&path, turned_jpeg(&lying)).expect("a file");
    let upright = Picture::read(&path).expect("a photograph");
    assert_eq!((upright.width(), upright.height()), (16, 32));
    let [red, _, blue] = upright.pixel(8, 4).expect("a pixel");
    assert!(red > 200 && blue < 50, "{red} {blue}");
}

#[test]
fn every_format_that_is_named_is_read() {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tga, Tiff, WebP};

    let folder = tempfile::tempdir().expect("a folder");
    let picture = image::RgbImage::from_pixel(9, 7, image::Rgb([200, 30, 90]));
    for format in [Bmp, Gif, Jpeg, Png, Pnm, Tga, Tiff, WebP] {
        let path = folder
            .path()
            .join(format!("picture.{}", format.extensions_str()[0]));
        picture.save_with_format(&path, format).expect("a file");
        let read = Picture::read(&path).unwrap_or_else(|error| panic!("{format:?}: {error}"));
        let pixel = read.pixel(4, 3).expect("a pixel");
        let near = pixel
            .iter()
            .zip([200, 30, 90])
            .all(|(&a, b)| a.abs_diff(b) < 8);
        assert!(
            near && (read.width(), read.height()) == (9, 7),
            "{format:?}: {pixel:?}"
        );
    }
}

/// Against Pillow 12: `Image.resize(…, LANCZOS)` of the picture below; Pillow rounds to bytes between the two passes.
#[test]
fn pictures_are_resized_as_by_pillow() {
    let picture = Picture::from_fn(24, 20, |x, y| {
        [
            (x * 10) as u8,
            (y * 12) as u8,
            if (x / 4 + y / 4) % 2 == 0 { 255 } else { 0 },
        ]
    });
    for (width, height, expected) in RESIZED {
        let found = picture.resized(width, height);
        let worst = found
            .pixels()
            .iter()
            .zip(expected)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert_eq!(found.pixels().len(), expected.len());
        assert!(worst <= Some(1), "{width}x{height}: {worst:?}");
    }
}

/// Width, height, pixels.
#[rustfmt::skip]
const RESIZED: [(usize, usize, &[u8]); 2] = [
    (7, 5, &[12, 18, 232, 46, 18, 48, 81, 18, 172, 115, 18, 128, 149, 18, 83, 184, 18, 207, 218, 18, 23, 12, 65, 42, 46, 65, 193, 81, 65, 91, 115, 65, 128, 149, 65, 164, 184, 65, 62, 218, 65, 213, 12, 114, 213, 46, 114, 62, 81, 114, 164, 115, 114, 128, 149, 114, 91, 184, 114, 193, 218, 114, 42, 12, 163, 42, 46, 163, 193, 81, 163, 91, 115, 163, 128, 149, 163, 164, 184, 163, 62, 218, 163, 213, 12, 210, 232, 46, 210, 48, 81, 210, 172, 115, 210, 128, 149, 210, 83, 184, 210, 207, 218, 210, 23]),
    (9, 6, &[8, 14, 255, 35, 14, 125, 62, 14, 0, 88, 14, 255, 115, 14, 127, 142, 14, 0, 168, 14, 255, 195, 14, 130, 222, 14, 0, 8, 53, 35, 35, 53, 129, 62, 53, 220, 88, 53, 35, 115, 53, 127, 142, 53, 220, 168, 53, 35, 195, 53, 126, 222, 53, 220, 8, 94, 162, 35, 94, 127, 62, 94, 93, 88, 94, 162, 115, 94, 127, 142, 94, 93, 168, 94, 162, 195, 94, 128, 222, 94, 93, 8, 134, 162, 35, 134, 127, 62, 134, 93, 88, 134, 162, 115, 134, 127, 142, 134, 93, 168, 134, 162, 195, 134, 128, 222, 134, 93, 8, 175, 35, 35, 175, 129, 62, 175, 220, 88, 175, 35, 115, 175, 127, 142, 175, 220, 168, 175, 35, 195, 175, 126, 222, 175, 220, 8, 214, 255, 35, 214, 125, 62, 214, 0, 88, 214, 255, 115, 214, 127, 142, 214, 0, 168, 214, 255, 195, 214, 130, 222, 214, 0]),
];
