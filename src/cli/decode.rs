//! `afterimage decode`: latents that a run has left, to pictures.

use std::path::{Path, PathBuf};

use super::{
    args, job,
    output::{Output, Shape, check_name},
};
use crate::{
    device,
    engine::Model,
    error::{Error, RequestError},
    image_io::Picture,
    models::vae::Tiling,
    pipeline::{self, Decoder, Decoding, FilmRequest, Films, read_latents},
};

/// What a run adds to the name of its output for the latents it keeps.
const KEPT: &str = "latents.safetensors";

/// Where a run that writes to `output` keeps its latents when it cannot make their pictures.
pub(super) fn kept(output: &Path) -> PathBuf {
    output.with_extension(KEPT)
}

pub(super) fn run(arguments: &args::Decode) -> Result<(), Error> {
    let output = arguments.output.clone();
    let output = output.unwrap_or_else(|| beside(&arguments.latents));
    check_name(&output)?;
    if arguments.model.said.prediction.is_some() {
        return Err(RequestError::NothingPredicts.into());
    }
    let model = job::model(&arguments.model)?;
    let device = device::open(arguments.device)?;
    let latents = read_latents(&arguments.latents, device.device())?;
    let [rows, channels, height, width] = latents.dims();
    let expected = model.config.canvas().channels;
    if channels != expected {
        let (found, expected) = (latents.dims(), [rows, expected, height, width]);
        return Err(RequestError::LatentShape { found, expected }.into());
    }
    let frames = frames(&arguments.film, &model, rows)?;
    let film = FilmRequest {
        fps: arguments.film.fps,
        ..FilmRequest::default()
    };
    let size = [height, width].map(|side| side * model.config.canvas().factor);
    let shape = Shape::new(frames, film.rate(), size)?;
    let output = Output::open(&output, rows / frames, shape, false)?;
    let decoder = Decoder::load(&model.folder, &model.config, device.device())?;
    let how = Decoding {
        size: None,
        tiling: Tiling::Automatic,
        frames,
        chunk: arguments.film.decode_chunk.unwrap_or(frames).min(frames),
    };
    let pictures = Picture::from_batch(decoder.decode(latents, how)?)?;
    let made = pipeline::Output::of(pictures, frames);
    output.write(made, &texts(&model, device.to_string()))?;
    output.say(&output.names().join("\n"))
}

/// Frames of each film in so many rows of latents, 1 for pictures: as the caller says, else as many as the model makes.
fn frames(film: &args::Projected, model: &Model, rows: usize) -> Result<usize, RequestError> {
    let silent = match model.config.films() {
        Films::Trained { frames } if rows.is_multiple_of(frames) => frames,
        Films::Trained { .. } => rows,
        Films::ZeroShot | Films::Never => 1,
    };
    match film.frames.unwrap_or(silent) {
        0 => Err(RequestError::LatentFrames { frames: 0, rows }),
        frames if !rows.is_multiple_of(frames) => Err(RequestError::LatentFrames { frames, rows }),
        frames => Ok(frames),
    }
}

/// `fox.png` for `fox.latents.safetensors`
fn beside(latents: &Path) -> PathBuf {
    latents.with_extension("").with_extension("png")
}

/// The text chunks of the PNG: what the latents do not say is not known.
fn texts(model: &Model, device: String) -> Vec<(String, String)> {
    let texts = [
        (
            "Software",
            format!("afterimage {}", env!("CARGO_PKG_VERSION")),
        ),
        ("model", model.folder.name().to_owned()),
        ("device", device),
    ];
    let texts = texts.into_iter();
    texts.map(|(key, text)| (key.to_owned(), text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_lie_beside_their_pictures() {
        let kept = kept(Path::new("out/fox.png"));
        assert_eq!(kept, Path::new("out/fox.latents.safetensors"));
        assert_eq!(beside(&kept), Path::new("out/fox.png"));
    }
}
