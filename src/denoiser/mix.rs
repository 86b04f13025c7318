//! Weighted sums of carries: the arithmetic of forecasts, in one place.

use burn::tensor::{FloatDType, Tensor};

/// Σ weight · tensor, of one tensor of each carry, all of one shape and type, summed in f32. What weighs nothing is not read, and one
/// tensor alone with weight 1 is itself, bit for bit.
///
/// # Panics
///
/// If nothing weighs anything.
pub fn weighted_sum<C, const D: usize>(
    parts: &[(&C, f64)],
    tensor: impl Fn(&C) -> &Tensor<D>,
) -> Tensor<D> {
    let weighing = parts.iter().filter(|(_, weight)| *weight != 0.0);
    let weighing: Vec<(&Tensor<D>, f64)> = weighing
        .map(|(part, weight)| (tensor(part), *weight))
        .collect();
    if let [(tensor, weight)] = weighing[..]
        && (weight - 1.0).abs() < f64::EPSILON
    {
        return tensor.clone();
    }
    let (first, others) = weighing
        .split_first()
        .expect("a part that weighs something");
    let sum = others
        .iter()
        .fold(term(*first), |sum, other| match other.1 {
            -1.0 => sum - wide(other.0),
            _ => sum + term(*other),
        });
    sum.cast(first.0.dtype())
}

/// Weight · tensor, in f32. Differences and sums are most of what is asked for, and need no product.
fn term<const D: usize>((tensor, weight): (&Tensor<D>, f64)) -> Tensor<D> {
    match weight {
        1.0 => wide(tensor),
        _ => wide(tensor) * weight,
    }
}

fn wide<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().cast(FloatDType::F32)
}

/// The rows of one tensor of each carry after each other; of a single carry the tensor itself.
pub fn join_rows<C, const D: usize>(steps: &[C], tensor: impl Fn(&C) -> &Tensor<D>) -> Tensor<D> {
    match steps {
        [single] => tensor(single).clone(),
        _ => Tensor::cat(steps.iter().map(|step| tensor(step).clone()).collect(), 0),
    }
}

/// The numbers of `[count]`, read back; no number where the device has failed, which the run says when its latents are read.
pub(crate) fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    let count = tensor.dims()[0];
    let read = tensor
        .try_into_data()
        .map(|data| data.iter::<f64>().collect());
    read.unwrap_or_else(|_| vec![f64::NAN; count])
}

/// Mean |value|, in f32, `[1]`.
pub fn mean_magnitude<const D: usize>(tensor: &Tensor<D>) -> Tensor<1> {
    wide(tensor).abs().mean()
}
