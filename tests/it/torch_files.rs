//! Torch's files as programs write them, against what torch says they hold, and files that mean harm.

use std::{collections::BTreeMap, fs};

use afterimage::weights::WeightSource;
use burn::tensor::{DType, TensorData};
use proptest::prelude::*;

use crate::weights::{fixture, floats, folder, written};

fn open(name: &str) -> WeightSource {
    WeightSource::open(fixture("weights").join(name)).unwrap()
}

fn contents(source: &WeightSource) -> BTreeMap<String, TensorData> {
    let names = source.names();
    names
        .map(|name| (name.to_owned(), source.read(name).unwrap()))
        .collect()
}

/// What a file is to hold.
fn expected(file: &str) -> BTreeMap<String, TensorData> {
    let all = contents(&open("expected.safetensors")).into_iter();
    let own = all.filter_map(|(name, data)| {
        let name = name.strip_prefix(file)?.strip_prefix('/')?;
        Some((name.to_owned(), data))
    });
    own.collect()
}

/// Callbacks keyed by classes, states of optimisers, configurations, numpy's scalars: everything but the model's tensors is skipped.
#[test]
fn training_programs_leave_their_model() {
    let expected = expected("state");
    assert_eq!(expected.len(), 7);
    for name in [
        "lightning.ckpt",
        "lightning_old.ckpt",
        "average.pt",
        "wrapped.pth",
        "module.pt",
        "protocol4.bin",
    ] {
        assert_eq!(contents(&open(name)), expected, "{name}");
    }
}

#[test]
fn views_of_all_types_read_as_torch_reads_them() {
    let expected = expected("views");
    assert_eq!(contents(&open("views.bin")), expected);
    let mut old = expected;
    old.retain(|name, _| !name.contains("float8") && !name.contains("uint16"));
    assert_eq!(contents(&open("views_old.bin")), old);
}

/// Bit for bit, but for what is not a number in more than one way.
#[test]
fn all_codes_of_eight_bits_are_widened_as_torch_does() {
    let source = open("expected.safetensors");
    for kind in ["float8_e4m3fn", "float8_e5m2"] {
        let codes = source.read(&format!("codes/{kind}")).unwrap();
        assert_eq!((codes.dtype(), codes.num_elements()), (DType::F16, 256));
        let bits = |data: TensorData| floats(data).into_iter().map(f32::to_bits);
        let wide = source.read(&format!("wide/{kind}")).unwrap();
        for (code, (found, expected)) in bits(codes).zip(bits(wide)).enumerate() {
            let numbers = [found, expected].map(f32::from_bits);
            let none = numbers.iter().all(|number| number.is_nan());
            assert!(none || found == expected, "{kind} {code}: {numbers:?}");
        }
    }
}

#[test]
fn tensors_of_other_kinds_are_named() {
    let error = WeightSource::open(fixture("weights/sparse.bin")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("tensor `b`") && text.contains("_rebuild_sparse_tensor"),
        "{text}"
    );
}

#[test]
fn plain_files_read_like_safetensors() {
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
        let cut = error.to_string().contains("the file is cut short");
        assert_eq!(cut, name == "cut.bin", "{error}");
    }
}

/// What is lost behind a file's end is found when it is opened, whichever container it is.
#[test]
fn cut_files_are_told_before_a_tensor_is_read() {
    let folder = folder();
    for name in ["views_old.bin", "views.bin", "lightning_old.ckpt"] {
        let whole = fs::read(fixture("weights").join(name)).unwrap();
        for lost in [1, 3, whole.len() / 3] {
            let path = written(&folder, name, &whole[..whole.len() - lost]);
            let text = WeightSource::open(path).unwrap_err().to_string();
            assert!(
                text.contains("\nhint: the file is cut short, fetch it again"),
                "{lost} of {name}: {text}"
            );
        }
    }
}

