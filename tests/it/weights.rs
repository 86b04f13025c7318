//! Reading weight files and filling modules with them.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use afterimage::weights::{Storage, WeightSource, load_strict, shapes};
use burn::{
    module::Module,
    nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, conv::Conv2d, conv::Conv2dConfig},
    tensor::{DType, Device, TensorData},
};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

/// A module with one of everything that differs between torch and burn.
#[derive(Module, Debug)]
struct Toy {
    norm: LayerNorm,
    to_out: Linear,
    conv: Conv2d,
    blocks: Vec<Linear>,
}

impl Toy {
    fn new(device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Self {
            norm: LayerNormConfig::new(3).init(device),
            to_out: linear(3, 2),
            conv: Conv2dConfig::new([2, 4], [1, 1]).init(device),
            blocks: vec![linear(3, 3)],
        }
    }
}

/// Names and shapes of [`Toy`] as a checkpoint has them.
pub(crate) const TOY: [(&str, &[usize]); 8] = [
    ("norm.weight", &[3]),
    ("norm.bias", &[3]),
    ("to_out.0.weight", &[2, 3]),
    ("to_out.0.bias", &[2]),
    ("conv.weight", &[4, 2, 1, 1]),
    ("conv.bias", &[4]),
    ("blocks.0.weight", &[3, 3]),
    ("blocks.0.bias", &[3]),
];

/// A safetensors file of f32 tensors that count 0, 1, 2, ….
pub(crate) fn counting(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    counting_in(tensors, Dtype::F32, DType::F32)
}

