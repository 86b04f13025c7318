//! Attention, by the kernels of the processor and by every path of the others.

use burn::backend::Flex;
use burn::tensor::{Device, FloatDType, Tensor};

use super::{assert_close, primitive, wave, wrapped};
use crate::ops::{AttentionPath, AttentionShape, Precision, attention, reference};

fn composed(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, bytes: usize) -> Tensor<4> {
    let [query, key, value] = [query, key, value].map(primitive);
    wrapped(reference::written_out::<Flex>(query, key, value, bytes))
}

/// `[rows, tokens, heads · width]` split into heads, as models hand them over: strided.
fn split(rows: usize, heads: usize, tokens: usize, width: usize, shift: f32) -> Tensor<4> {
    wave([rows, tokens, heads, width], shift).swap_dims(1, 2)
}

#[test]
fn attention_is_the_composed_one() {
    let cases = [
        (2, 2, 64, 64, 40),
        (1, 3, 65, 77, 64),
        (2, 1, 100, 1, 80),
        (1, 2, 1, 300, 72),
        (1, 1, 40, 257, 160),
        (1, 1, 33, 130, 512),
        (1, 2, 49, 128, 8),
        (3, 2, 5, 3, 4),
        (1, 2, 17, 31, 16),
        (1, 1, 9, 10, 13),
    ];
    for (rows, heads, queries, tokens, width) in cases {
        let case = format!("{rows}x{heads}x{queries}x{tokens}x{width}");
        let query = split(rows, heads, queries, width, 0.0) * 2.0;
        let key = split(rows, heads, tokens, width, 1.0) * 2.0;
        let value = split(rows, heads, tokens, width, 2.0);
        for precision in [Precision::Fused, Precision::Operands] {
            let found = attention(query.clone(), key.clone(), value.clone(), precision);
            let expected = composed(query.clone(), key.clone(), value.clone(), 1 << 20);
            // Scores of 512 products reach tens, and the rounding of one moves its weight by as much.
            assert_close(found, expected, 3e-5, &case);
        }
    }
}

#[test]
fn attention_reads_any_strides() {
    let query = wave([2, 40, 3, 20], 0.0).permute([0, 2, 3, 1]); // widths strided
    let key = wave([1, 3, 9, 40], 1.0).repeat_dim(0, 2);
    let value = wave([2, 3, 12, 40], 2.0).narrow(2, 2, 9); // an offset
    let found = attention(query.clone(), key.clone(), value.clone(), Precision::Fused);
    assert_close(found, composed(query, key, value, 1 << 20), 1e-5, "strided");
}

/// Every path of cubecl devices, in the operations of this backend, over the sizes models have.
#[test]
fn every_path_of_attention_is_the_composed_one() {
    for width in [40, 64, 72, 80, 160, 512] {
        for queries in [64, 256, 1024, 4096] {
            for tokens in [77, queries] {
                let query = split(1, 1, queries, width, 0.0) * 2.0;
                let key = split(1, 1, tokens, width, 1.0) * 2.0;
                let value = split(1, 1, tokens, width, 2.0);
                let expected = composed(query.clone(), key.clone(), value.clone(), usize::MAX);
                let shape = AttentionShape {
                    queries,
                    tokens,
                    width,
                };
                let bytes = queries * tokens; // four groups of queries
                for path in [
                    AttentionPath::fused(shape),
                    AttentionPath::WrittenOut { bytes },
                ] {
                    let [query, key, value] = [&query, &key, &value].map(Clone::clone);
                    let [query, key, value] = [query, key, value].map(primitive);
                    let found = reference::attention::<Flex>(query, key, value, path);
                    let case = format!("{queries}x{tokens}x{width} {path:?}");
                    // Scores of 512 products, in another order.
                    assert_close(wrapped(found), expected.clone(), 1e-4, &case);
                }
            }
        }
    }
}

#[test]
fn the_softmax_of_halves_is_made_in_f32() {
    // Five thousand equal weights: in f16 their sum would stop growing at 2048.
    let half = |shape, shift| wave(shape, shift).cast(FloatDType::F16);
    let query = half([1, 1, 2, 16], 0.0) * 0.0;
    let value = Tensor::<4>::ones([1, 1, 5000, 16], &Device::flex()).cast(FloatDType::F16);
    let [query, key, value] = [query, half([1, 1, 5000, 16], 1.0), value].map(primitive);
    let found = reference::attention::<Flex>(query, key, value, AttentionPath::BOUNDED);
    let ones = Tensor::<4>::ones([1, 1, 2, 16], &Device::flex()).cast(FloatDType::F16);
    assert_close(wrapped(found), ones, 1e-2, "equal weights");
}

/// In one chunk or several, over as many tokens, over fewer, over a single one.
#[test]
fn written_out_in_chunks_is_the_same() {
    for tokens in [7, 3, 1] {
        let [query, key, value] = [(7, 0.0), (tokens, 1.0), (tokens, 2.0)]
            .map(|(tokens, shift)| wave([2, 2, tokens, 4], shift));
        let whole = composed(query.clone(), key.clone(), value.clone(), 1 << 20);
        let chunked = composed(query, key, value, 2 * 2 * tokens * 4 * 3);
        assert_close(chunked, whole, 1e-6, "chunks");
    }
}

#[test]
fn attention_of_halves_goes_through_f32() {
    let half = |shift| wave([1, 2, 20, 8], shift).cast(FloatDType::F16);
    let wide = |shift| half(shift).cast(FloatDType::F32);
    let found = attention(half(0.0), half(1.0), half(2.0), Precision::Fused);
    let expected = composed(wide(0.0), wide(1.0), wide(2.0), 1 << 20).cast(FloatDType::F16);
    assert_close(found, expected, 2e-3, "f16");
}
