//! `afterimage decode`: latents that a run has left, to pictures.

use std::path::{Path, PathBuf};

use super::{args, job::Model, output::Output};
use crate::{
    device,
    error::{Error, RequestError},
    image_io::Picture,
    models::vae::Tiling,
    pipeline::{Decoder, read_latents},
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
    let model = Model::open(&arguments.model)?;
    let device = device::open(arguments.device)?;
    let latents = read_latents(&arguments.latents, device.device())?;
    let [items, channels, height, width] = latents.dims();
    let expected = model.config.canvas().channels;
    if channels != expected {
        let (found, expected) = (latents.dims(), [items, expected, height, width]);
        return Err(RequestError::LatentShape { found, expected }.into());
    }
    let output = Output::open(&output, items, false)?;
    let decoder = Decoder::load(&model.folder, &model.config, device.device())?;
    let pictures = Picture::from_batch(decoder.decode(latents, Tiling::Automatic)?)?;
    output.write(&pictures, &texts(&model, device.to_string()))?;
    output.say(&output.names().join("\n"))
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
