//! Files that are wrong: one message each that names what is.

use super::{
    file::{self, File, Word, text},
    open,
};

fn said(file: &File) -> String {
    let error = open(file).unwrap_err();
    assert!(error.is_weights(), "{error}");
    error.to_string()
}

fn one() -> File {
    File::new().tensor("a.b", file::F32, &[2], vec![0; 8])
}

#[track_caller]
fn assert_said(file: &File, expected: &str) {
    let text = said(file);
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("model.gguf"), "{text}");
}

#[test]
fn versions_are_two_and_three() {
    for version in [2, 3] {
        assert!(open(&one().of_version(version)).is_ok());
    }
    let version = |version| one().of_version(version);
    assert_said(&version(1), "it is of version 1, 2 and 3 are read");
    assert_said(&version(4), "it is of version 4, 2 and 3 are read");
    assert_said(
        &version(3_u32.swap_bytes()),
        "for processors of the other byte order",
    );
}

#[test]
fn counts_are_bounded() {
    let counts = |counts| one().counting(counts);
    assert_said(
        &counts([1 << 40, 0]),
        "1099511627776 tensors, files have 65536 at most",
    );
    assert_said(&counts([0, u64::MAX]), "words, files have 131072 at most");
    assert_said(&counts([2, 0]), "its header goes on at its end");
    assert_said(&counts([2, 0]), "hint: the file is cut short");
}

#[test]
fn types_that_are_not_read_name_their_tensor() {
    let kind = |kind| File::new().tensor("a.b", kind, &[256], vec![0; 1024]);
    assert_said(
        &kind(23),
        "tensor `a.b` holds IQ4_XS, which is not supported",
    );
    assert_said(
        &kind(4711),
        "tensor `a.b` holds type 4711 (GGUF has no such type), which is not supported",
    );
    let odd = File::new().tensor("a.b", file::Q8_0, &[2, 20], vec![0; 1024]);
    assert_said(&odd, "tensor `a.b` holds Q8_0 in rows of 20");
}

#[test]
fn sizes_that_overflow_are_told() {
    let shape = |shape: &[usize]| File::new().tensor("a.b", file::F32, shape, vec![0; 8]);
    assert_said(&shape(&[1 << 40, 1 << 40]), "tensor `a.b` of shape");
    assert_said(&shape(&[1 << 60, 1]), "tensor `a.b` of shape");
    assert_said(
        &shape(&[1; 5]),
        "tensor `a.b` has 5 dimensions, 4 are allowed",
    );
    assert!(open(&shape(&[0, 1 << 40])).unwrap().read("a.b").is_ok());
}

#[test]
fn tensors_end_within_the_file() {
    assert_said(&one().at(1 << 20), "tensor `a.b` ends at byte");
    assert_said(&one().at(u64::MAX - 31), "tensor `a.b` ends at byte");
    assert_said(
        &one().at(8),
        "tensor `a.b` begins at 8, which is no multiple of 32",
    );
    let short = File::new().tensor("a.b", file::Q8_0, &[64], file::eights(1, 0, 0));
    assert_said(&short, "the file is cut short");
}

#[test]
fn words_are_bounded() {
    let raw = |kind, bytes: Vec<u8>| one().word("k", Word::Raw(kind, bytes));
    let long = (1_u64 << 50).to_le_bytes().to_vec();
    assert_said(&raw(8, long.clone()), "a value of 1125899906842624 bytes");
    let list = |kind: u32, rest: Vec<u8>| [kind.to_le_bytes().to_vec(), rest].concat();
    assert_said(
        &raw(9, list(0, long)),
        "a list of 1125899906842624 elements",
    );
    assert_said(
        &raw(77, vec![]),
        "a value of type 77, which GGUF does not have",
    );
    let one_more = |inner| list(9, [1_u64.to_le_bytes().to_vec(), inner].concat());
    let deep = (0..8).fold(Vec::new(), |inner, _| one_more(inner));
    assert_said(&raw(9, deep), "lists within lists, 4 deep");
    let long_name = File::new().tensor(&"x".repeat(2000), file::F32, &[2], vec![0; 8]);
    assert_said(
        &long_name,
        "a tensor's name of 2000 bytes, 1024 are allowed",
    );
    let odd = one().word("general.alignment", Word::U32(24));
    assert_said(&odd, "`general.alignment` is 24, not a power of two");
    // A text of bytes that are none is still read.
    let broken = [vec![0xff; 4], text("")].concat();
    let broken = [4_u64.to_le_bytes().to_vec(), broken[..4].to_vec()].concat();
    assert!(open(&raw(8, broken)).is_ok());
}

#[test]
fn two_tensors_of_one_name_are_told() {
    let twice = one().tensor("a.b", file::F32, &[2], vec![0; 8]);
    assert_said(&twice, "two tensors are called `a.b`");
}
