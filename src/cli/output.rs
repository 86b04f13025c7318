//! Where a run's pictures or films go, and where its account goes then.

use std::{
    io::{self, IsTerminal as _, Write as _},
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use super::console;
use crate::{
    error::{Error, RequestError},
    image_io::{
        Film, FilmFormat, Picture, batch_paths, check_film, check_output_name, check_writable,
        film_paths, frames_a_second, is_stdout, is_stream,
    },
    pipeline,
};

/// What `--output` calls the standard output.
const STDOUT: &str = "-";

/// What a run writes, one an item.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Pictures.
    Pictures,
    /// Films of so many frames, so many a second.
    Films { frames: usize, fps: NonZeroU16 },
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
    /// Of items of so many frames, shown at so many a second.
    ///
    /// # Errors
    ///
    /// If no film has this many frames a second.
    pub(super) fn new(frames: usize, fps: usize) -> Result<Self, Error> {
        if frames < 2 {
            return Ok(Self::Pictures);
        }
        let fps = frames_a_second(fps)?;
        Ok(Self::Films { frames, fps })
    }

    /// What several are called.
    fn plural(self) -> &'static str {
        match self {
            Self::Pictures => "pictures",
            Self::Films { .. } => "films",
        }
    }

    /// The files of so many items.
    fn paths(self, named: &Path, items: usize) -> Result<Vec<PathBuf>, Error> {
        match self {
            Self::Pictures => batch_paths(named, items),
            Self::Films { .. } => film_paths(named, items),
        }
    }

    fn check(self, place: &Path) -> Result<(), Error> {
        match self {
            Self::Pictures => check_writable(place, "the picture"),
            Self::Films { frames, .. } => check_film(place, frames),
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
            return Err(RequestError::TwoOutputs.into());
        }
        output
            .files()
            .iter()
            .try_for_each(|file| shape.check(file))?;
        Ok(output)
    }

    fn files(&self) -> &[PathBuf] {
        match &self.places {
            Places::Stdout => &[],
            Places::Files(files) => files,
        }
    }

    /// Whether a picture or a film goes into `file`.
    pub(super) fn writes(&self, file: &Path) -> bool {
        self.files().iter().any(|own| is_same(own, file))
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

fn stdout(items: usize, what: &'static str) -> Result<Places, RequestError> {
    if items > 1 {
        return Err(RequestError::OneStream {
            given: STDOUT.to_owned(),
            count: items,
            what,
        });
    }
    if io::stdout().is_terminal() {
        return Err(RequestError::Terminal);
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

/// Whether two names are of one file, which need not be there yet. What is written through, as `/dev/null` is, takes what comes.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    !is_stream(one) && place(one).is_some_and(|one| Some(one) == place(other))
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
        let shape = Shape::new(3, 7).expect("a rate");
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
        let shape = Shape::new(2, 7).expect("a rate");
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
        let film = Shape::new(2, 7).expect("a rate");
        for name in ["a.jpg", "a.webp", "a"] {
            let said = refused(name, film);
            assert!(said.contains("of no format that films are"), "{said}");
        }
        for name in ["a.gif", "a.y4m", "a.apng", "a.mp4"] {
            let said = refused(name, Shape::Pictures);
            assert!(said.contains("is a film's"), "{said}");
        }
        if cfg!(not(feature = "video")) {
            let said = refused("a.mp4", film);
            assert!(said.contains("the Cargo feature `video`"), "{said}");
        }
        for rate in [0, 70_000] {
            let said = Shape::new(2, rate).expect_err("no rate").to_string();
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
