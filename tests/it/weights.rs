//! Reading weight files and filling modules with them.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking, and their numbers are small"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use afterimage::weights::{
    Storage, WeightSource, load_strict,
    original::{Placement, Structure, place, split},
    shapes,
};
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
const TOY: [(&str, &[usize]); 8] = [
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

fn written(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn opened(tensors: &[(&str, &[usize])]) -> WeightSource {
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

fn floats(tensor: burn::tensor::TensorData) -> Vec<f32> {
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

#[test]
fn malformed_files_are_named() {
    let whole = counting(&TOY);
    let folder = folder();
    let huge = [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat();
    let longer = [&whole[..], &[0; 3]].concat();
    let header = whole.len() - 4 * (3 + 3 + 6 + 2 + 8 + 4 + 9 + 3);
    for (name, bytes, expected) in [
        ("empty", &[][..], "not a readable safetensors file"),
        ("huge", &huge, "not a readable safetensors file"),
        (
            "garbage",
            &[9, 0, 0, 0, 0, 0, 0, 0, b'{', b'x'],
            "a header of 9 bytes in a file of 10",
        ),
        (
            "json",
            b"\x02\0\0\0\0\0\0\0{x",
            "not a readable safetensors file",
        ),
        ("cut", &whole[..whole.len() - 1], "the file is cut short"),
        (
            "headless",
            &whole[..header - 5],
            "not a readable safetensors file",
        ),
        ("longer", &longer, "its header describes"),
    ] {
        let name = format!("{name}.safetensors");
        let error = WeightSource::open(written(&folder, &name, bytes)).unwrap_err();
        let text = error.to_string();
        assert!(
            error.is_weights() && text.contains(expected),
            "{name}: {text}"
        );
        assert!(text.contains(&name), "{text}");
    }
    let error = WeightSource::open(folder.path().join("absent.safetensors")).unwrap_err();
    assert!(error.is_file(), "{error}");
}

#[test]
fn a_cut_file_names_the_first_tensor_that_is_lost() {
    let whole = counting(&[("a", &[4]), ("b", &[4])]);
    let folder = folder();
    let path = written(&folder, "cut.safetensors", &whole[..whole.len() - 20]);
    let text = WeightSource::open(path).unwrap_err().to_string();
    assert!(text.starts_with("tensor `a` ends at byte"), "{text}");
}

#[test]
fn torch_files_read_like_safetensors() {
    for name in ["plain.bin", "nested.ckpt"] {
        let source = WeightSource::open(fixture("weights").join(name)).unwrap();
        let names: Vec<_> = source.names().collect();
        let expected = ["embeddings.position_ids", "linear.bias", "linear.weight"];
        assert_eq!(names, expected, "{name}");
        assert_eq!(source.shape("linear.weight"), Some(vec![2, 3]));
        assert_eq!(source.dtype("linear.bias"), Some(DType::F16));
        let weight = floats(source.read("linear.weight").unwrap());
        assert_eq!(weight, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}

#[test]
fn pickles_with_code_are_refused() {
    let error = WeightSource::open(fixture("weights/code.ckpt")).unwrap_err();
    let text = error.to_string();
    assert!(
        error.is_weights() && text.contains("would run `posix.system`"),
        "{text}"
    );
    let error = WeightSource::open(fixture("weights/code_root.bin")).unwrap_err();
    assert!(error.to_string().contains("posix.system"), "{error}");
}

#[test]
fn broken_torch_files_are_named() {
    let whole = fs::read(fixture("weights/plain.bin")).unwrap();
    let folder = folder();
    for (name, bytes) in [
        ("empty.bin", &[][..]),
        ("cut.bin", &whole[..whole.len() / 2]),
    ] {
        let error = WeightSource::open(written(&folder, name, bytes)).unwrap_err();
        assert!(
            error.is_weights() && error.to_string().contains(name),
            "{error}"
        );
    }
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

/// Name and shape of every tensor of a full-size model.
pub(crate) type ParameterList = BTreeSet<(String, Vec<usize>)>;

/// Where the lists are: the committed ones, or all where the shared data is at hand.
fn parameter_list(layout: &str, name: &str) -> Option<ParameterList> {
    let file = format!("param-lists/{layout}/{name}.tsv");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(&file);
    let text = fs::read_to_string(fixture(&file)).or_else(|_| fs::read_to_string(shared));
    let entry = |line: &str| {
        let (name, shape) = line.split_once('\t').unwrap();
        (name.to_owned(), serde_json::from_str(shape).unwrap())
    };
    Some(text.ok()?.lines().map(entry).collect())
}

const STABLE_DIFFUSION: Structure = Structure {
    unet_layers: 2,
    vae_levels: 4,
    text_layers: 12,
};

/// An original list under diffusers names.
fn mapped(list: &ParameterList, part: &str, structure: &Structure) -> ParameterList {
    let mut found = ParameterList::new();
    for (name, shape) in list {
        match place(name, structure) {
            Placement::Part(to, pieces) => {
                assert_eq!(to, part, "{name}");
                let entries = pieces
                    .into_iter()
                    .map(|one| (one.name, one.cut.shape(shape)));
                found.extend(entries);
            }
            Placement::Leftover => {}
            Placement::Unknown => panic!("{name} is unknown"),
        }
    }
    found
}

#[test]
fn original_lists_map_to_the_diffusers_lists() {
    for (original, diffusers, part) in [
        ("sd15.unet.ldm", "sd15.unet", "unet"),
        ("sd15-inpaint.unet.ldm", "sd15-inpaint.unet", "unet"),
        ("sd21.unet.ldm", "sd21.unet", "unet"),
        ("sd15.vae.ldm", "sd15.vae", "vae"),
        ("sd21.vae.ldm", "sd15.vae", "vae"),
        ("sd2-inpaint.vae.ldm", "sd15.vae", "vae"),
        ("sdxl-base.unet.sgm", "sdxl-base.unet", "unet"),
        ("sdxl-refiner.unet.sgm", "sdxl-refiner.unet", "unet"),
    ] {
        let lists = (
            parameter_list("original", original),
            parameter_list("diffusers", diffusers),
        );
        let (Some(original_list), Some(expected)) = lists else {
            continue;
        };
        let found = mapped(&original_list, part, &STABLE_DIFFUSION);
        assert_eq!(found, canonical_list(&expected), "{original}");
    }
}

/// A diffusers list as of today: linear attention under its present names.
fn canonical_list(list: &ParameterList) -> ParameterList {
    let entry = |(name, shape): &(String, Vec<usize>)| {
        (
            afterimage::weights::names::canonical_name(name),
            shape.clone(),
        )
    };
    list.iter().map(entry).collect()
}

/// There is no diffusers list of SD 2 inpainting: it is SD 2.1's with five more input channels.
#[test]
fn second_inpainting_list_is_the_base_with_nine_channels() {
    let Some(original) = parameter_list("original", "sd2-inpaint.unet.ldm") else {
        return;
    };
    let mut expected = parameter_list("diffusers", "sd21.unet").unwrap();
    assert!(expected.remove(&("conv_in.weight".to_owned(), vec![320, 4, 3, 3])));
    expected.insert(("conv_in.weight".to_owned(), vec![320, 9, 3, 3]));
    assert_eq!(mapped(&original, "unet", &STABLE_DIFFUSION), expected);
}

/// The text encoder of an original SD 1.x file: the diffusers names behind a prefix.
#[test]
fn first_text_encoder_maps_with_and_without_its_prefix() {
    let expected = parameter_list("diffusers", "sd15.text_encoder").unwrap();
    for drop in ["", "text_model."] {
        let prefixed = expected.iter().map(|(name, shape)| {
            let name = name.strip_prefix(drop).unwrap();
            (
                format!("cond_stage_model.transformer.{name}"),
                shape.clone(),
            )
        });
        let mut original: ParameterList = prefixed.collect();
        let ids = "cond_stage_model.transformer.text_model.embeddings.position_ids";
        original.insert((ids.to_owned(), vec![1, 77]));
        assert_eq!(
            mapped(&original, "text_encoder", &STABLE_DIFFUSION),
            expected
        );
    }
}

/// `OpenCLIP`'s text tower as original files hold it under `prefix`.
pub(crate) fn open_clip_list(prefix: &str, layers: usize, width: usize) -> ParameterList {
    let mut list = ParameterList::new();
    let mut add = |name: &str, shape: &[usize]| {
        list.insert((format!("{prefix}{name}"), shape.to_vec()));
    };
    for layer in 0..layers {
        for (name, shape) in [
            ("ln_1.weight", &[width][..]),
            ("ln_1.bias", &[width]),
            ("ln_2.weight", &[width]),
            ("ln_2.bias", &[width]),
            ("attn.in_proj_weight", &[3 * width, width]),
            ("attn.in_proj_bias", &[3 * width]),
            ("attn.out_proj.weight", &[width, width]),
            ("attn.out_proj.bias", &[width]),
            ("mlp.c_fc.weight", &[4 * width, width]),
            ("mlp.c_fc.bias", &[4 * width]),
            ("mlp.c_proj.weight", &[width, 4 * width]),
            ("mlp.c_proj.bias", &[width]),
        ] {
            add(&format!("transformer.resblocks.{layer}.{name}"), shape);
        }
    }
    add("token_embedding.weight", &[49408, width]);
    add("positional_embedding", &[77, width]);
    add("ln_final.weight", &[width]);
    add("ln_final.bias", &[width]);
    add("text_projection", &[width, width]);
    add("logit_scale", &[]);
    list
}

#[test]
fn second_text_encoder_maps_to_the_diffusers_list() {
    let structure = Structure {
        text_layers: 23,
        ..STABLE_DIFFUSION
    };
    let expected = parameter_list("diffusers", "sd21.text_encoder").unwrap();
    // ViT-H/14 has 24 layers, of which the config has 23.
    let original = open_clip_list("cond_stage_model.model.", 24, 1024);
    assert_eq!(mapped(&original, "text_encoder", &structure), expected);
}

/// `OpenCLIP` ViT-bigG/14 in SDXL base and refiner files, its projection of the whole text included.
#[test]
fn text_encoders_of_sdxl_map_to_the_diffusers_list() {
    let structure = Structure {
        text_layers: 32,
        ..STABLE_DIFFUSION
    };
    let Some(expected) = parameter_list("diffusers", "sdxl.text_encoder_2") else {
        return;
    };
    for prefix in [
        "conditioner.embedders.0.model.",
        "conditioner.embedders.1.model.",
    ] {
        let original = open_clip_list(prefix, 32, 1280);
        assert_eq!(mapped(&original, "text_encoder_2", &structure), expected);
    }
    let first = place(
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias",
        &structure,
    );
    let Placement::Part("text_encoder", pieces) = first else {
        panic!("{first:?}");
    };
    assert_eq!(pieces[0].name, "text_model.final_layer_norm.bias");
}

/// `OpenCLIP` multiplies by its projection from the right.
#[test]
fn a_projection_from_the_right_is_turned() {
    let tensors: [(&str, &[usize]); 2] = [
        ("conditioner.embedders.1.model.text_projection", &[2, 3]),
        ("conditioner.embedders.1.model.logit_scale", &[1]),
    ];
    let parts = split(&opened(&tensors), &STABLE_DIFFUSION).unwrap();
    let projection = parts.parts["text_encoder_2"].read("text_projection.weight");
    assert_eq!(floats(projection.unwrap()), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn split_cuts_values_as_well_as_names() {
    let tensors: [(&str, &[usize]); 4] = [
        (
            "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
            &[6, 2],
        ),
        (
            "first_stage_model.decoder.mid.attn_1.q.weight",
            &[2, 2, 1, 1],
        ),
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            &[2, 1, 1, 1],
        ),
        ("model_ema.decay", &[1]),
    ];
    let parts = split(&opened(&tensors), &STABLE_DIFFUSION).unwrap();
    assert_eq!(parts.leftovers, ["model_ema.decay"]);
    let key = "text_model.encoder.layers.0.self_attn.k_proj.weight";
    let key = floats(parts.parts["text_encoder"].read(key).unwrap());
    assert_eq!(key, [4.0, 5.0, 6.0, 7.0]);
    let query = "decoder.mid_block.attentions.0.to_q.weight";
    assert_eq!(parts.parts["vae"].shape(query), Some(vec![2, 2]));
    assert!(parts.parts["vae"].read(query).is_ok());
    assert!(parts.parts["unet"].read("conv_in.weight").is_ok());

    let error = split(&opened(&[("control_model.a", &[1])]), &STABLE_DIFFUSION).unwrap_err();
    assert!(error.to_string().contains("`control_model.a`"), "{error}");
}