#[test]
fn archives_of_other_kinds_are_named() {
    let folder = folder();
    let archive = |inside: &str| {
        let bytes = [b"PK\x03\x04", inside.as_bytes(), b"PK\x05\x06\0\0"].concat();
        let path = written(&folder, "a.pt", &bytes);
        WeightSource::open(path).unwrap_err().to_string()
    };
    let text = archive("m/constants.pkl");
    assert!(text.contains("a TorchScript archive"), "{text}");
    assert!(!text.contains("cut short"), "{text}");
    let text = archive("m/data.pkl");
    assert!(
        text.contains("cut short") && !text.contains("EOCD"),
        "{text}"
    );
}

/// Names whatever calls them, as protocol 2 does it.
fn called(module: &str, name: &str) -> Vec<u8> {
    format!("\u{2}}}U\u{1}xc{module}\n{name}\n)Rs.").into_bytes()
}

#[test]
fn commands_are_refused_and_other_calls_are_not_made() {
    let folder = folder();
    let open = |pickle: &[u8]| {
        let path = written(&folder, "a.bin", &[b"\x80", pickle].concat());
        WeightSource::open(path).unwrap_err().to_string()
    };
    for (module, name) in [
        ("os", "system"),
        ("subprocess", "Popen"),
        ("__builtin__", "eval"),
        ("builtins", "exec"),
        ("importlib", "import_module"),
    ] {
        let text = open(&called(module, name));
        assert!(
            text.contains(&format!("would run `{module}.{name}`")),
            "{text}"
        );
    }
    for (module, name) in [
        ("pathlib", "PosixPath"),
        ("__builtin__", "getattr"),
        ("my.own", "Thing"),
    ] {
        let text = open(&called(module, name));
        assert!(text.contains("it holds no tensors"), "{text}");
    }
}

/// Knots, towers, lengths beyond the file, memory for nothing.
#[test]
fn hostile_pickles_are_refused_in_little_memory() {
    let folder = folder();
    let open = |pickle: Vec<u8>| {
        let path = written(&folder, "a.bin", &[b"\x80\x02".to_vec(), pickle].concat());
        WeightSource::open(path).unwrap_err().to_string()
    };
    let tower = [b"]".repeat(100_000), b"a".repeat(99_999), b".".to_vec()].concat();
    let doubled = [
        b"]q\0".to_vec(),
        b"]q\x01h\0ah\0aq\0".repeat(200),
        b".".to_vec(),
    ]
    .concat();
    for (pickle, expected) in [
        (b"]q\0h\0a.".to_vec(), "no tensors"),
        (b"}q\0U\x01ah\0s.".to_vec(), "no tensors"),
        (tower, "no tensors"),
        (doubled, "no tensors"),
        (b"}".repeat(4 << 20), "too much beside its tensors"),
        (b"(".repeat(4 << 20), "too much beside its tensors"),
        (b"X\xff\xff\xff\x7fabc".to_vec(), "ends too early"),
        (
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc".to_vec(),
            "ends too early",
        ),
        (b"\x8a\xffabc".to_vec(), "ends too early"),
        (b"R.".to_vec(), "its stack is empty"),
        (b"(0t.".to_vec(), "a mark is missing"),
        (b"h\x07.".to_vec(), "did not note"),
        (b"\xff.".to_vec(), "unknown instruction 0xff"),
    ] {
        let text = open(pickle);
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No file makes the reader panic, and what it accepts can be read or is named.
    #[test]
    fn any_change_of_a_file_is_read_or_refused(at in 0_usize..2626, value: u8, keep in 1_usize..2700) {
        for name in ["views_old.bin", "views.bin"] {
            let mut bytes = fs::read(fixture("weights").join(name)).unwrap();
            bytes.truncate(keep);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            let folder = folder();
            if let Ok(source) = WeightSource::open(written(&folder, "a.bin", &bytes)) {
                for name in source.names() {
                    let _ = source.read(name);
                }
            }
        }
    }

    #[test]
    fn any_instructions_are_followed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = folder();
        let path = written(&folder, "a.bin", &[b"\x80\x02}q\0(]q\x01(K\x01K\x02".to_vec(), bytes].concat());
        let _ = WeightSource::open(path);
    }
}
