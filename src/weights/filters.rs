//! Filters as the kernels of a device read them.

use burn::tensor::{Device, Tensor, TensorData};

use super::transpose::transposed_bytes;
use crate::device;

/// `data` on `device`, laid out as its kernels read it: cubecl's convolutions read filters with the input channels innermost, and would
/// lay out others anew on every call. The shape is the same either way.
pub(crate) fn placed<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
    let options = (device, data.dtype());
    if !is_filter(data.shape()) || device::is_processor(device) {
        return Tensor::from_data(data, options);
    }
    let tensor = Tensor::from_data(channels_last(&data), options);
    tensor.permute(std::array::from_fn::<usize, D, _>(|dim| {
        CHANNELS_FIRST[dim]
    }))
}

/// Brings `[output, height, width, input]` into the order `[output, input, height, width]`.
const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

/// Whether a parameter is a convolution's with more than one position.
fn is_filter(shape: &[usize]) -> bool {
    shape.len() == CHANNELS_FIRST.len() && shape[2] * shape[3] > 1
}

/// `[output, input, height, width]` as `[output, height, width, input]`.
fn channels_last(data: &TensorData) -> TensorData {
    let [output, input, height, width] = [0, 1, 2, 3].map(|dim| data.shape()[dim]);
    let bytes = data.as_bytes();
    let filters = bytes.chunks_exact((bytes.len() / output).max(1));
    let turned =
        filters.flat_map(|filter| transposed_bytes(filter, data.dtype(), input, height * width));
    let shape = vec![output, height, width, input];
    TensorData::from_bytes_vec(turned.collect(), shape, data.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_laid_out_with_their_channels_innermost() {
        let values: Vec<f32> = (0_u16..2 * 3 * 4 * 5).map(f32::from).collect();
        let data = TensorData::new(values, [2, 3, 4, 5]);
        let turned = channels_last(&data);
        assert_eq!(turned.shape().to_vec(), [2, 4, 5, 3]);
        let device = Device::flex();
        let back = Tensor::<4>::from_data(turned, &device).permute(CHANNELS_FIRST);
        back.into_data().assert_eq(&data, true);
    }

    #[test]
    fn only_filters_with_several_positions_are_laid_out_anew() {
        assert!(is_filter(&[320, 4, 3, 3]) && is_filter(&[8, 8, 1, 2]));
        assert!(!is_filter(&[640, 320, 1, 1]) && !is_filter(&[77, 768]) && !is_filter(&[320]));
    }
}
