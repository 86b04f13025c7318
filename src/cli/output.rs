//! Where a run's pictures or films go, and where its account goes then.

use std::{
    io::{self, IsTerminal as _, Write as _},
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use super::console;
use crate::{
    error::{Error, OutputError, RequestError},
    image_io::{
        Film, FilmFormat, Picture, batch_paths, check_film, check_film_size, check_output_name,
        check_picture_size, check_writable, film_files, film_paths, frames_a_second, is_stdout,
        is_stream, shown_rate,
    },
    pipeline,
};

/// What `--output` calls the standard output.
const STDOUT: &str = "-";

/// What a run writes, one an item, of this height and width.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Pictures.
    Pictures { size: [usize; 2] },
    /// Films of so many frames, so many a second.
    Films {
        size: [usize; 2],
        frames: usize,
        fps: NonZeroU16,
    },
}

/// Where pictures or films go.
#[derive(Debug)]
pub(super) struct Output {
    shape: Shape,
    places: Places,
}

#[derive(Debug)]
enum Places {
    /// One picture or film to the standard output.
    Stdout,
    /// A file each, or a folder for the frames of a film.
    Files(Vec<PathBuf>),
}

impl Shape {
    /// Of items of so many frames, of this height and width, shown at so many a second.
    ///
    /// # Errors
    ///
    /// If no film has this many frames a second.
    pub(super) fn new(frames: usize, fps: usize, size: [usize; 2]) -> Result<Self, Error> {
        if frames < 2 {
            return Ok(Self::Pictures { size });
        }
        let fps = frames_a_second(fps)?;
        Ok(Self::Films { size, frames, fps })
    }

    /// What several are called.
    fn plural(self) -> &'static str {
        match self {
            Self::Pictures { .. } => "pictures",
            Self::Films { .. } => "films",
        }
    }

    /// The files of so many items.
    fn paths(self, named: &Path, items: usize) -> Result<Vec<PathBuf>, Error> {
        match self {
            Self::Pictures { .. } => batch_paths(named, items),
            Self::Films { .. } => film_paths(named, items),
        }
    }

    fn check(self, place: &Path) -> Result<(), Error> {
        match self {
            Self::Pictures { size } => {
                check_picture_size(place, size)?;
                check_writable(place, "the picture")
            }
            Self::Films { size, frames, .. } => {
                check_film_size(place, size)?;
                check_film(place, frames)
            }
        }
    }

    /// The files that the item at `place` has.
    fn files(self, place: &Path) -> Vec<PathBuf> {
        match self {
            Self::Pictures { .. } => vec![place.to_owned()],
            Self::Films { frames, .. } => film_files(place, frames),
        }
    }

    /// Says what a film's format makes of its rate.
    fn tell(self, place: &Path) {
        let Self::Films { fps, .. } = self else {
            return;
        };
        let shown = shown_rate(place, fps);
        if shown != fps {
            console::warning(&format!(
                "`{}` shows {shown} frames a second, not {fps}: a GIF has no shorter frames\nhint: ask for `--fps {shown}`, or for another format, as in .png or .y4m",
                place.display()
            ));
        }
    }
}

/// Refuses a name that no picture and no film could have, before anything is read.
///
/// # Errors
///
/// A request error if there is no such format, or none in this build.
pub(super) fn check_name(named: &Path) -> Result<(), Error> {
    if named.as_os_str() == STDOUT {
        return Ok(());
    }
    check_output_name(named)
}

impl Output {
    /// Nothing starts that could not be written in the end. `json` says that an object goes to the standard output.
    ///
    /// # Errors
    ///
    /// If `named` does not take so many items, cannot be written, or is where the object goes.
    pub(super) fn open(
        named: &Path,
        items: usize,
        shape: Shape,
        json: bool,
    ) -> Result<Self, Error> {
        let places = if named.as_os_str() == STDOUT {
            stdout(items, shape.plural())?
        } else {
            Places::Files(shape.paths(named, items)?)
        };
        let output = Self { shape, places };
        if json && output.takes_stdout() {
            return Err(OutputError::TwoOutputs.into());
        }
        output
            .files()
            .iter()
            .try_for_each(|file| shape.check(file))?;
        if let [first, ..] = output.files() {
            shape.tell(first);
        }
        Ok(output)
    }

