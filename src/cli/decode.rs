//! `afterimage decode`: latents that a run has left, to pictures.

mod told;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::{
    args,
    output::{Output, Shape, check_name},
};
use crate::{
    device::{self, DtypeChoice},
    engine::Model,
    error::{Error, RequestError},
    image_io::Picture,
    pipeline::{self, Decoder, Decoding, Films, LatentsFile, MOST_PIXELS, SpaceConfig, of_pixels},
};
use told::Told;

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
    let file = LatentsFile::read(&arguments.latents)?;
    let run = Told::read(&file, arguments)?;
    let model = run.model(&arguments.model)?;
    let device = device::open(arguments.device)?;
    let [rows, channels, height, width] = file.shape();
    let expected = model.config.canvas().channels;
    if channels != expected {
        let (found, expected) = (file.shape(), [rows, expected, height, width]);
        return Err(RequestError::LatentShape { found, expected }.into());
    }
    let film = run.film(&arguments.film);
    let frames = frames(film.frames, &model, rows)?;
    let made_at = [height, width].map(|side| side * model.config.canvas().factor);
    let size = run.size().unwrap_or(made_at);
    check_pixels(size, rows)?;
    let shape = Shape::new(frames, film.rate(), size)?;
    let output = Output::open(&output, rows / frames, shape, false)?;
    let texts = run.texts(&model, &device.to_string(), &film, arguments)?;
    let how = Decoding {
        size: Some(size).filter(|size| *size != made_at),
        tiling: run.tiling(),
        frames,
        chunk: film.decode_chunk.unwrap_or(frames).clamp(1, frames),
    };
    let latents = file.latents(device.device());
    let pictures = decoded(&model, (latents, how), device.device(), run.dtype())?;
    let made = pipeline::Output::of(Picture::from_batch(pictures)?, frames);
    output.write(made, &texts)?;
    output.say(&output.names().join("\n"))
}

/// Refuses sizes, as the recipe in a file may say any, that no run makes.
fn check_pixels([height, width]: [usize; 2], pictures: usize) -> Result<(), RequestError> {
    if height == 0 || width == 0 {
        return Err(RequestError::NoSize { width, height });
    }
    let pixels = height.saturating_mul(width).saturating_mul(pictures);
    if pixels <= MOST_PIXELS {
        return Ok(());
    }
    Err(RequestError::TooLarge {
        width,
        height,
        pictures,
        most: MOST_PIXELS,
    })
}

/// Pictures, `[items, 3, height, width]` in 0 to 1, as the run would have made them whose denoiser computed in `dtype`.
fn decoded(
    model: &Model,
    (latents, how): (Tensor<4>, Decoding),
    device: &Device,
    dtype: DtypeChoice,
) -> Result<Tensor<4>, Error> {
    if let SpaceConfig::Pixels = model.config.space {
        return of_pixels(latents);
    }
    let dtype = dtype.float().into();
    let decoder = Decoder::load_as(&model.folder, &model.config, device, dtype)?;
    decoder.decode(latents, how)
}

/// Frames of each film in so many rows of latents, 1 for pictures: as is said, else as many as the model makes.
fn frames(said: Option<usize>, model: &Model, rows: usize) -> Result<usize, RequestError> {
    let silent = match model.config.films() {
        Films::Trained { frames } if rows.is_multiple_of(frames) => frames,
        Films::Trained { .. } => rows,
        Films::ZeroShot | Films::Never => 1,
    };
    match said.unwrap_or(silent) {
        0 => Err(RequestError::LatentFrames { frames: 0, rows }),
        frames if !rows.is_multiple_of(frames) => Err(RequestError::LatentFrames { frames, rows }),
        frames => Ok(frames),
    }
}

/// `fox.png` for `fox.latents.safetensors`
fn beside(latents: &Path) -> PathBuf {
    latents.with_extension("").with_extension("png")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_run_makes_are_refused() {
        assert!(check_pixels([8192, 8192], 1).is_ok());
        for (size, said) in [
            ([1_000_000, 1_000_000], "are more than 67108864 pixels"),
            ([usize::MAX, 2], "are more than"),
            ([0, 64], "1 to 8192 pixels"),
        ] {
            let error = check_pixels(size, 2).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn latents_lie_beside_their_pictures() {
        let kept = kept(Path::new("out/fox.png"));
        assert_eq!(kept, Path::new("out/fox.latents.safetensors"));
        assert_eq!(beside(&kept), Path::new("out/fox.png"));
    }
}
