//! What belongs to an adapter beside its tensors: peft's configuration, the token of an embedding, the types of both.

use std::fs;
use std::path::PathBuf;

use afterimage::text::Embedding;
use afterimage::weights::adapt::{Lora, Merge, Parameters};
use safetensors::tensor::{Dtype, TensorView};

use crate::adapter_files::{Made, file, made, source};
use crate::weights::{folder, written};

/// A `LoRA` of rank 1 whose product is all ones, as peft names it.
fn ones() -> Vec<Made> {
    vec![
        made("unet.layer.lora_A.weight", &[1, 2], |_| 1.0),
        made("unet.layer.lora_B.weight", &[2, 1], |_| 1.0),
    ]
}

/// What is beside the file of peft, and where.
fn beside(config: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let (kept, path) = file("adapter_model.safetensors", &ones());
    fs::write(path.with_file_name("adapter_config.json"), config).unwrap();
    (kept, path)
}

fn merged(lora: Lora) -> Vec<f32> {
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), vec![2, 2])],
    )];
    let merge = Merge::resolve(&parameters, &[lora], &[]).unwrap();
    let base = source(&[made("layer.weight", &[2, 2], |_| 0.0)], None);
    let data = merge.of("unet").read("layer.weight", &base).unwrap();
    data.iter().collect()
}

#[test]
fn a_configuration_that_cannot_be_read_is_no_absent_one() {
    let text = r#"{"lora_alpha": 3}"#;
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    for config in [text.as_bytes(), &marked] {
        let (_kept, path) = beside(config);
        assert_eq!(merged(Lora::open(&path).unwrap()), [3.0; 4]);
        fs::remove_file(path.with_file_name("adapter_config.json")).unwrap();
        assert_eq!(merged(Lora::open(&path).unwrap()), [1.0; 4]);
    }
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let wide = [&b"\xff\xfe"[..], &wide].concat();
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n";
    for (config, expected) in [
        (&wide[..], "cannot read `adapter_config.json`"),
        (pointer, "this is a Git LFS pointer"),
        (b"<!DOCTYPE html>", "this is a page of the web"),
        (b"[1]", "the configuration of the LoRA is no JSON object"),
        (
            br#"{"alpha_pattern": {"(a|b)": 2}}"#,
            "the configuration of the LoRA names layers by the expression `(a|b)`",
        ),
    ] {
        let (_kept, path) = beside(config);
        let text = Lora::open(&path).unwrap_err().to_string();
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("adapter_config.json"), "{text}");
    }
    let (_kept, path) = file("adapter_model.safetensors", &ones());
    fs::create_dir(path.with_file_name("adapter_config.json")).unwrap();
    let text = Lora::open(&path).unwrap_err().to_string();
    assert!(
        text.starts_with("cannot read `adapter_config.json`"),
        "{text}"
    );
}

/// A file of integers in eight bits: each its name and shape.
fn integers(tensors: &[(&str, &[usize])]) -> (tempfile::TempDir, PathBuf) {
    let zeros = [0; 64];
    let views = tensors.iter().map(|(name, shape)| {
        let bytes = &zeros[..shape.iter().product()];
        (
            *name,
            TensorView::new(Dtype::I8, shape.to_vec(), bytes).unwrap(),
        )
    });
    let folder = folder();
    let bytes = safetensors::serialize(views, None).unwrap();
    let path = written(&folder, "integers.safetensors", &bytes);
    (folder, path)
}

#[test]
fn integers_are_refused_for_their_type() {
    let (_kept, path) = integers(&[
        ("unet.layer.lora_A.weight", &[2, 4]),
        ("unet.layer.lora_B.weight", &[4, 2]),
    ]);
    let text = Lora::open(path).unwrap_err().to_string();
    assert!(
        text.starts_with("tensor `unet.layer.lora_") && text.contains("holds I8"),
        "{text}"
    );
    let (_kept, path) = integers(&[("zzq", &[2, 8])]);
    let text = Embedding::open(path, None).unwrap_err().to_string();
    assert!(
        text.contains("`zzq [2, 8] of I8`") && text.contains("hint: its vectors must be floats"),
        "{text}"
    );
    let deep = source(&[made("zzq", &[1, 1, 8], |_| 0.5)], None);
    let text = Embedding::from_source(&deep, None).unwrap_err().to_string();
    assert!(
        text.contains("hint: its vectors are `[count, width]`"),
        "{text}"
    );
}

/// Files of the first program, whose key is the placeholder that was asked for: `*` where it was not.
#[test]
fn the_only_tensor_of_a_placeholder_is_the_embedding() {
    let vectors = |name: &str| made(name, &[2, 8], |_| 0.5);
    let known = made("string_to_token.zzq", &[1], |_| 265.0);
    let named = source(&[vectors("string_to_param.zzq"), known.clone()], None);
    assert!(Embedding::is_one(&named));
    let embedding = Embedding::from_source(&named, None).unwrap();
    assert_eq!(embedding.token(), "zzq");
    assert_eq!(embedding.vectors(), [(2, 8)]);
    assert!(embedding.left_out().is_empty());
    let said = Embedding::from_source(&named, Some("cat")).unwrap();
    assert_eq!(said.token(), "cat");
    let star = source(&[vectors("string_to_param.*"), known, vectors("odd")], None);
    let embedding = Embedding::from_source(&star, None).unwrap();
    assert_eq!(embedding.token(), "made");
    assert_eq!(embedding.left_out(), ["odd"]);
    let two = [vectors("string_to_param.a"), vectors("string_to_param.b")];
    assert!(Embedding::from_source(&source(&two, None), None).is_err());
}

/// An alpha may be an integer, though factors may not.
#[test]
fn alphas_of_any_type_scale_a_layer() {
    let values = [1.0_f32.to_le_bytes(); 2].concat();
    let three = 3_i64.to_le_bytes();
    let view =
        |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let bytes = safetensors::serialize(
        [
            (
                "unet.layer.lora_A.weight",
                view(Dtype::F32, &[1, 2], &values),
            ),
            (
                "unet.layer.lora_B.weight",
                view(Dtype::F32, &[2, 1], &values),
            ),
            ("unet.layer.alpha", view(Dtype::I64, &[], &three)),
        ],
        None,
    );
    let folder = folder();
    let path = written(&folder, "alpha.safetensors", &bytes.unwrap());
    let lora = Lora::open(path).unwrap();
    assert_eq!(merged(lora), [3.0; 4]);
}
