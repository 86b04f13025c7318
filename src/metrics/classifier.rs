//! A small convolutional classifier: a judge of samples, and a feature space for small pictures.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::MaxPool2dConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{DType, Device, Tensor};
use serde::Deserialize;

use super::judge::{Asked, Judge, Judgement};
use super::{FeatureSpace, read_back, to_batch};
use crate::error::{ConfigError, Error, EvaluationError, FileError};
use crate::image_io::Picture;
use crate::reading::{LONGEST_TEXT, read_text_bounded};
use crate::weights::{WeightSource, load_strict};

/// How sure the classifier is of a picture of nothing in particular that it recognises.
const SURE: f64 = 0.9;

/// What messages call it.
const NETWORK: &str = "classifier";

/// Pixels a side of what the last layer of convolutions sees as one.
const STRIDE: usize = 8;

/// Pixels a side of the largest pictures that are judged.
const LARGEST_SIDE: usize = 1 << 10;

/// Channels, or features, of the widest layer.
const WIDEST: usize = 1 << 14;

/// `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    name: String,
    sample_size: usize,
    channels: [usize; 3],
    features: usize,
    labels: Vec<String>,
}

impl Config {
    /// Refuses sizes that no such network has: what it computes with would be empty, or more than a number holds.
    fn check(&self) -> Result<(), ConfigError> {
        let [first, second, third] = self.channels;
        let sizes = [
            ("sample_size", self.sample_size, STRIDE..=LARGEST_SIDE),
            ("channels", first, 1..=WIDEST),
            ("channels", second, 1..=WIDEST),
            ("channels", third, 1..=WIDEST),
            ("features", self.features, 1..=WIDEST),
        ];
        for (key, size, range) in sizes {
            if !range.contains(&size) {
                let hint = format!("it is {} to {}", range.start(), range.end());
                return Err(ConfigError::unsupported(key, size, hint));
            }
        }
        if self.labels.is_empty() {
            let hint = "a classifier tells at least one class";
            return Err(ConfigError::unsupported("labels", "[]", hint));
        }
        Ok(())
    }
}

#[derive(Module, Debug)]
struct Network {
    conv1: Conv2d,
    conv2: Conv2d,
    conv3: Conv2d,
    hidden: Linear,
    output: Linear,
}

