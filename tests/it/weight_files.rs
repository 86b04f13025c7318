//! Files that are not what they should be, told by name.

use afterimage::weights::WeightSource;
use burn::tensor::DType;
use safetensors::tensor::{Dtype, TensorView};

use crate::weights::{TOY, counting, folder, written};

#[test]
fn malformed_files_are_named() {
    let whole = counting(&TOY);
    let folder = folder();
    let huge = [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat();
    let longer = [&whole[..], &[0; 3]].concat();
    let header = whole.len() - 4 * (3 + 3 + 6 + 2 + 8 + 4 + 9 + 3);
    for (name, bytes, expected) in [
        ("empty", &[][..], "this is an empty file"),
        (
            "short",
            &[9, 0, 0, 0, 0, 0, 0],
            "it has 7 bytes\nhint: the file is cut short",
        ),
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
fn what_lies_in_a_files_place_is_named() {
    let folder = folder();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 3438167534\n",
        "4d7a".repeat(16)
    );
    for (name, content, expected) in [
        (
            "a.safetensors",
            pointer.as_str(),
            "Git LFS pointer, not the file itself, which has 3438167534 bytes",
        ),
        ("a.bin", &pointer, "git lfs pull"),
        ("a.safetensors.index.json", &pointer, "Git LFS pointer"),
        (
            "b.safetensors",
            "<!DOCTYPE html>\n<html>",
            "a page of the web",
        ),
        (
            "c.safetensors",
            "\n<!-- a login -->\n<html>",
            "a page of the web",
        ),
        (
            "b.ckpt",
            "Access to model x is restricted.",
            "`Access to model x is restricted.`",
        ),
    ] {
        let error = WeightSource::open(written(&folder, name, content.as_bytes())).unwrap_err();
        let text = error.to_string();
        assert!(
            error.is_weights() && text.contains(expected),
            "{name}: {text}"
        );
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn files_of_other_kinds_are_named() {
    let folder = folder();
    let tar = [&[b'a'; 257][..], b"ustar\0", &[b'0'; 300]].concat();
    let zeros = [0; 600];
    let begun = [&600_u64.to_le_bytes()[..], b"{\"a\":"].concat();
    for (name, content, expected) in [
        (
            "a.safetensors",
            &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..],
            "this is a picture",
        ),
        ("b.safetensors", b"Rar!\x1a\x07\x01\0", "unpack it first"),
        ("c.safetensors", b"\x1f\x8b\x08\0", "unpack it first"),
        ("d.tar", &tar, "this is a packed archive"),
        ("e.h5", b"\x89HDF\r\n\x1a\n", "a file of Keras"),
        ("f.safetensors", &zeros, "it begins with zeros"),
        ("g.safetensors", &begun, "the file is cut short"),
        (
            "h.onnx",
            b"\x08\x07\x12\x07pytorch\x1a\x05",
            "as files of another kind begin",
        ),
    ] {
        let error = WeightSource::open(written(&folder, name, content)).unwrap_err();
        let text = error.to_string();
        assert!(
            error.is_weights() && text.contains(expected),
            "{name}: {text}"
        );
        assert!(text.contains(name), "{text}");
    }
    let text = WeightSource::open(folder.path()).unwrap_err().to_string();
    assert!(
        text.starts_with("this is a folder") && text.contains("a.safetensors"),
        "{text}"
    );
    #[cfg(target_os = "linux")]
    {
        let text = WeightSource::open("/dev/zero").unwrap_err().to_string();
        assert!(text.starts_with("this is a pipe or a device"), "{text}");
    }
}

/// A small file cannot take much memory by saying that it has many tensors.
#[test]
fn headers_of_no_model_are_refused() {
    let entry =
        |index: usize| format!(r#""t{index}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let header = |count: usize| {
        let entries: Vec<_> = (0..count).map(entry).collect();
        format!("{{{}}}", entries.join(","))
    };
    let folder = folder();
    let open = |header: &str| {
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], header.as_bytes()].concat();
        WeightSource::open(written(&folder, "many.safetensors", &bytes))
    };
    assert_eq!(open(&header(10_000)).unwrap().len(), 10_000);
    let text = open(&header(70_000)).unwrap_err().to_string();
    assert!(text.contains("more than 65536 entries"), "{text}");
    // Quotes inside a text, as trainers keep their settings, are none of their own.
    let quotes = r#"\""#.repeat(1_000_000);
    let said = format!(r#"{{"__metadata__":{{"tags":"{quotes}"}},{}}}"#, entry(0));
    assert_eq!(open(&said).unwrap().len(), 1);
}

#[test]
fn types_that_are_not_read_name_their_tensor() {
    let said = |dtype: &str| {
        let header = format!(
            r#"{{"__metadata__":{{"dtype":"x"}},"a.b":{{"dtype":"{dtype}","shape":[4],"data_offsets":[0,4]}}}}"#
        );
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], header.as_bytes(), &[0; 4]].concat();
        let folder = folder();
        let error = WeightSource::open(written(&folder, "odd.safetensors", &bytes)).unwrap_err();
        error.to_string()
    };
    for dtype in ["F8_E4M3FNUZ", "NF4"] {
        let text = said(dtype);
        assert!(
            text.starts_with(&format!("tensor `a.b` holds {dtype}")),
            "{text}"
        );
        assert!(text.contains("odd.safetensors"), "{text}");
    }
}

