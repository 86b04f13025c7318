//! Every format read back with another's eyes: by the crates that read it, or byte by byte.

use std::{fs, io::Cursor};

use super::*;

const FPS: NonZeroU16 = NonZeroU16::new(7).expect("not zero");

/// Four frames, a white square that moves to the right before grey, of few colours.
fn moving() -> Film {
    film(|frame, x, y| {
        let inside = (4 * frame..4 * frame + 6).contains(&x) && (5..11).contains(&y);
        if inside {
            [250, 250, 250]
        } else {
            [90, 120, 90]
        }
    })
}

fn film(colour: impl Fn(usize, usize, usize) -> [u8; 3]) -> Film {
    let frame = |index| Picture::from_fn(24, 18, |x, y| colour(index, x, y));
    Film::new((0..4).map(frame).collect(), FPS)
}

fn settings() -> Vec<(String, String)> {
    let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
    vec![pair("prompt", "a white square, naïve"), pair("seed", "7")]
}

fn encoded(film: &Film, format: FilmFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    film.encode(&mut bytes, format, &settings())
        .expect("a film");
    bytes
}

#[test]
fn apng_holds_every_pixel_the_pace_and_the_settings() {
    let film = moving();
    let bytes = encoded(&film, FilmFormat::Apng);
    let mut reader = png::Decoder::new(Cursor::new(bytes))
        .read_info()
        .expect("a PNG");
    let animation = reader.info().animation_control.expect("animated");
    assert_eq!((animation.num_frames, animation.num_plays), (4, 0));
    assert_eq!(reader.info().utf8_text.len(), 2);
    for frame in film.frames() {
        let mut pixels = vec![0; 24 * 18 * 3];
        reader.next_frame(&mut pixels).expect("a frame");
        assert_eq!(pixels, frame.pixels());
        let control = reader.info().frame_control.expect("a frame's control");
        assert_eq!((control.delay_num, control.delay_den), (1, 7));
    }
}

fn gif_frames(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u16>) {
    let mut options = ::gif::DecodeOptions::new();
    options.set_color_output(::gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(bytes).expect("a GIF");
    assert_eq!(decoder.repeat(), ::gif::Repeat::Infinite);
    let (mut frames, mut delays) = (Vec::new(), Vec::new());
    while let Some(frame) = decoder.read_next_frame().expect("a frame") {
        let opaque = frame.buffer.chunks_exact(4).flat_map(|pixel| &pixel[..3]);
        frames.push(opaque.copied().collect());
        delays.push(frame.delay);
    }
    (frames, delays)
}

#[test]
fn a_gif_of_few_colours_is_exact_and_keeps_its_pace() {
    let film = moving();
    let bytes = encoded(&film, FilmFormat::Gif);
    let (frames, delays) = gif_frames(&bytes);
    assert_eq!(
        frames,
        film.frames()
            .iter()
            .map(|frame| frame.pixels().to_vec())
            .collect::<Vec<_>>()
    );
    assert_eq!(delays, [14, 15, 14, 14], "hundredths of a second");
    let comment = "prompt: a white square, naïve\nseed: 7".as_bytes();
    assert!(bytes.windows(comment.len()).any(|part| part == comment));
}

#[test]
fn a_gif_of_many_colours_is_near_and_does_not_flicker() {
    let ramp = film(|frame, x, y| {
        [
            x as u8 * 10,
            y as u8 * 14,
            if x < 12 { 40 } else { 60 + frame as u8 * 40 },
        ]
    });
    let (frames, _) = gif_frames(&encoded(&ramp, FilmFormat::Gif));
    let off = |read: &Vec<u8>, frame: &Picture| {
        let pairs = read.iter().zip(frame.pixels());
        let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        (sum / read.len() as f64).sqrt()
    };
    for (read, frame) in frames.iter().zip(ramp.frames()) {
        assert!(off(read, frame) < 8.0, "{}", off(read, frame));
    }
    let left = |read: &Vec<u8>| {
        read.chunks(24 * 3)
            .flat_map(|row| row[..36].to_vec())
            .collect::<Vec<_>>()
    };
    assert!(
        frames.iter().all(|read| left(read) == left(&frames[0])),
        "still pixels stay"
    );
}

#[test]
fn y4m_is_a_line_and_planes() {
    let film = moving();
    let bytes = encoded(&film, FilmFormat::Y4m);
    let header = b"YUV4MPEG2 W24 H18 F7:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n";
    let frames = bytes.strip_prefix(header).expect("its header");
    let (plane, frame) = (24 * 18, 6 + 3 * 24 * 18);
    assert_eq!(frames.len(), 4 * frame);
    let second = &frames[frame..2 * frame];
    assert!(second.starts_with(b"FRAME\n"));
    let at = |number: usize, x: usize, y: usize| second[6 + number * plane + y * 24 + x];
    assert_eq!([0, 1, 2].map(|number| at(number, 4, 5)), [231, 128, 128]);
    assert_eq!([0, 1, 2].map(|number| at(number, 3, 5)), [108, 119, 117]);
}

#[cfg(feature = "video")]
#[test]
fn an_mp4_says_where_its_frames_are() {
    use mp4_atom::{Codec, Decode as _, Ftyp, Ilst, Moov, StszSamples};

    let bytes = encoded(&moving(), FilmFormat::Mp4);
    let mut rest = &bytes[..];
    Ftyp::decode(&mut rest).expect("a brand");
    let found = Moov::decode(&mut rest).expect("a film");
    let (track, list) = (&found.trak[0], found.udta.and_then(|data| data.meta));
    let list = list.expect("settings");
    let description = list.get::<Ilst>().and_then(|list| list.desc.as_ref());
    let text = &description.expect("a description").text;
    assert_eq!(text, "prompt: a white square, naïve\nseed: 7");
    let header = &track.mdia.mdhd;
    assert_eq!(
        u64::from(header.timescale) * 4,
        header.duration * 7,
        "4 frames, 7 a second"
    );
    let table = &track.mdia.minf.stbl;
    let StszSamples::Different { sizes } = &table.stsz.samples else {
        panic!("frames of one size");
    };
    let start = table.stco.as_ref().expect("a place").entries[0] as usize;
    assert_eq!(sizes.len(), 4);
    assert_eq!(start + sizes.iter().sum::<u32>() as usize, bytes.len());
    assert_eq!(table.stss.as_ref().expect("keys").entries, [1]);
    let Codec::Av01(codec) = &table.stsd.codecs[0] else {
        panic!("another codec");
    };
    let shared = &codec.av1c.config_obus;
    assert!(!shared.is_empty() && bytes[start..].starts_with(shared));
}

#[test]
fn a_folder_gets_all_frames_or_none() {
    let place = tempfile::tempdir().expect("a folder");
    let frames = place.path().join("frames/");
    let folder = PathBuf::from(format!("{}/", frames.display()));
    let film = moving();
    check_film(&folder, 4).expect("a place");
    film.save(&folder, &settings()).expect("frames");
    let read = |index: usize| {
        Picture::read(&folder.join(format!("frame-000{index}.png"))).expect("a frame")
    };
    assert!((0..4).all(|index| read(index) == film.frames()[index]));
    film.save(&folder, &[]).expect("the same again");
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 4);
    let short = Film::new(film.frames()[..2].to_vec(), FPS);
    let error = short.save(&folder, &[]).expect_err("older frames");
    assert!(
        error.to_string().contains("2 frames of the new film"),
        "{error}"
    );
    assert!(check_film(&folder, 2).is_err());
    let broken = film.save(&place.path().join("missing/frames/"), &[]);
    assert!(broken.expect_err("no such folder").is_file());
}

