//! The encoder of T5 in fewer bits: weights in 8 on the processor, and in half precision, whose range its states outgrow.

use afterimage::models::t5::{T5Config, T5EncoderModel};
use afterimage::text::SentenceEncoder as _;
use afterimage::weights::{Format, Storage, WeightFormat, WeightSource, load_strict, shapes};
use burn::tensor::{DType, Device};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::fixture::values;
use crate::tested::normals;
use crate::tolerance::F16;

/// Width of a head.
const HEAD: usize = 32;

/// How far 8 bits move states, by the root of the mean square: 2.5e-2 was measured, and 2.9e-2 of transformers' states under the same rounding
/// in `PyTorch`. Layers of random weights add as much as they get, so that errors of 0.6 % a matrix add up.
const STATES: f64 = 5e-2;

/// Wide enough that every matrix is worth 8 bits.
fn config() -> T5Config {
    let json = serde_json::json!({
        "vocab_size": 200, "d_model": 128, "d_kv": HEAD, "d_ff": 320, "num_layers": 4, "num_heads": 4,
        "feed_forward_proj": "gated-gelu"
    });
    T5Config::from_json(&json.to_string(), "text_encoder").unwrap()
}

/// Normal weights, those into the feed-forward layers `strong` times as large: with 1, every layer keeps the size of its input.
struct Weights {
    source: WeightSource,
    _folder: TempDir,
}

impl Weights {
    fn drawn(strong: f32) -> Self {
        let model = T5EncoderModel::new(&config(), &Device::flex());
        let tensors: Vec<_> = shapes(&model)
            .into_iter()
            .enumerate()
            .map(|(seed, (name, shape))| {
                let gain = match name.as_str() {
                    name if name.contains("wi_") => strong,
                    // T5's scores are not scaled: its queries are that much smaller.
                    name if name.contains(".q.") => (HEAD as f32).powf(-0.5),
                    _ => 1.0,
                };
                (name, bytes(&shape, gain, seed as u64), shape)
            })
            .collect();
        let views = tensors.iter().map(|(name, bytes, shape)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
            (name.as_str(), view)
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
        Self {
            source: WeightSource::open(path).unwrap(),
            _folder: folder,
        }
    }

    /// States of a text of 12 tokens in front of padding.
    fn states(&self, storage: impl Into<Storage>) -> Vec<f32> {
        let model = T5EncoderModel::new(&config(), &Device::flex());
        let model = load_strict(model, &self.source, "text_encoder", storage).unwrap();
        let ids: Vec<u32> = (0..77)
            .map(|at| if at < 12 { 7 * at + 3 } else { 0 })
            .collect();
        values(model.states(&[ids], &[11]))
    }
}

fn bytes(shape: &[usize], gain: f32, seed: u64) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let drawn = match shape {
        [_] => vec![1.0; count],
        [.., inputs] => {
            let size = gain / (*inputs as f32).sqrt();
            values(normals([count], seed) * size)
        }
        [] => panic!("every weight has a shape"),
    };
    drawn.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Root of the mean square of the difference, in that of `expected`.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let differences = found.iter().zip(expected).map(|(one, other)| one - other);
    let sum: f64 = differences.map(square).sum();
    (sum / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

#[test]
fn eight_bits_move_states_a_little() {
    let weights = Weights::drawn(1.0);
    let eight = Format::new(DType::F32, WeightFormat::Q8);
    let rounded = weights.states(Storage::of(&Device::flex(), eight).unwrap());
    let exact = weights.states(DType::F32);
    let apart = apart(&rounded, &exact);
    eprintln!("T5 in 8 bits: {apart:.2e}");
    assert!(rounded != exact, "nothing was rounded");
    assert!(apart < STATES, "{apart}");
}

/// Gate and input of a feed-forward layer are some thousand each: their product, and the sums that it goes into, are beyond the 65504 of f16.
#[test]
fn half_precision_outlives_states_beyond_its_range() {
    let weights = Weights::drawn(2000.0);
    let half = weights.states(DType::F16);
    let single = weights.states(DType::F32);
    assert!(half.iter().all(|value| value.is_finite()));
    let apart = apart(&half, &single);
    assert!(apart > 0.0 && apart < F16, "{apart}");
}