/// A layer in eight bits with tensors beside it: each its name, type, shape and bytes.
fn scaled(beside: &[(&str, Dtype, &[usize], &[u8])]) -> Result<WeightSource, afterimage::Error> {
    let codes = [0x38, 0x40, 0x3c, 0xb8]; // 1, 2, 1.5 and -1 as E4M3
    let weight: (&str, Dtype, &[usize], &[u8]) = ("a.weight", Dtype::F8_E4M3, &[2, 2], &codes);
    let views = std::iter::once(&weight).chain(beside);
    let views = views.map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.to_vec(), bytes).expect("a tensor");
        (*name, view)
    });
    let bytes = safetensors::serialize(views, None).expect("a file");
    WeightSource::open(written(&folder(), "scaled.safetensors", &bytes))
}

#[test]
fn weights_in_eight_bits_are_multiplied_by_their_scales() {
    let (one, each) = (0.5_f32.to_le_bytes(), [[0, 0, 0, 0x3f], [0, 0, 0x40, 0x40]]);
    let values = |source: &WeightSource| -> Vec<f32> {
        let data = source.read("a.weight").expect("a weight");
        assert_eq!(data.dtype(), DType::F32);
        data.iter::<f32>().collect()
    };
    let names = |source: &WeightSource| source.names().map(str::to_owned).collect::<Vec<_>>();
    let found = scaled(&[
        ("scaled_fp8", Dtype::F8_E4M3, &[0], &[]),
        ("a.scale_weight", Dtype::F32, &[], &one),
        ("a.scale_input", Dtype::F32, &[], &one),
    ]);
    let found = found.expect("a file");
    assert_eq!(names(&found), ["a.weight"]);
    assert_eq!(values(&found), [0.5, 1.0, 0.75, -0.5]);
    let rows = scaled(&[("a.scale_weight", Dtype::F32, &[2, 1], each.as_flattened())]);
    assert_eq!(values(&rows.expect("a file")), [0.5, 1.0, 4.5, -3.0]);
    // What scales nothing is left for the model to refuse.
    let stray = scaled(&[("b.scale_weight", Dtype::F32, &[], &one)]).expect("a file");
    assert_eq!(names(&stray), ["a.weight", "b.scale_weight"]);
    let three = [one, one, one];
    let unfit = scaled(&[("a.scale_weight", Dtype::F32, &[3], three.as_flattened())]);
    let text = unfit.expect_err("three scales").to_string();
    assert!(text.contains("`a.scale_weight`"), "{text}");
    assert!(text.contains("[3]") && text.contains("[2, 2]"), "{text}");
}

/// The same under the names that node programs write now, with the format of each layer beside it.
#[test]
fn scales_have_newer_names_and_a_format() {
    let one = 0.5_f32.to_le_bytes();
    let with = |format: &[u8]| {
        scaled(&[
            ("a.weight_scale", Dtype::F32, &[], &one),
            ("a.input_scale", Dtype::F32, &[], &one),
            ("a.comfy_quant", Dtype::U8, &[format.len()], format),
        ])
    };
    let found = with(br#"{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}"#);
    let found = found.expect("a file");
    assert_eq!(found.names().collect::<Vec<_>>(), ["a.weight"]);
    let values: Vec<f32> = found.read("a.weight").expect("a weight").iter().collect();
    assert_eq!(values, [0.5, 1.0, 0.75, -0.5]);
    let bare = scaled(&[("a.weight_scale", Dtype::F32, &[], &one)]).expect("a file");
    assert_eq!(bare.names().collect::<Vec<_>>(), ["a.weight"]);
    for (format, words) in [
        (&br#"{"format": "nvfp4"}"#[..], "by ComfyUI as `nvfp4`"),
        (b"{}", "in a way that the file does not name"),
        (b"\xff", "in a way that the file does not name"),
    ] {
        let text = with(format).expect_err("another format").to_string();
        assert!(
            text.starts_with("the weights of `a` are quantised") && text.contains(words),
            "{text}"
        );
    }
    // Two scales of one weight are one too many for a model.
    let both = scaled(&[
        ("a.weight_scale", Dtype::F32, &[], &one),
        ("a.scale_weight", Dtype::F32, &[], &one),
    ]);
    assert_eq!(both.expect("a file").len(), 2);
}

#[test]
fn weights_that_other_programs_quantised_are_refused_by_name() {
    for (name, by, layer) in [
        ("b.weight.absmax", "bitsandbytes", "`b.weight`"),
        (
            "b.weight.quant_state.bitsandbytes__nf4",
            "bitsandbytes",
            "`b.weight`",
        ),
        ("b.SCB", "bitsandbytes", "`b`"),
        ("b.weight._data", "optimum-quanto", "`b`"),
        ("b.wscales", "nunchaku", "`b`"),
        ("b.qzeros", "GPTQ or AWQ", "`b`"),
    ] {
        let found = scaled(&[(name, Dtype::U8, &[2], &[1, 2])]);
        let text = found.expect_err(name).to_string();
        let expected = format!("the weights of {layer} are quantised by {by}");
        assert!(text.starts_with(&expected), "{text}");
        assert!(
            text.contains("\nhint: ") && text.contains("scaled.safetensors"),
            "{text}"
        );
    }
}

#[test]
fn a_configuration_in_the_place_of_weights_is_sent_to_its_folder() {
    let folder = folder();
    for name in ["model_index.json", "config.json"] {
        let path = written(&folder, name, br#"{"_class_name": "AutoencoderKL"}"#);
        let text = WeightSource::open(path).unwrap_err().to_string();
        let expected = format!(
            "this is a configuration, not a file of weights\nhint: name the folder that it lies in: `{}`",
            folder.path().display()
        );
        assert!(text.starts_with(&expected), "{text}");
    }
    let path = written(&folder, "m.safetensors.index.json", b"{}");
    let text = WeightSource::open(path).unwrap_err().to_string();
    assert!(text.contains("missing field `weight_map`"), "{text}");
}