#[test]
fn a_frame_that_cannot_be_written_leaves_no_new_folder() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("new/");
    let wrong = [("a\0b".to_owned(), "no key".to_owned())];
    assert!(moving().save(&folder, &wrong).is_err());
    assert!(!folder.exists());
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("frame-0001.png"), "before").expect("a file");
    assert!(moving().save(&folder, &wrong).is_err());
    assert_eq!(
        fs::read(folder.join("frame-0001.png")).expect("the file"),
        b"before"
    );
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 1);
}

#[test]
fn names_say_the_format_and_are_numbered() {
    let format = |name: &str| FilmFormat::of(Path::new(name)).ok();
    assert_eq!(format("a.PNG"), Some(FilmFormat::Apng));
    assert_eq!(format("a.gif"), Some(FilmFormat::Gif));
    assert_eq!(format("a.y4m"), Some(FilmFormat::Y4m));
    assert_eq!(format("a.jpg"), None);
    assert_eq!(format("a.mp4").is_some(), cfg!(feature = "video"));
    let paths = |name: &str| film_paths(Path::new(name), 2).expect("names");
    assert_eq!(
        paths("b/a.gif"),
        ["b/a-0.gif", "b/a-1.gif"].map(PathBuf::from)
    );
    let shown = |path: &PathBuf| path.display().to_string();
    assert_eq!(
        paths("b/a/").iter().map(shown).collect::<Vec<_>>(),
        ["b/a-0/", "b/a-1/"]
    );
    assert!(film_paths(Path::new("a.txt"), 1).is_err());
}

#[test]
fn a_device_that_is_full_is_told_in_the_middle_of_a_film() {
    let full = Path::new("/dev/full");
    if check_film(full, 4).is_err() {
        return; // Only Linux has it.
    }
    let error = moving().save(full, &[]).expect_err("no room");
    let message = error.to_string();
    assert!(message.starts_with("cannot write the film: "), "{message}");
    assert!(message.contains("hint: make room there"), "{message}");
}

#[test]
fn a_gif_shows_fifty_frames_a_second_at_most() {
    let rate = |fps| NonZeroU16::new(fps).expect("a rate");
    let shown = |name: &str, fps| shown_rate(Path::new(name), rate(fps)).get();
    assert_eq!((shown("a.gif", 50), shown("a.GIF", 60)), (50, 50));
    assert_eq!((shown("a.png", 60), shown("gif.gif/", 60)), (60, 60));
    let files = film_files(Path::new("frames/"), 2);
    let names = [
        "frames/frame-0000.png",
        "frames/frame-0001.png",
        "frames/recipe.json",
    ];
    assert_eq!(files, names.map(PathBuf::from));
}
