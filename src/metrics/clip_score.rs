//! How well pictures fit their texts, by CLIP.
//!
//! Source: Hessel et al., "`CLIPScore`: A Reference-free Evaluation Metric for Image Captioning" (arXiv 2104.08718, section 3), without
//! its factor: `max(0, 100 · cos)`, as in the evaluation of `DeepCache`.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};
use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};
use serde::Deserialize;

use super::{read_back, to_batch};
use crate::error::{ConfigError, Error, FileError};
use crate::image_io::Picture;
use crate::models::bounded;
use crate::models::clip::{ClipTextConfig, ClipTextJson, ClipTextModel};
use crate::models::clip_vision::{ClipVisionConfig, ClipVisionJson, ClipVisionModel, normalised};
use crate::text::{ClipTokenizer, PromptEncoder, TokenizerFiles};
use crate::weights::{WeightSource, load_strict};

/// `config.json` of a whole CLIP model.
#[derive(Deserialize)]
struct Json {
    text_config: ClipTextJson,
    vision_config: ClipVisionJson,
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
        let Json {
            text_config,
            vision_config,
            projection_dim,
        } = read_config(folder)?;
        let weights = weights(folder)?;
        let mut config = ClipTextConfig::new(&text_config)?;
        config.projection = Some(projection_dim);
        let text = load_strict(
            ClipTextModel::new(&config, device),
            &weights.starting_with(&["text_model.", "text_projection."]),
            "text_model",
            DType::F32,
        )?;
        let config = ClipVisionConfig::new(&vision_config, projection_dim)?;
        let pictures = load_strict(
            ClipVisionModel::new(&config, device),
            &weights.starting_with(&["vision_model.", "visual_projection."]),
            "vision_model",
            DType::F32,
        )?;
        let name = folder.file_name().unwrap_or_default().display().to_string();
        Ok(Self {
            name,
            texts: PromptEncoder::new(tokenizer(folder)?, text),
            pictures,
            side: config.side,
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
        let cosines = read_back(cosines)?.into_iter();
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

/// The shorter side brought to `side` (bicubic), the middle cut out.
fn fitted(picture: &Picture, side: usize) -> Picture {
    let [width, height, side] =
        [picture.width(), picture.height(), side].map(|pixels| pixels as u32);
    let image = RgbImage::from_raw(width, height, picture.pixels().to_vec());
    let image = image.expect("a picture has as many bytes as pixels");
    let scaled =
        |length: u32| (u64::from(length) * u64::from(side) / u64::from(width.min(height))) as u32;
    let image = resize(
        &image,
        scaled(width),
        scaled(height),
        FilterType::CatmullRom,
    );
    let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let cut = crop_imm(&image, left, top, side, side).to_image();
    Picture::from_pixels(side as usize, side as usize, cut.into_raw())
}

fn unit(vectors: Tensor<2>) -> Tensor<2> {
    let length = vectors.clone().powi_scalar(2).sum_dim(1).sqrt();
    vectors / length
}

fn read_config(folder: &Path) -> Result<Json, Error> {
    let path = folder.join("config.json");
    let text = read(&path)?.ok_or_else(|| missing("config.json", folder))?;
    let value = bounded::<Json>(&text, "config.json")?;
    let json = value.and_then(serde_json::from_value);
    json.map_err(|source| {
        ConfigError::Json {
            part: "the CLIP model's configuration".into(),
            path,
            source,
        }
        .into()
    })
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
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
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
