//! Golden data: a model folder, `cases.json` and `cases.safetensors`, in the format of `../shared/reference`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afterimage::weights::WeightSource;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use crate::drawn;
use crate::parity::{self, Steps};
use crate::tested;

/// The checkout; `AFTERIMAGE_ROOT` where the tests run elsewhere than they were built.
pub(crate) fn root() -> PathBuf {
    let built = || env!("CARGO_MANIFEST_DIR").into();
    std::env::var_os("AFTERIMAGE_ROOT").map_or_else(built, PathBuf::from)
}

/// A committed fixture.
pub(crate) fn fixture(path: &str) -> PathBuf {
    root().join("tests/fixtures").join(path)
}

/// A model that the repository ships.
pub(crate) fn shipped(name: &str) -> PathBuf {
    root().join("models").join(name)
}

/// A file of the shared reference, where this checkout has one.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("AFTERIMAGE_SHARED")
        .map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = root.join(path);
    path.exists().then_some(path)
}

/// The text of a file.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The JSON of a file.
pub(crate) fn json<T: serde::de::DeserializeOwned>(path: impl AsRef<Path>) -> T {
    let path = path.as_ref();
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Tensors of a `cases.safetensors`.
pub(crate) struct Golden(WeightSource);

impl Golden {
    pub(crate) fn open(path: impl AsRef<Path>) -> Self {
        Self(WeightSource::open(path).unwrap())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.names().any(|there| there == name)
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.0.read(name).unwrap(), device)
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        let data = self.0.read(name).unwrap();
        Reference {
            shape: data.shape().to_vec(),
            values: data.iter::<f32>().collect(),
        }
    }

    /// Compares `actual` with the tensor `name`: same shape, and every element within `tolerance` standard deviations of it.
    pub(crate) fn assert_close<const D: usize>(
        &self,
        name: &str,
        actual: Tensor<D>,
        tolerance: f64,
    ) {
        let outcome = self.reference(name).compare(actual, tolerance);
        outcome.unwrap_or_else(|error| panic!("`{name}`: {error}"));
    }
}

/// All elements, in order.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// One fixture folder.
pub(crate) struct Fixture {
    name: String,
    folder: PathBuf,
    cases: Value,
    golden: Golden,
    /// What `parity.json` has of it, and the steps kept beside.
    measured: Value,
    steps: Option<Golden>,
    /// What the reference is in f64, of cases where its own rounding takes much of a tolerance; `generator/make_exact.py` makes it.
    exact: Golden,
    /// What both files call it by.
    group: String,
}

