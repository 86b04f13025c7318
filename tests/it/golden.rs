//! Reading golden tensors and comparing with them.

use std::path::{Path, PathBuf};

use afterimage::weights::WeightSource;
use burn::tensor::{Device, Tensor, TensorData};

/// CPU in f32 against torch on the CPU in f32, over the reference's standard deviation: sums in another order, nothing more.
pub(crate) const F32_CPU: f64 = 1e-4;

/// A committed fixture.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

/// A file of the shared reference, where this checkout has one.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("AFTERIMAGE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
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

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.0.read(name).unwrap(), device)
    }

    /// Compares `actual` with the tensor `name`: same shape, and every element within `tolerance` standard deviations of it.
    pub(crate) fn assert_close<const D: usize>(
        &self,
        name: &str,
        actual: Tensor<D>,
        tolerance: f64,
    ) {
        assert_close(
            name,
            actual.into_data(),
            self.0.read(name).unwrap(),
            tolerance,
        );
    }
}

fn assert_close(name: &str, actual: TensorData, expected: TensorData, tolerance: f64) {
    assert_eq!(actual.shape(), expected.shape(), "`{name}`");
    let values = |data: TensorData| data.iter::<f64>().collect::<Vec<_>>();
    let (actual, expected) = (values(actual), values(expected));
    let limit = tolerance * deviation(&expected);
    let errors = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = errors.enumerate().fold((0, 0.0), |worst, (index, error)| {
        // Not a number is the worst of all.
        if error <= worst.1 {
            worst
        } else {
            (index, error)
        }
    });
    let (index, error) = worst;
    let (have, want) = (actual[index], expected[index]);
    assert!(
        error <= limit,
        "`{name}` differs by {error:e} at {index} ({have} for {want}), allowed {limit:e}"
    );
}

fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    (squares.sum::<f64>() / count).sqrt()
}
