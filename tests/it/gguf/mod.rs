//! GGUF files: what is in them, what is wrong with them, and that runs from them are the runs of their values.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking; numbers of files are small"
)]

mod checkpoints;
mod faults;
pub(crate) mod file;
mod products;
mod runs;
mod vocabulary;

use afterimage::weights::WeightSource;
use burn::tensor::DType;

use crate::weights::{floats, folder, written};
use file::{File, Word};

fn open(file: &File) -> Result<WeightSource, afterimage::Error> {
    let folder = folder();
    // The source holds the file open, so the folder may go.
    WeightSource::open(written(&folder, "model.gguf", &file.bytes()))
}

/// `count` numbers in half precision, as bytes.
fn halves(count: usize) -> Vec<u8> {
    let values = (0..count).map(|value| value as f32 * 0.25 - 3.0);
    let values = burn::tensor::TensorData::from(values.collect::<Vec<_>>().as_slice());
    values.convert_dtype(DType::F16).as_bytes().to_vec()
}

#[test]
fn tensors_are_read_as_they_are_kept() {
    let file = File::new()
        .word("general.name", Word::Text("a toy"))
        .word("general.file_type", Word::U32(7))
        .tensor("half", file::F16, &[2, 3], halves(6))
        .tensor(
            "single",
            file::F32,
            &[2],
            [1.5_f32, -2.0].map(f32::to_le_bytes).concat(),
        )
        .tensor("ones", file::Q8_0, &[2, 32], file::eights(2, 0x3c00, 1))
        .tensor("scalar", file::F32, &[], 7.0_f32.to_le_bytes().to_vec());
    let source = open(&file).unwrap();
    assert_eq!(source.metadata("general.name"), Some("a toy"));
    assert_eq!(source.shape("half"), Some(vec![2, 3]));
    assert_eq!(source.dtype("half"), Some(DType::F16));
    let half = floats(source.read("half").unwrap());
    assert_eq!(half, [-3.0, -2.75, -2.5, -2.25, -2.0, -1.75]);
    assert_eq!(floats(source.read("single").unwrap()), [1.5, -2.0]);
    assert_eq!(source.shape("ones"), Some(vec![2, 32]));
    assert_eq!(floats(source.read("ones").unwrap()), [1.0; 64]);
    assert_eq!(floats(source.read("scalar").unwrap()), [7.0]);
    assert_eq!(source.bytes(), 12 + 8 + 68 + 4);
}

/// Convolutions that were no whole blocks wide are kept as matrices, and their shape as a word.
#[test]
fn shapes_of_training_are_taken_from_the_words() {
    let key = "comfy.gguf.orig_shape.conv.weight";
    let file = |sides: &'static [i32]| {
        File::new().word(key, Word::I32s(sides)).tensor(
            "conv.weight",
            file::Q8_0,
            &[3, 32],
            file::eights(3, 0x3c00, 2),
        )
    };
    let source = open(&file(&[8, 4, 1, 3, 1])).unwrap();
    assert_eq!(source.shape("conv.weight"), Some(vec![8, 4, 1, 3, 1]));
    assert_eq!(floats(source.read("conv.weight").unwrap()), [2.0; 96]);
    // A shape of another size is none.
    let source = open(&file(&[8, 4, 1, 3, 2])).unwrap();
    assert_eq!(source.shape("conv.weight"), Some(vec![3, 32]));
}

#[test]
fn alignment_follows_the_word() {
    for alignment in [8, 64, 4096] {
        let file = File::new()
            .aligned(alignment)
            .tensor("a", file::F32, &[1], 3.0_f32.to_le_bytes().to_vec())
            .tensor("b", file::F32, &[1], 4.0_f32.to_le_bytes().to_vec());
        let source = open(&file).unwrap();
        assert_eq!(floats(source.read("a").unwrap()), [3.0]);
        assert_eq!(floats(source.read("b").unwrap()), [4.0]);
    }
}

/// Vocabularies and other long lists are passed over.
#[test]
fn long_lists_are_not_kept() {
    let words: Vec<String> = (0..10_000).map(|word| format!("word {word}")).collect();
    let file = File::new()
        .word("tokenizer.ggml.tokens", Word::Texts(words))
        .word("tokenizer.ggml.model", Word::Text("t5"))
        .tensor("a", file::F32, &[1], vec![0; 4]);
    let source = open(&file).unwrap();
    assert_eq!(source.metadata("tokenizer.ggml.model"), Some("t5"));
    assert_eq!(source.metadata("tokenizer.ggml.tokens"), None);
}

/// The encoder of T5 has transformers' names.
#[test]
fn the_encoder_of_t5_is_renamed() {
    let one = || 0.5_f32.to_le_bytes().to_vec();
    let file = File::new()
        .word("general.architecture", Word::Text("t5encoder"))
        .tensor("token_embd.weight", file::F32, &[1], one())
        .tensor("enc.blk.3.ffn_down.weight", file::F32, &[1], one())
        .tensor("dec.blk.3.ffn_down.weight", file::F32, &[1], one());
    let source = open(&file).unwrap();
    let names: Vec<_> = source.names().collect();
    let down = "encoder.block.3.layer.1.DenseReluDense.wo.weight";
    assert_eq!(names, [down, "shared.weight"]);
}
