//! How well pictures fit their texts, by CLIP.
//!
//! Source: Hessel et al., "`CLIPScore`: A Reference-free Evaluation Metric for Image Captioning" (arXiv 2104.08718, section 3), without
//! its factor: `max(0, 100 · cos)`, as in the evaluation of `DeepCache`.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{read_back, to_batch};
use crate::error::{ConfigError, Error, FileError};
use crate::image_io::Picture;
use crate::models::bounded;
use crate::models::clip::{ClipTextConfig, ClipTextModel};
use crate::models::clip_vision::{ClipVisionConfig, ClipVisionJson, ClipVisionModel, normalised};
use crate::reading::{LONGEST_TEXT, read_text_bounded};
use crate::text::{ClipTokenizer, PromptEncoder, TokenizerFiles};
use crate::weights::{WeightSource, load_strict};

/// `config.json` of a whole CLIP model.
#[derive(Deserialize)]
struct Json {
    text_config: Value,
    vision_config: Value,
    projection_dim: usize,
}

/// Both halves of CLIP, loaded.
#[derive(Debug)]
pub struct ClipScore {
    name: String,
    texts: PromptEncoder<ClipTextModel>,
    pictures: ClipVisionModel,
    side: usize,
    device: Device,
}

impl ClipScore {
    /// Reads a model folder in transformers' layout: `config.json`, `model.safetensors` or `pytorch_model.bin`, and the tokenizer.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let (texts, vision) = read_config(folder)?;
        let weights = weights(folder)?;
        // Before gigabytes are read, as in `pipeline`.
        let mut tokenizer = tokenizer(folder)?;
        tokenizer.check_rows(texts.vocabulary)?;
        tokenizer.fit_positions(texts.positions)?;
        let text = load_strict(
            ClipTextModel::new(&texts, device),
            &weights.starting_with(&["text_model.", "text_projection."]),
            "text_model",
            DType::F32,
        )?;
        let pictures = load_strict(
            ClipVisionModel::new(&vision, device),
            &weights.starting_with(&["vision_model.", "visual_projection."]),
            "vision_model",
            DType::F32,
        )?;
        let name = folder.file_name().unwrap_or_default().display().to_string();
        Ok(Self {
            name,
            texts: PromptEncoder::new(tokenizer, text),
            pictures,
            side: vision.side,
            device: device.clone(),
        })
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How well each picture fits its text, 0 to 100.
    ///
    /// # Errors
    ///
    /// If a text cannot be tokenized, or the device fails.
    ///
    /// # Panics
    ///
    /// If there is no picture, or counts differ.
    pub fn scores(&self, pictures: &[Picture], texts: &[&str]) -> Result<Vec<f64>, Error> {
        assert_eq!(pictures.len(), texts.len(), "a text for every picture");
        let texts = self.texts.encode_pooled(texts, 0)?.pooled;
        let texts = texts.expect("the text encoder was built with a projection"); // [rows, projection]
        let pictures = self.pictures.encode(self.pixels(pictures)); // [rows, projection]
        let cosines = (unit(texts) * unit(pictures)).sum_dim(1); // [rows, 1]
        let cosines = read_back(cosines, "CLIP model")?.into_iter();
        Ok(cosines.map(|cosine| (100.0 * cosine).max(0.0)).collect())
    }

    /// Normalised pixels as the model reads them, `[rows, 3, side, side]`.
    fn pixels(&self, pictures: &[Picture]) -> Tensor<4> {
        let fitted: Vec<_> = pictures
            .iter()
            .map(|picture| fitted(picture, self.side))
            .collect();
        normalised(to_batch(&fitted, &self.device))
    }
}

/// Of a side that is longer than so many of the shorter, nothing beyond is looked at: the middle alone is kept.
const FARTHEST: u32 = 8;

/// The shorter side brought to `side` (bicubic), the middle cut out.
fn fitted(picture: &Picture, side: usize) -> Picture {
    let [width, height, side] =
        [picture.width(), picture.height(), side].map(|pixels| pixels as u32);
    let image = RgbImage::from_raw(width, height, picture.pixels().to_vec());
    let image = image.expect("a picture has as many bytes as pixels");
    let shorter = width.min(height);
    let [across, down] = [width, height].map(|length| length.min(shorter.saturating_mul(FARTHEST)));
    let (left, top) = ((width - across) / 2, (height - down) / 2);
    let image = crop_imm(&image, left, top, across, down).to_image();
    let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(shorter)) as u32;
    let image = resize(&image, scaled(across), scaled(down), FilterType::CatmullRom);
    let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let cut = crop_imm(&image, left, top, side, side).to_image();
    Picture::from_pixels(side as usize, side as usize, cut.into_raw())
}

fn unit(vectors: Tensor<2>) -> Tensor<2> {
    let length = vectors.clone().powi_scalar(2).sum_dim(1).sqrt();
    vectors / length
}

fn read_config(folder: &Path) -> Result<(ClipTextConfig, ClipVisionConfig), Error> {
    let path = folder.join("config.json");
    let text = read(&path)?.ok_or_else(|| missing("config.json", folder))?;
    let Json {
        text_config,
        vision_config,
        projection_dim,
    } = within_bounds(&text, PART, &path)?;
    // Each half is bounded as what reads it.
    let text_config = within_bounds(&text_config.to_string(), "text_config", &path)?;
    let mut texts = ClipTextConfig::new(&text_config)?;
    texts.projection = Some(projection_dim);
    let vision: ClipVisionJson = within_bounds(&vision_config.to_string(), "vision_config", &path)?;
    Ok((texts, ClipVisionConfig::new(&vision, projection_dim)?))
}

/// What messages call the whole.
const PART: &str = "the CLIP model's configuration";

/// The `T` that `text` is the JSON of, within the bounds of what can be built.
fn within_bounds<T: DeserializeOwned>(
    text: &str,
    part: &str,
    path: &Path,
) -> Result<T, ConfigError> {
    let json = bounded::<T>(text, part)?;
    let json = json.and_then(serde_json::from_value);
    json.map_err(|source| ConfigError::json::<T>(source, text, part, path))
}

fn weights(folder: &Path) -> Result<WeightSource, Error> {
    let files = ["model.safetensors", "pytorch_model.bin"].map(|file| folder.join(file));
    let found = files.iter().find(|file| file.is_file());
    WeightSource::open(found.ok_or_else(|| missing("model.safetensors", folder))?)
}

fn tokenizer(folder: &Path) -> Result<ClipTokenizer, Error> {
    let text = |file: &str| read(&folder.join(file));
    let (vocab, merges, tokenizer) = (
        text("vocab.json")?,
        text("merges.txt")?,
        text("tokenizer.json")?,
    );
    let (config, special_tokens) = (
        text("tokenizer_config.json")?,
        text("special_tokens_map.json")?,
    );
    ClipTokenizer::from_files(TokenizerFiles {
        vocab: vocab.as_deref(),
        merges: merges.as_deref(),
        tokenizer: tokenizer.as_deref(),
        config: config.as_deref(),
        special_tokens: special_tokens.as_deref(),
        added_tokens: text("added_tokens.json")?.as_deref(),
    })
}

/// A file's text; `None` if it is not there.
fn read(path: &Path) -> Result<Option<String>, FileError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_text_bounded(path, LONGEST_TEXT).map_err(|source| FileError::Read {
        what: "the CLIP model".into(),
        path: path.into(),
        source,
    })?;
    Ok(Some(text))
}

fn missing(file: &str, folder: &Path) -> FileError {
    FileError::Missing {
        file: file.into(),
        model: folder.display().to_string(),
    }
}