impl Network {
    fn new(config: &Config, device: &Device) -> Self {
        let [first, second, third] = config.channels;
        let convolution = |channels| {
            Conv2dConfig::new(channels, [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        let flat = third * (config.sample_size / STRIDE).pow(2);
        Self {
            conv1: convolution([1, first]),
            conv2: convolution([first, second]),
            conv3: convolution([second, third]),
            hidden: LinearConfig::new(flat, config.features).init(device),
            output: LinearConfig::new(config.features, config.labels.len()).init(device),
        }
    }

    /// `[items, 1, side, side]` in -1 to 1 to `[items, features]`.
    fn features(&self, pixels: Tensor<4>) -> Tensor<2> {
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let map = pool.forward(relu(self.conv1.forward(pixels))); // [items, first, side / 2, side / 2]
        let map = pool.forward(relu(self.conv2.forward(map))); // [items, second, side / 4, side / 4]
        let map = pool.forward(relu(self.conv3.forward(map))); // [items, third, side / 8, side / 8]
        relu(self.hidden.forward(map.flatten(1, 3)))
    }
}

/// The classifier, loaded.
#[derive(Debug)]
pub struct Classifier {
    config: Config,
    network: Network,
    device: Device,
}

impl Classifier {
    /// Reads a folder with `config.json` and `model.safetensors`, as `models/fashion-ddpm/classifier` is.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the weights do not fit the configuration.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let config = read_config(&folder.join("config.json"))?;
        let source = WeightSource::open(folder.join("model.safetensors"))?;
        let network = Network::new(&config, device);
        Ok(Self {
            network: load_strict(network, &source, "classifier", DType::F32)?,
            config,
            device: device.clone(),
        })
    }

    /// The classes' names, by label.
    pub fn labels(&self) -> &[String] {
        &self.config.labels
    }

    /// The probability of every class, picture by picture.
    ///
    /// # Errors
    ///
    /// If pictures are of another size than the classifier was trained on, or the device fails.
    pub fn probabilities(&self, pictures: &[Picture]) -> Result<Vec<Vec<f64>>, Error> {
        let features = self.network.features(self.pixels(pictures)?);
        let shares = softmax(self.network.output.forward(features), 1); // [items, classes]
        Ok(rows(read_back(shares, NETWORK)?, self.config.labels.len()))
    }

    /// Brightness in -1 to 1, `[items, 1, side, side]`.
    fn pixels(&self, pictures: &[Picture]) -> Result<Tensor<4>, Error> {
        for picture in pictures {
            self.check_size(picture.width(), picture.height())?;
        }
        Ok(to_batch(pictures, &self.device).mean_dim(1) * 2.0 - 1.0)
    }
}

fn read_config(path: &Path) -> Result<Config, Error> {
    const PART: &str = "the classifier's configuration";
    let text = read_text_bounded(path, LONGEST_TEXT).map_err(|source| FileError::Read {
        what: "the classifier".into(),
        path: path.into(),
        source,
    })?;
    ConfigError::check_length(&text, PART)?;
    let config: Config = ConfigError::read(&text, PART, path)?;
    config.check()?;
    Ok(config)
}

fn rows(values: Vec<f64>, width: usize) -> Vec<Vec<f64>> {
    values.chunks_exact(width).map(<[f64]>::to_vec).collect()
}

impl FeatureSpace for Classifier {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn width(&self) -> usize {
        self.config.features
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), Error> {
        let side = self.config.sample_size;
        if (width, height) == (side, side) {
            return Ok(());
        }
        Err(EvaluationError::OtherSize {
            width,
            height,
            classifier: self.config.name.clone(),
            side,
        }
        .into())
    }

    fn features(&self, pictures: &[Picture]) -> Result<Vec<Vec<f64>>, Error> {
        let features = self.network.features(self.pixels(pictures)?);
        Ok(rows(read_back(features, NETWORK)?, self.config.features))
    }
}

/// A class asked for is right where it is the likeliest; a picture of nothing in particular, where some class is nearly certain
/// (0.9 or more), so that the picture is recognisably something.
impl Judge for Classifier {
    fn name(&self) -> &'static str {
        "recognised"
    }

    fn judge(&self, pictures: &[Picture], asked: &[Asked<'_>]) -> Result<Vec<Judgement>, Error> {
        let probabilities = self.probabilities(pictures)?;
        let pairs = probabilities.iter().zip(asked);
        Ok(pairs
            .map(|(shares, asked)| verdict(shares, *asked))
            .collect())
    }
}

fn verdict(shares: &[f64], asked: Asked<'_>) -> Judgement {
    let best = shares.iter().copied().enumerate();
    let (likeliest, share) = best
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, f64::NAN));
    let is_right = match asked {
        Asked::Text(_) => return Judgement { right: 0, asked: 0 },
        Asked::Class(label, _) => label == likeliest,
        Asked::Nothing => share >= SURE,
    };
    Judgement {
        right: usize::from(is_right),
        asked: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_what_was_asked() {
        let right = |shares: &[f64], asked| {
            let Judgement { right, asked } = verdict(shares, asked);
            (right, asked)
        };
        assert_eq!(right(&[0.2, 0.5, 0.3], Asked::Class(1, "")), (1, 1));
        assert_eq!(right(&[0.2, 0.5, 0.3], Asked::Class(2, "")), (0, 1));
        assert_eq!(right(&[0.2, 0.5, 0.3], Asked::Nothing), (0, 1));
        assert_eq!(right(&[0.05, 0.92, 0.03], Asked::Nothing), (1, 1));
        assert_eq!(right(&[0.05, 0.92, 0.03], Asked::Text("a shoe")), (0, 0));
    }

    #[test]
    fn sizes_of_no_network_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let whole = serde_json::json!({
            "name": "shoes", "sample_size": 28, "channels": [8, 16, 16], "features": 32, "labels": ["shoe"],
        });
        let read = |config: &serde_json::Value| {
            std::fs::write(&path, config.to_string()).unwrap();
            read_config(&path)
        };
        assert!(read(&whole).is_ok());
        for (key, value) in [
            ("labels", serde_json::json!([])),
            ("features", 0.into()),
            ("sample_size", (1_u64 << 40).into()),
            ("sample_size", 7.into()),
            ("channels", serde_json::json!([8, 0, 16])),
        ] {
            let mut config = whole.clone();
            config[key] = value;
            let error = read(&config).unwrap_err();
            let named = error.to_string().contains(&format!("`{key}` is"));
            assert!(error.is_config() && named, "{error}");
        }
    }
}
