//! Textures of a host's device.

use burn::tensor::Tensor;
use bytemuck::{Pod, Zeroable};

use super::compare::{line, split};
use super::linear::LinearMap;
use super::painting::Painting;
use super::program::Program;
use super::values::Values;
use crate::device::{Host, wgpu};
use crate::error::{DeviceError, Error};

/// Channels that `shaders/preview.wgsl` has place for.
const CHANNELS: usize = 32;

/// What a shader of the host's gets of a texture. The bytes are those of a picture file either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampled {
    /// The bytes as they are, sRGB in `Rgba8Unorm`: for hosts that blend in sRGB, as egui does.
    #[default]
    Encoded,
    /// Linear light, of `Rgba8UnormSrgb`: for hosts that blend in it, as bevy does.
    Linear,
}

/// Makes textures of tensors on the device that a host shares with the engine. Nothing is read back, and nothing waits: the commands are handed
/// to the shared queue behind all that the tensor waits for, and what the host hands in afterwards finds the texture painted.
///
/// Tensors on the processor are copied to the device; those on another GPU are refused. A painter is called on whatever thread has the
/// tensor, an observer's for instance; the texture goes to any other.
#[derive(Debug)]
pub struct Painter {
    host: Host,
    sampled: Sampled,
    picture: Program,
    preview: Program,
    compare: Program,
}

/// `Given` of `shaders/picture.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Place {
    width: u32,
    height: u32,
    row: u32,
    first: u32,
}

/// `Given` of `shaders/preview.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Mapped {
    place: Place,
    channels: u32,
    unused: [u32; 3],
    offset: [f32; 4],
    weights: [[f32; 4]; CHANNELS],
}

/// `Given` of `shaders/compare.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Slider {
    width: u32,
    height: u32,
    row: u32,
    split: u32,
    line: u32,
    unused: [u32; 3],
}

impl Painter {
    /// Compiles the shaders on the device of `host`.
    pub fn new(host: &Host, sampled: Sampled) -> Self {
        let program = |name, source, inputs| Program::new(host.device(), name, source, inputs);
        Self {
            host: host.clone(),
            sampled,
            picture: program("picture", include_str!("../../shaders/picture.wgsl"), 1),
            preview: program("preview", include_str!("../../shaders/preview.wgsl"), 1),
            compare: program("compare", include_str!("../../shaders/compare.wgsl"), 2),
        }
    }

    /// The picture of row `item` of `[rows, 3, height, width]`, 0 to 1: of what a run has made, of a preview that was decoded, or the frame of
    /// a film: what [`Picture::from_tensor`](crate::image_io::Picture::from_tensor) gives, to one step of 255.
    ///
    /// # Errors
    ///
    /// A device error if the tensor is on another GPU, the picture is larger than textures are, or the device fails.
    ///
    /// # Panics
    ///
    /// If there is no such row, or it has other than three planes.
    pub fn picture(&self, pictures: Tensor<4>, item: usize) -> Result<Painting, Error> {
        let [rows, planes, height, width] = pictures.dims();
        assert!(item < rows && planes == 3, "a row of three planes");
        let painting = self.blank([width, height])?;
        let values = Values::of(pictures, &self.host)?;
        let place = Place::of(&painting, item * planes * height * width);
        let inputs = [values.binding()];
        self.picture.paint(&self.host, &place, &inputs, &painting);
        Ok(painting)
    }

    /// What row `item` of `[rows, channels, height, width]` seems to become, a pixel a cell: in an observer, of
    /// [`Progress::clean`](crate::denoise::Progress::clean). The host's sampler makes it larger.
    ///
    /// # Errors
    ///
    /// As [`picture`](Self::picture), and for maps of more than 32 channels.
    ///
    /// # Panics
    ///
    /// If there is no such row, or the map is of other channels.
    pub fn preview(
        &self,
        latents: Tensor<4>,
        item: usize,
        map: &LinearMap,
    ) -> Result<Painting, Error> {
        let [rows, channels, height, width] = latents.dims();
        assert!(item < rows && channels == map.channels(), "a row of a map");
        if channels > CHANNELS {
            return Err(DeviceError::NoTexture {
                what: format!("latents of {channels} channels"),
                device: "the preview's shader",
                limit: CHANNELS,
            }
            .into());
        }
        let painting = self.blank([width, height])?;
        let values = Values::of(latents, &self.host)?;
        let place = Place::of(&painting, item * channels * height * width);
        let given = Mapped::new(place, map);
        let inputs = [values.binding()];
        self.preview.paint(&self.host, &given, &inputs, &painting);
        Ok(painting)
    }

    /// `left` to the left of a slider at `at`, 0 to 1 of the width, and `right` to the right of it, painted over `target`: what
    /// [`compared`](super::compared) gives. All three have one size ([`Painter::blank`]).
    ///
    /// # Panics
    ///
    /// If they have not.
    pub fn compare(&self, left: &Painting, right: &Painting, at: f32, target: &Painting) {
        let sizes = [left, right, target].map(Painting::size);
        assert!(sizes.iter().all(|size| *size == sizes[0]), "one size");
        let [width, height] = sizes[0];
        let slider = Slider {
            width,
            height,
            row: target.row(),
            split: split(width as usize, at) as u32,
            line: line(width as usize) as u32,
            unused: [0; 3],
        };
        let inputs = [left, right].map(|painting| painting.words().as_entire_binding());
        self.compare.paint(&self.host, &slider, &inputs, target);
    }

    /// A painting of this width and height that nothing is on yet.
    ///
    /// # Errors
    ///
    /// A device error if textures are not that large there.
    pub fn blank(&self, [width, height]: [usize; 2]) -> Result<Painting, Error> {
        let device = self.host.device();
        let limit = device.limits().max_texture_dimension_2d as usize;
        if width.max(height) > limit {
            return Err(DeviceError::NoTexture {
                what: format!("{width} by {height} pixels"),
                device: "the device",
                limit,
            }
            .into());
        }
        let format = match self.sampled {
            Sampled::Encoded => wgpu::TextureFormat::Rgba8Unorm,
            Sampled::Linear => wgpu::TextureFormat::Rgba8UnormSrgb,
        };
        let size = [width as u32, height as u32];
        Ok(Painting::blank(device, format, size))
    }
}

impl Place {
    /// Of `painting`, whose values have `first` in front.
    fn of(painting: &Painting, first: usize) -> Self {
        let [width, height] = painting.size();
        Self {
            width,
            height,
            row: painting.row(),
            first: first as u32,
        }
    }
}

impl Mapped {
    fn new(place: Place, map: &LinearMap) -> Self {
        let padded = |[red, green, blue]: [f32; 3]| [red, green, blue, 0.0];
        let mut weights = [[0.0; 4]; CHANNELS];
        for (place, shares) in weights.iter_mut().zip(map.weights()) {
            *place = padded(*shares);
        }
        Self {
            place,
            channels: map.channels() as u32,
            unused: [0; 3],
            offset: padded(map.offset()),
            weights,
        }
    }
}