/// [`counting`] in another type, which has two names.
fn counting_in(tensors: &[(&str, &[usize])], kept: Dtype, dtype: DType) -> Vec<u8> {
    let values = |shape: &[usize]| -> Vec<f32> {
        let count = shape.iter().product::<usize>();
        (0..count).map(|value| value as f32).collect()
    };
    let data: Vec<TensorData> = tensors
        .iter()
        .map(|(_, shape)| TensorData::new(values(shape), shape.to_vec()).convert_dtype(dtype))
        .collect();
    let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
        let view = TensorView::new(kept, shape.to_vec(), data.as_bytes()).unwrap();
        ((*name).to_owned(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// A folder that is removed when it goes out of scope.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn written(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn opened(tensors: &[(&str, &[usize])]) -> WeightSource {
    let folder = folder();
    // The source holds the file open, so the folder may go.
    WeightSource::open(written(&folder, "toy.safetensors", &counting(tensors))).unwrap()
}

fn load(source: &WeightSource, storage: impl Into<Storage>) -> Result<Toy, afterimage::Error> {
    load_strict(Toy::new(&Device::flex()), source, "toy", storage)
}

pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

pub(crate) fn floats(tensor: burn::tensor::TensorData) -> Vec<f32> {
    tensor.convert::<f32>().try_to_vec().unwrap()
}

#[test]
fn shapes_speak_as_the_checkpoint_and_allocate_nothing() {
    let module = Toy::new(&Device::flex());
    let found: BTreeMap<_, _> = shapes(&module).into_iter().collect();
    let expected = TOY.map(|(name, shape)| (name.to_owned(), shape.to_vec()));
    assert_eq!(found, BTreeMap::from(expected));
    assert!(!module.to_out.weight.is_initialized());
}

#[test]
fn loads_transposed_linear_weights_and_norms() {
    let toy = load(&opened(&TOY), DType::F32).unwrap();
    assert_eq!(toy.to_out.weight.val().dims(), [3, 2]);
    let weight = floats(toy.to_out.weight.val().into_data());
    assert_eq!(weight, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(floats(toy.norm.gamma.val().into_data()), [0.0, 1.0, 2.0]);
    assert_eq!(toy.conv.weight.val().dims(), [4, 2, 1, 1]);
}

#[test]
fn casts_floats_at_load() {
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        let toy = load(&opened(&TOY), dtype).unwrap();
        assert_eq!(toy.to_out.weight.val().dtype(), dtype);
        let weight = floats(toy.to_out.weight.val().into_data());
        assert_eq!(weight, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}

/// Only the weights of layers, only on the processor, only where nothing is asked but f32.
#[test]
fn half_precision_stays_where_kernels_widen_it() {
    let device = Device::flex();
    assert_eq!(
        Storage::of(&device, DType::F32).unwrap(),
        Storage::HalfWeights
    );
    assert_eq!(
        Storage::of(&device, DType::F16).unwrap(),
        Storage::As(DType::F16)
    );
    for (kept, dtype) in [
        (Dtype::F16, DType::F16),
        (Dtype::BF16, DType::BF16),
        (Dtype::F32, DType::F32),
    ] {
        let folder = folder();
        let path = written(&folder, "toy.safetensors", &counting_in(&TOY, kept, dtype));
        let toy = load(&WeightSource::open(path).unwrap(), Storage::HalfWeights).unwrap();
        assert_eq!(toy.to_out.weight.val().dtype(), dtype);
        assert_eq!(toy.conv.weight.val().dtype(), dtype);
        assert_eq!(toy.to_out.bias.unwrap().val().dtype(), DType::F32);
        assert_eq!(toy.norm.gamma.val().dtype(), DType::F32);
        let weight = floats(toy.to_out.weight.val().into_data());
        assert_eq!(weight, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}

/// SD 1.x keeps linear layers as 1x1 convolutions; the reverse, or another size, does not fit.
#[test]
fn unit_convolutions_fill_linear_layers() {
    let mut tensors = TOY.to_vec();
    tensors[2].1 = &[2, 3, 1, 1];
    let toy = load(&opened(&tensors), DType::F32).unwrap();
    let weight = floats(toy.to_out.weight.val().into_data());
    assert_eq!(weight, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    for (at, shape) in [(2, &[2, 3, 3, 3][..]), (2, &[3, 2, 1, 1]), (4, &[4, 2])] {
        let mut tensors = TOY.to_vec();
        tensors[at].1 = shape;
        let error = load(&opened(&tensors), DType::F32).unwrap_err();
        assert!(error.is_weights(), "{error}");
    }
}

#[test]
fn one_error_lists_all_that_does_not_fit() {
    let mut tensors = TOY.to_vec();
    tensors[0].0 = "norm.scale";
    tensors[2].1 = &[2, 5];
    let error = load(&opened(&tensors), DType::F32).unwrap_err();
    assert!(error.is_weights());
    let text = error.to_string();
    let shape = "tensor `to_out.0.weight` has shape [2, 5], the config asks for [2, 3]";
    for part in [
        "the weights of `toy` do not fit its config",
        shape,
        "1 missing: `norm.weight`",
        "1 unused: `norm.scale`",
        "toy.safetensors",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn position_ids_are_ignored() {
    let mut tensors = TOY.to_vec();
    tensors.push(("text_model.embeddings.position_ids", &[1, 77]));
    assert!(load(&opened(&tensors), DType::F32).is_ok());
}

fn index(entries: &[(&str, &str)]) -> Vec<u8> {
    let map: BTreeMap<_, _> = entries.iter().copied().collect();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    serde_json::to_vec(&index).unwrap()
}

#[test]
fn shards_are_one_source_and_a_missing_one_is_named() {
    let folder = folder();
    written(&folder, "one.safetensors", &counting(&TOY[..4]));
    written(&folder, "two.safetensors", &counting(&TOY[4..]));
    let shard = |position| {
        if position < 4 {
            "one.safetensors"
        } else {
            "two.safetensors"
        }
    };
    let entries: Vec<_> = TOY
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (*name, shard(at)))
        .collect();
    let path = written(&folder, "m.safetensors.index.json", &index(&entries));
    assert!(load(&WeightSource::open(&path).unwrap(), DType::F32).is_ok());

    fs::remove_file(folder.path().join("two.safetensors")).unwrap();
    let text = WeightSource::open(&path).unwrap_err().to_string();
    let expected = "shard `two.safetensors` is missing, it holds `blocks.0.bias` and 3 more";
    assert!(text.starts_with(expected), "{text}");

    written(&folder, "two.safetensors", &counting(&TOY[5..]));
    let text = WeightSource::open(&path).unwrap_err().to_string();
    assert!(
        text.starts_with("tensor `conv.weight` is not in shard"),
        "{text}"
    );
}

/// A tensor that lies in two shards is that of the shard which the index names; an index may begin with a byte-order mark.
#[test]
fn an_index_decides_between_shards() {
    let folder = folder();
    written(
        &folder,
        "one.safetensors",
        &counting(&[("a", &[2]), ("b", &[2])]),
    );
    written(
        &folder,
        "two.safetensors",
        &counting(&[("b", &[3]), ("c", &[3])]),
    );
    let entries = [
        ("a", "one.safetensors"),
        ("b", "two.safetensors"),
        ("c", "two.safetensors"),
    ];
    let marked = [b"\xef\xbb\xbf", &index(&entries)[..]].concat();
    let path = written(&folder, "m.safetensors.index.json", &marked);
    let source = WeightSource::open(&path).unwrap();
    assert_eq!(source.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(source.shape("b"), Some(vec![3]));

    written(
        &folder,
        "m.safetensors.index.json",
        &index(&[("a", "no.safetensors")]),
    );
    let text = WeightSource::open(&path).unwrap_err().to_string();
    let expected = "shard `no.safetensors` is missing, it holds `a`\nhint: ";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn an_index_cannot_leave_its_folder() {
    let folder = folder();
    for shard in ["../other.safetensors", "/etc/passwd", ".."] {
        let path = written(&folder, "m.safetensors.index.json", &index(&[("a", shard)]));
        let text = WeightSource::open(path).unwrap_err().to_string();
        assert!(text.contains("is not a file name"), "{text}");
    }
}

#[test]
fn static_bytes_read_like_a_file() {
    let bytes: &'static [u8] = Box::leak(counting(&TOY).into_boxed_slice());
    let source = WeightSource::from_static(bytes, "the bundled model").unwrap();
    assert!(load(&source, DType::F32).is_ok());
    assert_eq!(source.parameters(), 38);
    assert_eq!(source.bytes(), 4 * 38);
    let error = WeightSource::from_static(&bytes[..20], "the bundled model").unwrap_err();
    assert!(error.to_string().contains("the bundled model"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No file makes the reader panic, and what it accepts can be read.
    #[test]
    fn any_bytes_are_read_or_refused(at in 0_usize..600, value: u8, keep in 0_usize..900) {
        let mut bytes = counting(&TOY);
        bytes.truncate(keep);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let source = WeightSource::from_static(Box::leak(bytes.into_boxed_slice()), "memory");
        if let Ok(source) = source {
            for name in source.names() {
                prop_assert!(source.read(name).is_ok());
            }
        }
    }
}

#[test]
fn the_format_is_in_the_file_whatever_it_is_called() {
    let folder = folder();
    let path = written(&folder, "a.ckpt", &counting(&TOY));
    assert!(load(&WeightSource::open(path).unwrap(), DType::F32).is_ok());
    let torch = fs::read(fixture("weights/plain.bin")).unwrap();
    let path = written(&folder, "a.safetensors", &torch);
    assert_eq!(WeightSource::open(path).unwrap().len(), 3);
}

/// Wrappers for several devices and compilers put themselves in front of every name.
#[test]
fn names_lose_their_wrappers() {
    let wrapped = TOY.map(|(name, shape)| (format!("_orig_mod.module.{name}"), shape));
    let wrapped: Vec<_> = wrapped
        .iter()
        .map(|(name, shape)| (name.as_str(), *shape))
        .collect();
    assert!(load(&opened(&wrapped), DType::F32).is_ok());
}

#[test]
fn models_with_values_that_are_no_numbers_are_refused_by_name() {
    let mut bytes = counting(&TOY);
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let folder = folder();
    let source = WeightSource::open(written(&folder, "toy.safetensors", &bytes)).unwrap();
    for storage in [
        Storage::As(DType::F32),
        Storage::HalfWeights,
        Storage::Quantised,
    ] {
        let text = load(&source, storage).unwrap_err().to_string();
        assert!(
            text.starts_with("tensor `") && text.contains("1 of "),
            "{text}"
        );
        assert!(
            text.contains("NaN or infinity") && text.contains("toy.safetensors"),
            "{text}"
        );
    }
}

/// Kept in eight bits, a model is loaded as one in half precision.
#[test]
fn eight_bits_fill_a_module() {
    let bytes = counting(&TOY);
    let header: usize = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    let mut entries: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).unwrap();
    for entry in entries.values_mut() {
        entry["dtype"] = "F8_E4M3".into();
        let offsets: Vec<u64> = serde_json::from_value(entry["data_offsets"].clone()).unwrap();
        entry["data_offsets"] = serde_json::json!([offsets[0] / 4, offsets[1] / 4]);
    }
    let header = serde_json::to_vec(&entries).unwrap();
    let elements = 38;
    // 1.0 everywhere: an exponent of 7, its bias.
    let bytes = [
        &(header.len() as u64).to_le_bytes()[..],
        &header,
        &vec![0x38; elements],
    ]
    .concat();
    let folder = folder();
    let source = WeightSource::open(written(&folder, "toy.safetensors", &bytes)).unwrap();
    assert_eq!(source.float_dtype(), Some(DType::F16));
    let toy = load(&source, Storage::HalfWeights).unwrap();
    assert_eq!(toy.to_out.weight.val().dtype(), DType::F16);
    assert_eq!(floats(toy.to_out.weight.val().into_data()), [1.0; 6]);
    assert_eq!(floats(toy.norm.gamma.val().into_data()), [1.0; 3]);
}