    fn files(&self) -> &[PathBuf] {
        match &self.places {
            Places::Stdout => &[],
            Places::Files(files) => files,
        }
    }

    /// All files and folders that pictures and films go into, the standard output among them.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        match &self.places {
            Places::Stdout => vec![PathBuf::from("/dev/stdout")],
            Places::Files(files) => {
                let within = files.iter().flat_map(|file| self.shape.files(file));
                files.iter().cloned().chain(within).collect()
            }
        }
    }

    /// Whether a picture or a film goes where data are printed.
    fn takes_stdout(&self) -> bool {
        matches!(self.places, Places::Stdout) || self.files().iter().any(|file| is_stdout(file))
    }

    /// Writes what was made, with its texts.
    ///
    /// # Errors
    ///
    /// If a place does not take one.
    pub(super) fn write(
        &self,
        made: pipeline::Output,
        texts: &[(String, String)],
    ) -> Result<(), Error> {
        match made {
            pipeline::Output::Pictures(pictures) => self.write_pictures(&pictures, texts),
            pipeline::Output::Frames(films) => {
                let Shape::Films { fps, .. } = self.shape else {
                    return self.write_pictures(&films.concat(), texts);
                };
                let films = films.into_iter().map(|frames| Film::new(frames, fps));
                self.write_films(films, texts)
            }
        }
    }

    fn write_pictures(
        &self,
        pictures: &[Picture],
        texts: &[(String, String)],
    ) -> Result<(), Error> {
        let Places::Files(files) = &self.places else {
            return pictures.iter().try_for_each(|picture| {
                to_stdout(|bytes| picture.encode(bytes, texts).map_err(io::Error::other))
            });
        };
        let mut pairs = pictures.iter().zip(files);
        pairs.try_for_each(|(picture, file)| picture.save(file, texts))
    }

    fn write_films(
        &self,
        mut films: impl Iterator<Item = Film>,
        texts: &[(String, String)],
    ) -> Result<(), Error> {
        let Places::Files(files) = &self.places else {
            return films.try_for_each(|film| {
                to_stdout(|bytes| film.encode(bytes, FilmFormat::Y4m, texts))
            });
        };
        films
            .zip(files)
            .try_for_each(|(film, file)| film.save(file, texts))
    }

    /// Prints the account of a run, beside a picture on stderr.
    ///
    /// # Errors
    ///
    /// If stdout does not take it.
    pub(super) fn say(&self, text: &str) -> Result<(), Error> {
        if self.takes_stdout() {
            console::note(text);
            return Ok(());
        }
        console::data(text)
    }

    /// What the places are called.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.places {
            Places::Stdout => vec![STDOUT.into()],
            Places::Files(files) => files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
        }
    }
}

fn stdout(items: usize, what: &'static str) -> Result<Places, Error> {
    if items > 1 {
        return Err(RequestError::OneStream {
            given: STDOUT.to_owned(),
            count: items,
            what,
        }
        .into());
    }
    if io::stdout().is_terminal() {
        return Err(OutputError::Terminal.into());
    }
    // A program that throws the output away may have opened its place in the same way.
    if was_closed() {
        console::warning(
            "the standard output is closed, or keeps nothing of what goes there\nhint: send it on, as in `--output - > fox.png`, or name a file",
        );
    }
    Ok(Places::Stdout)
}

/// The folder and name of a file beside `named`, for what a run keeps: where that is no file, beside `silent`.
pub(super) fn file_beside<'a>(named: &'a Path, silent: &'a Path) -> &'a Path {
    if named.as_os_str() == STDOUT || is_stream(named) {
        silent
    } else {
        named
    }
}

/// Whether the standard output was closed: Rust's runtime opens `/dev/null` in its place, to be read and written, as no shell does.
#[cfg(target_os = "linux")]
fn was_closed() -> bool {
    const ACCESS: u32 = 0o3;
    const BOTH: u32 = 0o2;

    let place = std::fs::read_link("/proc/self/fd/1");
    let told = std::fs::read_to_string("/proc/self/fdinfo/1").unwrap_or_default();
    let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    let is_null = place.is_ok_and(|place| place == Path::new("/dev/null"));
    is_null && flags.is_some_and(|flags| flags & ACCESS == BOTH)
}

