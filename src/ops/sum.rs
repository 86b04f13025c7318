//! Sums of tensors, in the memory of one of them where nobody else holds it.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::Operations;

/// `left` plus `right`, repeated where its sides are 1.
pub fn add<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    let (left, right) = (left.into_dispatch(), right.into_dispatch());
    Tensor::from_dispatch(Dispatch::added(left, right))
}
