//! Small pictures on their way into the making of larger ones.
//!
//! Source: Ho et al., "Cascaded Diffusion Models" (arXiv 2106.15282, section 4.2: conditioning augmentation, noise on the small picture,
//! whose level the network is told).

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use crate::error::{DeviceError, Error};
use crate::image_io::Picture;

/// Small pictures of one size, -1 to 1, kept on the host.
#[derive(Debug, Clone)]
pub struct LowPicture {
    data: TensorData,
    dims: [usize; 4],
}

impl LowPicture {
    /// From `[pictures, 3, height, width]` in 0 to 1, read back from the device.
    ///
    /// # Errors
    ///
    /// A device error if it fails.
    pub fn new(images: Tensor<4>) -> Result<Self, Error> {
        let dims = images.dims();
        let pixels = images.cast(FloatDType::F32) * 2.0 - 1.0;
        let task = "reading the small picture back";
        let data = pixels.try_into_data();
        let data = data.map_err(|error| DeviceError::execution(task, &error))?;
        Ok(Self { data, dims })
    }

    /// From a picture in memory.
    pub fn of(picture: &Picture) -> Self {
        let dims = [1, 3, picture.height(), picture.width()];
        let pixels = picture.pixels();
        let plane = |channel: usize| pixels.iter().skip(channel).step_by(3);
        let values = (0..3).flat_map(|channel| plane(channel).map(|&value| f32::from(value)));
        let values: Vec<f32> = values.map(|value| value / 255.0 * 2.0 - 1.0).collect();
        let data = TensorData::new(values, dims);
        Self { data, dims }
    }

    /// Pictures, channels, height and width.
    pub(in crate::pipeline) fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// On `device`, as many pictures as `items` where there is one for all of them.
    pub(in crate::pipeline) fn on(&self, device: &Device, items: usize) -> Tensor<4> {
        let pixels = Tensor::from_data(self.data.clone(), device);
        match self.dims[0] {
            1 => pixels.repeat_dim(0, items),
            _ => pixels,
        }
    }
}

/// `[items, channels, height, width]` brought to another height and width, corners onto corners, every pixel a mix of the four around it.
pub(in crate::pipeline) fn stretched(picture: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [items, channels, low_height, low_width] = picture.dims();
    let device = picture.device();
    let mix = |to, from| -> Tensor<4> {
        let weights = TensorData::new(weights(to, from), [1, 1, to, from]);
        let weights = Tensor::from_data(weights, &device);
        weights.repeat(&[items, channels, 1, 1])
    };
    let rows = mix(height, low_height).matmul(picture); // [items, channels, height, low_width]
    rows.matmul(mix(width, low_width).transpose())
}

/// What every one of `to` places takes of each of `from`, row-major; the first and the last stay where they are.
fn weights(to: usize, from: usize) -> Vec<f32> {
    let last = from.saturating_sub(1);
    let step = last as f32 / to.saturating_sub(1).max(1) as f32;
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from.max(1)).enumerate() {
        let at = step * place as f32;
        let low = (at as usize).min(last);
        let share = at - low as f32;
        row[low] += 1.0 - share;
        row[(low + 1).min(last)] += share;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_stay_and_what_is_between_is_mixed() {
        assert_eq!(weights(3, 2), [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
        assert_eq!(weights(1, 3), [1.0, 0.0, 0.0]);
        assert_eq!(weights(2, 1), [1.0, 1.0]);
    }

    #[test]
    fn pictures_become_planes() {
        let picture = Picture::from_pixels(2, 1, vec![0, 255, 51, 255, 0, 51]);
        let low = LowPicture::of(&picture);
        let values: Vec<f32> = low.data.iter::<f32>().collect();
        assert_eq!(values, [-1.0, 1.0, 1.0, -1.0, -0.6, -0.6]);
    }
}
