//! How good pictures are: against other pictures, against a set of pictures, against what was asked for.
//!
//! - [`psnr`], [`float_psnr`] and [`ssim`] compare pixels, [`Lpips`] compares what a network sees;
//! - [`frechet_distance`] compares two sets of pictures in a feature space; its number means nothing without the name of the space,
//!   and it is called FID in Inception's alone;
//! - [`ClipScore`] says how well pictures fit their texts;
//! - a [`Judge`] counts the things that were asked for and are there;
//! - a [`FilmVerdict`] says whether what moves in a film is the thing asked for and goes the way asked for, [`steadiness`] how much it flickers;
//! - a [`Classifier`] is both a judge and a feature space.

mod classifier;
mod clip_score;
mod frechet;
mod judge;
mod lpips;
mod motion;
mod named;
mod pixels;
pub mod shapes;

use burn::tensor::{Device, Tensor, TensorData};

pub use classifier::Classifier;
pub use clip_score::ClipScore;
pub use frechet::{FeatureStatistics, frechet_distance};
pub use judge::{Asked, Judge, Judgement, ShapeJudge};
pub use lpips::Lpips;
pub use motion::{Direction, FilmVerdict, steadiness};
pub use pixels::{float_error, float_psnr, mean_squared_error, psnr, ssim};

use crate::error::{DeviceError, Error, EvaluationError};
use crate::image_io::Picture;

/// A network whose features sets of pictures are compared in.
pub trait FeatureSpace: std::fmt::Debug {
    /// Its name, which every Fréchet distance goes with.
    fn name(&self) -> &str;

    /// Features a picture.
    fn width(&self) -> usize;

    /// Whether the network takes pictures of that size.
    ///
    /// # Errors
    ///
    /// If it does not.
    fn check_size(&self, width: usize, height: usize) -> Result<(), Error>;

    /// The features of each picture; all are of one size, which [`check_size`](Self::check_size) takes.
    ///
    /// # Errors
    ///
    /// If the device fails.
    ///
    /// # Panics
    ///
    /// If there is no picture, or sizes differ.
    fn features(&self, pictures: &[Picture]) -> Result<Vec<Vec<f64>>, Error>;
}

/// Pictures of one size as `[items, 3, height, width]` in 0 to 1.
///
/// # Panics
///
/// If there is none, or sizes differ.
fn to_batch(pictures: &[Picture], device: &Device) -> Tensor<4> {
    let (width, height) = (pictures[0].width(), pictures[0].height());
    let same = |picture: &Picture| (picture.width(), picture.height()) == (width, height);
    assert!(pictures.iter().all(same), "pictures of one size");
    let bytes = pictures.iter().flat_map(Picture::pixels);
    let values: Vec<f32> = bytes.map(|&byte| f32::from(byte) / 255.0).collect();
    let data = TensorData::new(values, [pictures.len(), height, width, 3]);
    Tensor::<4>::from_data(data, device).permute([0, 3, 1, 2])
}

/// A tensor's values in row-major order, which `network` made: what is not finite would come out as a distance or a score of 0.
fn read_back<const D: usize>(tensor: Tensor<D>, network: &'static str) -> Result<Vec<f64>, Error> {
    let data = tensor.try_into_data();
    let data = data.map_err(|cause| DeviceError::execution("comparing pictures", &cause))?;
    let values: Vec<f64> = data.convert::<f64>().iter::<f64>().collect();
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(EvaluationError::NotFinite { network }.into())
    }
}