#[cfg(not(target_os = "linux"))]
fn was_closed() -> bool {
    false
}

/// In one piece, once it is encoded.
fn to_stdout(encode: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let encoded = encode(&mut bytes);
    console::written(encoded.and_then(|()| io::stdout().lock().write_all(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Height and width of the frames.
    const SIZE: [usize; 2] = [8, 16];

    fn films(frames: usize, count: usize) -> pipeline::Output {
        let film = |shade: usize| {
            let frame = move |index| Picture::filled(16, 8, [(40 * shade + 9 * index) as u8; 3]);
            (0..frames).map(frame).collect()
        };
        pipeline::Output::Frames((0..count).map(film).collect())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().display().to_string());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn films_of_a_batch_are_numbered_and_keep_their_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let shape = Shape::new(3, 7, SIZE).expect("a rate");
        let texts = [("prompt".to_owned(), "a fox".to_owned())];
        for name in ["a.gif", "a.png", "a.y4m"] {
            let output = Output::open(&folder.path().join(name), 2, shape, true).expect("places");
            output.write(films(3, 2), &texts).expect("films");
            assert_eq!(output.names().len(), 2);
        }
        let expected = [
            "a-0.gif", "a-0.png", "a-0.y4m", "a-1.gif", "a-1.png", "a-1.y4m",
        ];
        assert_eq!(names(folder.path()), expected);
        let png = std::fs::File::open(folder.path().join("a-1.png")).expect("a file");
        let png = png::Decoder::new(io::BufReader::new(png));
        let png = png.read_info().expect("a PNG");
        let frames = png
            .info()
            .animation_control
            .map(|control| control.num_frames);
        assert_eq!(frames, Some(3));
        assert_eq!(png.info().utf8_text[0].keyword, "prompt");
    }

    #[test]
    fn frames_go_into_a_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let named = place.path().join("frames/");
        let shape = Shape::new(2, 7, SIZE).expect("a rate");
        let output = Output::open(&named, 1, shape, false).expect("a place");
        assert!(!named.exists(), "nothing is made before the frames are");
        output.write(films(2, 1), &[]).expect("frames");
        assert_eq!(names(&named), ["frame-0000.png", "frame-0001.png"]);
    }

    #[test]
    fn names_of_the_other_kind_are_refused_before_a_run() {
        let refused = |name: &str, shape: Shape| {
            let error = Output::open(Path::new(name), 1, shape, false).expect_err(name);
            assert!(error.is_request(), "{name}");
            error.to_string()
        };
        let film = Shape::new(2, 7, SIZE).expect("a rate");
        for name in ["a.jpg", "a.webp", "a"] {
            let said = refused(name, film);
            assert!(said.contains("of no format that films are"), "{said}");
        }
        for name in ["a.gif", "a.y4m", "a.apng", "a.mp4"] {
            let said = refused(name, Shape::Pictures { size: SIZE });
            assert!(said.contains("is a film's"), "{said}");
        }
        if cfg!(not(feature = "video")) {
            let said = refused("a.mp4", film);
            assert!(said.contains("the Cargo feature `video`"), "{said}");
        }
        for rate in [0, 70_000] {
            let said = Shape::new(2, rate, SIZE).expect_err("no rate").to_string();
            assert!(said.starts_with("`fps` is "), "{said}");
        }
    }

    #[test]
    fn names_of_no_kind_are_refused_at_once() {
        for name in ["a.bmp", "a"] {
            assert!(check_name(Path::new(name)).is_err(), "{name}");
        }
        for name in ["a.jpg", "a.gif", "frames/", "-"] {
            assert!(check_name(Path::new(name)).is_ok(), "{name}");
        }
        let mp4 = check_name(Path::new("a.mp4"));
        assert_eq!(mp4.is_ok(), cfg!(feature = "video"));
    }
}
