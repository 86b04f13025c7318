//! Pictures that leave and come back.

use std::{fs::File, io::BufReader};

use afterimage::{
    device::{DeviceChoice, open},
    image_io::{Picture, read_picture},
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

    let device = open(DeviceChoice::Cpu).expect("the processor");
    let tensor = read_picture(&path, device.device()).expect("a picture");
    assert_eq!(tensor.dims(), [3, 2, 2]);
    let back = Picture::from_tensor(tensor).expect("numbers");
    assert_eq!(back, picture);
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

#[test]
fn what_is_no_picture_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = open(DeviceChoice::Cpu).expect("the processor");
    let path = folder.path().join("notes.png");
    for content in [&b"not a picture"[..], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"] {
        std::fs::write(&path, content).expect("a file");
        let error = read_picture(&path, device.device()).expect_err("no picture");
        assert!(error.is_file());
        let message = error.to_string();
        assert!(
            message.starts_with("cannot read the picture: "),
            "{message}"
        );
        assert!(message.ends_with("notes.png"), "{message}");
    }
}
