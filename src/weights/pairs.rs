//! Weights for products of bf16: which layers have them, and how they are put in order.

use ::half::bf16;
use burn::tensor::{DType, Tensor, TensorData};

use super::quantise;
use crate::{kernels::cpu::pairs, ops};

/// Whether a linear layer's weight, `[outputs, inputs]`, is put in order. Layers that read the timestep are computed in f32 where they stand.
pub(super) fn suits(name: &str, shape: &[usize]) -> bool {
    shape.iter().all(|side| *side >= quantise::LEAST_SIDE) && !quantise::reads_timestep(name)
}

/// Bytes of memory that such a weight takes.
pub(super) fn memory(shape: &[usize]) -> usize {
    pairs::size([shape[1], shape[0]]) * size_of::<bf16>()
}

/// A weight, `[outputs, inputs]`, for products of bf16, to which it is rounded.
pub(super) fn packed<const D: usize>(weight: TensorData) -> Tensor<D> {
    let (outputs, inputs) = (weight.shape()[0], weight.shape()[1]);
    let weight = weight.convert_dtype(DType::BF16);
    let (values, _) = weight.as_bytes().as_chunks::<2>();
    let value = |input: usize, output: usize| bf16::from_ne_bytes(values[output * inputs + input]);
    ops::paired(pairs::packed([inputs, outputs], value), [inputs, outputs])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_layers_that_read_no_timestep_are_put_in_order() {
        assert!(suits("mid_block.attentions.0.proj_in.weight", &[320, 320]));
        assert!(!suits("time_embedding.linear_1.weight", &[1280, 320]));
        assert!(!suits("proj_out.weight", &[4, 320]));
        assert!(!suits("conv_in.weight", &[320, 64, 3, 3]));
    }

    #[test]
    fn memory_is_what_is_kept() {
        for shape in [[70, 67], [64, 320]] {
            let kept = pairs::packed([shape[1], shape[0]], |_, _| bf16::ONE);
            assert_eq!(size_of_val(kept.as_slice()), memory(&shape));
        }
    }
}