/// A reference tensor.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Fixture {
    /// The complete fixture where this checkout has `../shared/reference`, else the committed selection.
    pub(crate) fn best(name: &str) -> Self {
        Self::complete(name).unwrap_or_else(|| Self::committed(name))
    }

    /// The committed selection and the complete fixture, as far as they are there.
    pub(crate) fn both(name: &str) -> Vec<Self> {
        let there = fixture(name).join("cases.json").exists();
        let committed = there.then(|| Self::committed(name));
        committed.into_iter().chain(Self::complete(name)).collect()
    }

    /// The committed selection alone, which `python tests/fixtures/select.py` makes.
    pub(crate) fn committed(name: &str) -> Self {
        Self::read(&fixture(name), name, "committed")
    }

    /// The complete fixture or the committed selection, whichever there is.
    pub(crate) fn any(name: &str) -> Option<Self> {
        Self::both(name).pop()
    }

    fn complete(name: &str) -> Option<Self> {
        let folder = shared(&format!("reference/fixtures/{name}"))?;
        Some(Self::read(&folder, name, "complete"))
    }

    fn read(folder: &Path, name: &str, kind: &str) -> Self {
        let steps = folder.join("steps.safetensors");
        let measured: Value = json(fixture("parity.json"));
        let group = format!("{kind}/{name}");
        Self {
            name: name.to_owned(),
            cases: json(folder.join("cases.json")),
            golden: Golden::open(folder.join("cases.safetensors")),
            folder: folder.to_owned(),
            measured: measured[&group].clone(),
            steps: steps.exists().then(|| Golden::open(steps)),
            exact: Golden::open(fixture("exact.safetensors")),
            group,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a case amplifies a change of all that goes into it by: `predictions`, `latents` and `image`.
    pub(crate) fn amplification(&self, case: &Value) -> &Value {
        let id = case["id"].as_str().unwrap();
        &self.measured[id]["amplification"]
    }

    /// The reference's steps of a case: those kept for it, else the predictions that it has of its first steps.
    pub(crate) fn steps(&self, case: &Value) -> Option<Steps> {
        let id = case["id"].as_str().unwrap();
        if let (Some(steps), Some(name)) = (&self.steps, self.measured[id]["steps"].as_str()) {
            let own = |key: &str| {
                let key = format!("{id}.{key}");
                steps.has(&key).then(|| steps.reference(&key))
            };
            let inputs = ["channels", "prompt_embeds"].into_iter();
            return Some(Steps {
                predictions: steps.reference(name),
                samples: own("samples"),
                inputs: inputs.filter_map(|key| Some((key, own(key)?))).collect(),
                of_the_case: false,
            });
        }
        let from_noise = ["txt2img", "controlnet", "unconditional", "class2img"];
        if !from_noise.contains(&case["kind"].as_str().unwrap()) {
            return None;
        }
        let kept = case["kept_steps"].as_array()?;
        let first = (0..kept.len()).take_while(|&row| kept[row] == row).count();
        let predictions = self.latents(case, "noise_pred").filter(|_| first > 0)?;
        Some(Steps {
            predictions: predictions.first(first),
            samples: None,
            inputs: BTreeMap::new(),
            of_the_case: true,
        })
    }

    pub(crate) fn model(&self) -> PathBuf {
        let name = self.cases["model"].as_str().unwrap_or("model");
        drawn::model(self.folder.join(name))
    }

    /// A file beside the cases.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What `cases.json` says under `key`.
    pub(crate) fn said(&self, key: &str) -> &Value {
        &self.cases[key]
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &Value> {
        self.cases["cases"].as_array().unwrap().iter()
    }

    /// The cases of these kinds that are to be run.
    pub(crate) fn of_kinds<'a>(&'a self, kinds: &'a [&str]) -> impl Iterator<Item = &'a Value> {
        let all = self.cases();
        let of_kind = all.filter(|case| kinds.contains(&case["kind"].as_str().unwrap()));
        of_kind.filter(|case| parity::chosen(self, case))
    }

    /// The case of that id.
    pub(crate) fn case(&self, id: &str) -> &Value {
        self.cases().find(|case| case["id"] == id).unwrap()
    }

    /// A scheduler's configuration in diffusers' own form.
    pub(crate) fn scheduler(&self, name: &str) -> String {
        let entry = &self.cases["schedulers"][name];
        let mut config = entry["config"].clone();
        config["_class_name"] = entry["class"].clone();
        config.to_string()
    }

    pub(crate) fn tensor(&self, name: &str) -> Reference {
        self.golden.reference(name)
    }

    /// What the case `id` leaves, on the tested device.
    pub(crate) fn final_latents(&self, id: &str) -> Tensor<4> {
        self.of(self.case(id), "final_latents")
            .unwrap()
            .on(&tested::device())
    }

    /// A tensor over pictures or clips with frames as rows, those of a clip next to each other.
    pub(crate) fn by_row(&self, case: &Value, key: &str) -> Reference {
        let tensor = self.of(case, key).unwrap();
        let frames_inside = self.cases["pipeline"] == "TextToVideoSDPipeline";
        match (tensor.shape.len(), frames_inside) {
            (5, true) => tensor.frames_outside().by_row(),
            _ => tensor.by_row(),
        }
    }

    /// The latents or predictions that `case` calls `key`, as maps: FLUX' pipeline has them packed.
    pub(crate) fn latents(&self, case: &Value, key: &str) -> Option<Reference> {
        let tensor = self.of(case, key)?;
        if !self.name().starts_with("flux") {
            return Some(tensor);
        }
        let side = |key: &str| case["call"][key].as_u64().unwrap() as usize / 8;
        Some(tensor.unpacked([side("height"), side("width")]))
    }

    /// [`of`](Self::of) for a free run: from f64 where that is kept.
    pub(crate) fn exact(&self, case: &Value, key: &str) -> Option<Reference> {
        let name = format!("{}/{}.{key}", self.group, case["id"].as_str().unwrap());
        let exact = self.exact.has(&name).then(|| self.exact.reference(&name));
        exact.or_else(|| self.of(case, key))
    }

    /// The tensor that `case` calls `key`, if it has one.
    pub(crate) fn of(&self, case: &Value, key: &str) -> Option<Reference> {
        case["tensors"][key].as_str().map(|name| self.tensor(name))
    }
}

impl<const D: usize> From<Tensor<D>> for Reference {
    fn from(tensor: Tensor<D>) -> Self {
        Self {
            shape: tensor.dims().to_vec(),
            values: values(tensor),
        }
    }
}

impl Reference {
    pub(crate) fn on<const D: usize>(&self, device: &Device) -> Tensor<D> {
        Tensor::from_data(
            TensorData::new(self.values.clone(), self.shape.clone()),
            device,
        )
    }

    /// The parts along the first axis.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Self> {
        (0..self.shape[0]).map(|index| self.row(index))
    }

    /// Part `index` of a tensor whose first axis counts kept steps.
    pub(crate) fn row(&self, index: usize) -> Self {
        let size = self.values.len() / self.shape[0];
        Self {
            shape: self.shape[1..].to_vec(),
            values: self.values[index * size..(index + 1) * size].to_vec(),
        }
    }

    /// The first `count` entries of the first axis.
    pub(crate) fn first(&self, count: usize) -> Self {
        let size = self.values.len() / self.shape[0];
        let shape = [&[count], &self.shape[1..]].concat();
        let values = self.values[..count * size].to_vec();
        Self { shape, values }
    }

    /// Frames as rows, those of a film next to each other: `[clips, frames, channels, height, width]` as four axes; what has four stays.
    pub(crate) fn by_row(&self) -> Self {
        let (outer, inner) = self.shape.split_at(self.shape.len() - 3);
        Self {
            shape: [&[outer.iter().product()], inner].concat(),
            values: self.values.clone(),
        }
    }

    /// The second and third of five axes, one for the other.
    pub(crate) fn frames_outside(&self) -> Self {
        let swapped = self.on::<5>(&Device::flex()).swap_dims(1, 2);
        Self::from(swapped)
    }

    /// Packed tokens, `[…, patches, channels · 2 · 2]`, as latents of height and width, `[…, channels, height, width]`.
    pub(crate) fn unpacked(&self, [height, width]: [usize; 2]) -> Self {
        let (outer, inner) = self.shape.split_at(self.shape.len() - 2);
        let (rows, channels) = (outer.iter().product::<usize>(), inner[1] / 4);
        let packed = Tensor::<1>::from_floats(&self.values[..], &Device::flex());
        let latents = packed
            .reshape([rows, height / 2, width / 2, channels, 2, 2])
            .permute([0, 3, 1, 4, 2, 5])
            .reshape([rows, channels, height, width]);
        Self {
            shape: [outer, &[channels, height, width]].concat(),
            values: values(latents),
        }
    }

    /// Of a mask, `[rows, tokens]`, how many tokens of each row are text.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        let rows = self.rows();
        let sums = rows.iter().map(|row| row.iter().sum::<f64>() as usize);
        sums.collect()
    }

    /// The parts along the first axis, flat.
    pub(crate) fn rows(&self) -> Vec<Vec<f64>> {
        let size = self.values.len() / self.shape[0];
        let flat = |row: &[f32]| row.iter().copied().map(f64::from).collect();
        self.values.chunks(size).map(flat).collect()
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

    /// The largest difference over the reference's standard deviation; an error if it is above `tolerance`.
    pub(crate) fn compare<const D: usize>(
        &self,
        found: Tensor<D>,
        tolerance: f64,
    ) -> Result<f64, String> {
        let difference = self.difference(found)?;
        if difference.relative <= tolerance {
            return Ok(difference.relative);
        }
        Err(difference.to_string())
    }

    /// The largest difference; an error if the shapes are not the same.
    pub(crate) fn difference<const D: usize>(
        &self,
        found: Tensor<D>,
    ) -> Result<Difference, String> {
        let shape = found.dims().to_vec();
        if shape != self.shape {
            return Err(format!("shape {shape:?}, reference {:?}", self.shape));
        }
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        let pairs = found.iter().zip(&self.values).enumerate();
        let differences = pairs.map(|(index, (a, b))| (index, f64::from((a - b).abs())));
        // In this order a value that is not a number is the worst of all.
        let by_size = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        let (index, largest) = differences.max_by(by_size).unwrap();
        Ok(Difference {
            largest,
            relative: largest / self.spread(),
            index,
            shape,
            values: [found[index], self.values[index]],
        })
    }
}

/// Where two tensors are furthest apart.
pub(crate) struct Difference {
    largest: f64,
    /// In the reference's standard deviations.
    pub(crate) relative: f64,
    index: usize,
    shape: Vec<usize>,
    /// Found there, and the reference's.
    values: [f32; 2],
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            largest,
            relative,
            index,
            shape,
            values: [found, expected],
        } = self;
        write!(
            formatter,
            "off by {largest:.3e} = {relative:.3e} standard deviations at {index} of {shape:?}: {found} for {expected}"
        )
    }
}
