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
    /// `[pictures, 3, height, width]`
    data: TensorData,
}

impl LowPicture {
    /// From `[pictures, 3, height, width]` in 0 to 1, read back from the device.
    ///
    /// # Errors
    ///
    /// A device error if it fails.
    ///
    /// # Panics
    ///
    /// If there is no picture, one has no pixels, or has other than three channels.
    pub fn new(images: Tensor<4>) -> Result<Self, Error> {
        let dims = images.dims();
        assert!(
            dims[1] == 3 && !dims.contains(&0),
            "`images` has the shape {dims:?}, [pictures, 3, height, width] is needed"
        );
        let pixels = images.cast(FloatDType::F32) * 2.0 - 1.0;
        let task = "reading the small picture back";
        let data = pixels.try_into_data();
        let data = data.map_err(|error| DeviceError::execution(task, &error))?;
        Ok(Self { data })
    }

    /// From a picture in memory.
    ///
    /// # Panics
    ///
    /// If it has no pixels.
    pub fn of(picture: &Picture) -> Self {
        assert!(!picture.pixels().is_empty(), "`picture` has no pixels");
        let dims = [1, 3, picture.height(), picture.width()];
        let pixels = picture.pixels();
        let plane = |channel: usize| pixels.iter().skip(channel).step_by(3);
        let values = (0..3).flat_map(|channel| plane(channel).map(|&value| f32::from(value)));
        let values: Vec<f32> = values.map(|value| value / 255.0 * 2.0 - 1.0).collect();
        let data = TensorData::new(values, dims);
        Self { data }
    }

    /// Pictures, channels, height and width.
    pub(in crate::pipeline) fn dims(&self) -> [usize; 4] {
        self.data.shape().dims()
    }

    /// On `device`, as many pictures as `items` where there is one for all of them.
    pub(in crate::pipeline) fn on(&self, device: &Device, items: usize) -> Tensor<4> {
        let pixels: Tensor<4> = Tensor::from_data(self.data.clone(), device);
        match pixels.dims()[0] {
            1 => pixels.repeat_dim(0, items),
            _ => pixels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_become_planes() {
        let picture = Picture::from_pixels(2, 1, vec![0, 255, 51, 255, 0, 51]);
        let low = LowPicture::of(&picture);
        let values: Vec<f32> = low.data.iter::<f32>().collect();
        assert_eq!(values, [-1.0, 1.0, 1.0, -1.0, -0.6, -0.6]);
    }
}
