//! Which kernel adds two tensors.

use ::half::bf16;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Element};
use burn_flex::FlexTensor;
use macerator::Scalar;

use super::{in_order, typed};
use crate::kernels::cpu::sum::{Summand, add, add_to_each};

/// `left` plus `right`, which has the same shape or one value for every channel of a map.
pub(super) fn added(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    match (left.dtype(), right.dtype()) {
        (DType::F32, DType::F32) => of::<f32>(left, right),
        (DType::BF16, DType::BF16) => of::<bf16>(left, right),
        _ => Flex::float_add(left, right),
    }
}

fn of<T: Summand + Element + Scalar>(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    let (shape, other) = (left.shape(), right.shape());
    if shape == other {
        let (left, right) = (in_order(left), in_order(right));
        let (onto, other) = if is_free::<T>(&left) || !is_free::<T>(&right) {
            (left, right)
        } else {
            (right, left)
        };
        return onto_one::<T>(onto, |values| add(values, typed(&other)));
    }
    let channels = match (&shape[..], &other[..]) {
        (&[rows, channels, ..], &[others, same, 1, 1]) => {
            channels == same && (others == rows || others == 1)
        }
        _ => false,
    };
    if !channels || shape.num_elements() == 0 {
        return Flex::float_add(left, right);
    }
    let positions = shape[2..].iter().product();
    let right = in_order(right);
    onto_one::<T>(in_order(left), |values| {
        add_to_each(values, positions, typed(&right));
    })
}

/// Whether a tensor is all that its memory holds, and nobody else has it.
fn is_free<T>(tensor: &FlexTensor) -> bool {
    let size = tensor.shape().num_elements() * size_of::<T>();
    tensor.is_unique() && tensor.is_contiguous() && tensor.bytes().len() == size
}

/// `tensor` after `work` on its values, in its memory or in a copy.
fn onto_one<T: Element + Scalar>(
    mut tensor: FlexTensor,
    work: impl FnOnce(&mut [T]),
) -> FlexTensor {
    if !is_free::<T>(&tensor) {
        let shape = tensor.shape();
        tensor = super::tensor(typed::<T>(&tensor).to_vec(), shape);
    }
    work(tensor.storage_mut());
    tensor
}
