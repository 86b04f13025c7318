//! Pictures and films: written atomically with the run's settings in them; files of many formats read; masks and outlines.

mod antialiased;
mod atomic;
mod canny;
mod created;
mod dropped;
mod exif;
mod fault;
mod film;
mod formats;
mod item;
mod jpeg;
mod leftovers;
mod mask;
mod names;
mod outputs;
mod place;
mod png_file;
mod read;
mod save;
mod settings;
mod sheet;
mod sides;
mod texts;
mod tiff;
mod whole;

use burn::tensor::{Device, Tensor, TensorData};

pub use atomic::{check_writable, write_atomically};
pub use canny::CannyThresholds;
pub use created::create_atomically;
pub use dropped::Dropped;
#[cfg(feature = "serve")]
pub(crate) use fault::Fault as PictureFault;
pub use film::{Film, FilmFormat, check_film, film_files, film_paths, shown_rate};
pub use item::{frames_a_second, save_item};
pub use mask::Mask;
pub use names::check_output_name;
pub use outputs::batch_paths;
#[cfg(feature = "eval")]
pub(crate) use place::make_folder;
pub use place::{is_same_place, is_stdout, is_stream};
pub(crate) use read::picture_bytes;
#[cfg(feature = "serve")]
pub(crate) use read::{picture_sides, upright};
pub use save::PictureFormat;
pub use settings::{Settings, settings};
pub use sheet::contact_sheet;
pub use sides::{check_film_size, check_picture_size};

use crate::error::{DeviceError, Error};

/// The key of a run's recipe among its settings.
pub(crate) const RECIPE: &str = "recipe";

/// An RGB picture of 8 bits a channel, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// `[height, width, 3]`
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads a picture tensor, `[3, height, width]` in 0 to 1, back from its device.
    ///
    /// # Errors
    ///
    /// A device error if the device failed, or if a value is not a number.
    pub fn from_tensor(image: Tensor<3>) -> Result<Self, Error> {
        let [_, height, width] = image.dims();
        let read = |cause: &dyn ToString| {
            DeviceError::execution("reading the picture", &cause.to_string())
        };
        let data = image.try_into_data().map_err(|error| read(&error))?;
        let values = data.convert::<f32>().try_into_vec::<f32>();
        let values = values.map_err(|error| read(&format!("{error:?}")))?;
        Self::from_planes(&values, height, width)
    }

    /// Reads every picture of `[items, 3, height, width]`, in 0 to 1, back from its device.
    ///
    /// # Errors
    ///
    /// As [`from_tensor`](Self::from_tensor).
    pub fn from_batch(images: Tensor<4>) -> Result<Vec<Self>, Error> {
        let images = images.iter_dim(0); // [1, 3, height, width] each
        images
            .map(|image| Self::from_tensor(image.squeeze_dim(0)))
            .collect()
    }

    /// Rounds three planes of values in 0 to 1 (red, green, blue; values outside are cut) to 8 bits.
    ///
    /// # Errors
    ///
    /// A device error if a value is not a number.
    ///
    /// # Panics
    ///
    /// If `planes` does not hold three planes of `height` by `width`.
    pub fn from_planes(planes: &[f32], height: usize, width: usize) -> Result<Self, Error> {
        assert_eq!(
            planes.len(),
            3 * height * width,
            "`planes` is [3, height, width]"
        );
        if planes.iter().any(|value| value.is_nan()) {
            return Err(DeviceError::NotANumber.into());
        }
        let area = height * width;
        let channel = |pixel: usize, plane: usize| to_byte(planes[plane * area + pixel]);
        let pixels = (0..area).flat_map(|pixel| [0, 1, 2].map(|plane| channel(pixel, plane)));
        Ok(Self {
            width,
            height,
            pixels: pixels.collect(),
        })
    }

    /// The picture on a device, `[1, 3, height, width]` in 0 to 1.
    pub fn to_tensor(&self, device: &Device) -> Tensor<4> {
        let values = self.pixels.iter().map(|&byte| f32::from(byte) / 255.0);
        let data = TensorData::new(values.collect(), [1, self.height, self.width, 3]);
        Tensor::<4>::from_data(data, device).permute([0, 3, 1, 2])
    }

    /// A picture of these bytes, `[height, width, 3]`.
    ///
    /// # Panics
    ///
    /// If there are more or fewer.
    pub fn from_pixels(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        assert_eq!(
            pixels.len(),
            height * width * 3,
            "`pixels` is [height, width, 3]"
        );
        Self {
            width,
            height,
            pixels,
        }
    }

    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            pixels: colour.repeat(width * height),
        }
    }

    /// A picture whose pixel in column `x` of row `y` is `colour(x, y)`.
    pub fn from_fn(
        width: usize,
        height: usize,
        mut colour: impl FnMut(usize, usize) -> [u8; 3],
    ) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            pixels: places.flat_map(|(x, y)| colour(x, y)).collect(),
        }
    }

    /// The pixel in column `x` of row `y`; `None` outside of the picture.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        if x >= self.width {
            return None;
        }
        let start = (y * self.width + x) * 3;
        self.pixels.get(start..)?.first_chunk().copied()
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// One channel value in 0 to 1 as a byte, rounded to nearest as diffusers does.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is clamped to 0..=255 first"
)]
fn to_byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels_rounded_to_nearest() {
        let planes = [0.0, 1.0, 0.5, 2.0, -1.0, 0.002];
        let picture = Picture::from_planes(&planes, 1, 2).expect("numbers");
        assert_eq!(picture.pixels(), [0, 128, 0, 255, 255, 1]);
    }

    #[test]
    fn pixels_are_found_where_they_were_put() {
        let picture = Picture::from_fn(3, 2, |x, y| [x as u8, y as u8, 7]);
        assert_eq!(picture.pixels()[3 * 5..], [2, 1, 7]);
        assert_eq!(picture.pixel(2, 1), Some([2, 1, 7]));
        assert_eq!((picture.pixel(3, 0), picture.pixel(0, 2)), (None, None));
    }

    #[test]
    fn a_value_that_is_not_a_number_is_refused() {
        let error = Picture::from_planes(&[f32::NAN, 0.0, 0.0], 1, 1).expect_err("not a number");
        assert!(error.to_string().contains("lower the guidance"));
    }
}
