//! Previews without a decoder.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::OnceLock;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::made::timed;
use super::{Pipeline, SeededNoise, Seeds};
use crate::denoise::Noise as _;
use crate::display::LinearMap;
use crate::error::{Error, FileError};
use crate::image_io::write_atomically;
use crate::models::vae::Tiling;

/// Patches of latents that the decoder is asked about, each as a picture of its own: four cells each say enough of a map of seventeen numbers a
/// colour at most. On `scenes` its colours are 1 to 2 dB further from the decoder's than those of the best map there is; with 8 patches 2 to 3,
/// with 16 that are parts of one map 3 to 5.
const PATCHES: usize = 16;

/// Cells of a patch, in each direction; the outermost see its edge and are not looked at.
const SIDE: usize = 4;

/// How much the cells of a patch differ from each other, beside how much patches do.
const GRAIN: f32 = 0.3;

/// The map of a model, once it was wanted, and where it is kept for other processes.
#[derive(Debug, Default)]
pub(super) struct Preview {
    map: OnceLock<LinearMap>,
    kept: Option<PathBuf>,
}

/// A map in a file, which may be lost at any time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptMap {
    /// What it was made of, and how.
    of: String,
    map: LinearMap,
}

/// What such a file is called in errors.
const WHAT: &str = "the map of previews";

impl Pipeline {
    /// Keeps the map that [`linear_map`](Self::linear_map) finds as `file`, and takes it from there where it was found before. The name must
    /// be that of the weights ([`weights_hash`](crate::catalog::ModelFolder::weights_hash)). A file that cannot be read or written loses
    /// nothing but the time to find the map again.
    pub fn keep_linear_map(&mut self, file: impl Into<PathBuf>) {
        self.preview.kept = Some(file.into());
    }

    /// What shows latents of this model as small pictures at next to no cost, for previews: the linear map that comes closest to its decoder on
    /// patches of random latents, the same ones every time. Takes about as long as decoding one small picture, the first time.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn linear_map(&self) -> Result<LinearMap, Error> {
        let canvas = self.config.canvas();
        if self.space.autoencoder().is_none() && canvas.factor == 1 {
            return Ok(LinearMap::of_pixels(canvas.channels));
        }
        if let Some(map) = self.preview.map.get() {
            return Ok(map.clone());
        }
        let map = match self.kept_map() {
            Some(map) => map,
            None => self.fit_map().inspect(|map| self.keep_map(map))?,
        };
        Ok(self.preview.map.get_or_init(|| map).clone())
    }

    /// What a map is made of, beside the weights, and how.
    fn made_of(&self) -> String {
        let space = &self.config.space;
        format!("{PATCHES} patches of {SIDE}x{SIDE} cells, grain {GRAIN}: {space:?}")
    }

    /// The map that an earlier process has kept.
    fn kept_map(&self) -> Option<LinearMap> {
        let file = self.preview.kept.as_ref()?;
        let useless = |reason: &dyn std::fmt::Display| {
            let file = file.display();
            tracing::warn!("{WHAT} is of no use, and found anew: {reason}\nfile: {file}");
        };
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return None;
            }
            Err(error) => {
                useless(&error);
                return None;
            }
        };
        let kept: KeptMap = serde_json::from_slice(&text)
            .inspect_err(|error| useless(error))
            .ok()?;
        let fits = kept.map.channels() == self.config.canvas().channels;
        (fits && kept.of == self.made_of()).then_some(kept.map)
    }

    /// Keeps `map` whole or not at all.
    fn keep_map(&self, map: &LinearMap) {
        let Some(file) = &self.preview.kept else {
            return;
        };
        let kept = KeptMap {
            of: self.made_of(),
            map: map.clone(),
        };
        let write = || {
            let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
            folder.map_err(|source| FileError::Write {
                what: WHAT.into(),
                path: file.clone(),
                source,
            })?;
            write_atomically(file, WHAT, |file| {
                serde_json::to_writer(&mut *file, &kept)?;
                file.write_all(b"\n")
            })
        };
        if let Err(error) = write() {
            tracing::debug!("{error}");
        }
    }

    fn fit_map(&self) -> Result<LinearMap, Error> {
        let channels = self.config.canvas().channels;
        let mut noise = SeededNoise::new(&Seeds::One(0), &self.device);
        let colours = noise.draw([PATCHES, channels, 1, 1]);
        let grain = noise.draw([PATCHES, channels, SIDE, SIDE]);
        let latents = colours + grain * GRAIN;
        let (map, taken) = timed(|| {
            let pictures = self.space.decode(latents.clone(), Tiling::Never.into())?;
            let [_, _, height, _] = pictures.dims();
            LinearMap::fit(inner(latents, 1), inner(pictures, height / SIDE))
        })?;
        let seconds = taken.as_secs_f64();
        tracing::debug!("the map that previews are made by was found in {seconds:.3} s");
        Ok(map)
    }
}

/// `[…, height, width]` without `margin` on every side.
fn inner(maps: Tensor<4>, margin: usize) -> Tensor<4> {
    let [_, _, height, width] = maps.dims();
    let maps = maps.narrow(2, margin, height - 2 * margin);
    maps.narrow(3, margin, width - 2 * margin)
}
