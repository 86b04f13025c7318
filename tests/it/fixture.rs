//! Golden data: a model folder, `cases.json` and `cases.safetensors`, in the format of `../shared/reference`.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One fixture folder.
pub(crate) struct Fixture {
    name: String,
    folder: PathBuf,
    cases: Value,
    tensors: Vec<u8>,
}

/// A reference tensor.
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Fixture {
    /// The committed selection, and the complete fixture where `../shared/reference` exists.
    pub(crate) fn editions(name: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let committed = root.join("tests/fixtures").join(name);
        let complete = root.join("../shared/reference/fixtures").join(name);
        let complete = Some(complete).filter(|folder| folder.exists());
        [Some(committed), complete]
            .into_iter()
            .flatten()
            .map(|folder| Self::read(name, folder))
            .collect()
    }

    /// The committed selection alone.
    pub(crate) fn committed(name: &str) -> Self {
        Self::read(
            name,
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures")
                .join(name),
        )
    }

    fn read(name: &str, folder: PathBuf) -> Self {
        let read = |file: &str| {
            let path = folder.join(file);
            let hint = "hint: `python tests/fixtures/select.py` makes the committed selection";
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}\n{hint}", path.display()))
        };
        let cases = serde_json::from_slice(&read("cases.json")).unwrap();
        let tensors = read("cases.safetensors");
        Self {
            name: name.to_owned(),
            folder,
            cases,
            tensors,
        }
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &Value> {
        self.cases["cases"].as_array().unwrap().iter()
    }

    pub(crate) fn case(&self, id: &str) -> &Value {
        let mut cases = self.cases();
        cases
            .find(|case| case["id"] == id)
            .unwrap_or_else(|| panic!("{}: no case `{id}`", self.name))
    }

    /// A scheduler's configuration in diffusers' own form.
    pub(crate) fn scheduler(&self, name: &str) -> String {
        let entry = &self.cases["schedulers"][name];
        let mut config = entry["config"].clone();
        config["_class_name"] = entry["class"].clone();
        config.to_string()
    }

    pub(crate) fn tensor(&self, name: &str) -> Golden {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let view = file
            .tensor(name)
            .unwrap_or_else(|error| panic!("{}: `{name}`: {error}", self.name));
        let words = view.data().as_chunks::<4>().0.iter();
        let values = match view.dtype() {
            Dtype::F32 => words.map(|word| f32::from_le_bytes(*word)).collect(),
            Dtype::I32 => words.map(|word| i32::from_le_bytes(*word) as f32).collect(),
            other => panic!("{}: `{name}` has dtype {other:?}", self.name),
        };
        Golden {
            shape: view.shape().to_vec(),
            values,
        }
    }

    /// The tensor that `case` calls `key`, if it has one.
    pub(crate) fn of(&self, case: &Value, key: &str) -> Option<Golden> {
        case["tensors"][key].as_str().map(|name| self.tensor(name))
    }
}

impl Golden {
    pub(crate) fn on<const D: usize>(&self, device: &Device) -> Tensor<D> {
        Tensor::from_data(
            TensorData::new(self.values.clone(), self.shape.clone()),
            device,
        )
    }

    /// Part `index` of a tensor whose first axis counts kept steps.
    pub(crate) fn row(&self, index: usize) -> Self {
        let size = self.values.len() / self.shape[0];
        Self {
            shape: self.shape[1..].to_vec(),
            values: self.values[index * size..(index + 1) * size].to_vec(),
        }
    }

    fn spread(&self) -> f64 {
        let count = self.values.len() as f64;
        let mean = self
            .values
            .iter()
            .map(|&value| f64::from(value))
            .sum::<f64>()
            / count;
        let square = |&value: &f32| (f64::from(value) - mean).powi(2);
        (self.values.iter().map(square).sum::<f64>() / count).sqrt()
    }

    /// The largest difference over the reference's standard deviation; the message names its place.
    pub(crate) fn compare<const D: usize>(
        &self,
        found: Tensor<D>,
        tolerance: f64,
    ) -> Result<f64, String> {
        let shape = found.dims().to_vec();
        if shape != self.shape {
            return Err(format!("shape {shape:?}, reference {:?}", self.shape));
        }
        let found = found.into_data().convert::<f32>().to_vec::<f32>().unwrap();
        let pairs = found.iter().zip(&self.values).enumerate();
        let differences = pairs.map(|(index, (a, b))| (index, f64::from((a - b).abs())));
        let by_size = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        let (index, largest) = differences.max_by(by_size).unwrap();
        let relative = largest / self.spread();
        if relative <= tolerance {
            return Ok(relative);
        }
        Err(format!(
            "off by {largest:.3e} = {relative:.3e} standard deviations at {index} of {shape:?}: {} for {}",
            found[index], self.values[index]
        ))
    }
}
