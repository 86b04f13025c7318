//! How good pictures are: against other pictures, against a set of pictures, against what was asked for.
//!
//! - [`psnr`] and [`ssim`] compare pixels, [`Lpips`] compares what a network sees;
//! - [`frechet_distance`] compares two sets of pictures in a feature space; its number means nothing without the name of the space,
//!   and it is called FID in Inception's alone;
//! - [`ClipScore`] says how well pictures fit their texts;
//! - a [`Judge`] counts the things that were asked for and are there.

mod clip_score;
mod frechet;
mod judge;
mod lpips;
mod pixels;
pub mod shapes;

use burn::tensor::{Device, Tensor, TensorData};

pub use clip_score::ClipScore;
pub use frechet::{FeatureStatistics, frechet_distance};
pub use judge::{Asked, Judge, ShapeJudge, Verdict};
pub use lpips::{LEAST_SIDE, Lpips};
pub use pixels::{mean_squared_error, psnr, ssim};

use crate::image_io::Picture;

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
