//! Pictures of a run that goes on.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

use crate::denoise::{Observer, Progress};
use crate::display::LinearMap;
use crate::error::Error;
use crate::models::vae::Tiling;
use crate::pipeline::parts::Space;

/// Makes pictures of what an observer wants to see of a run before it ends, and passes everything else on.
pub(in crate::pipeline) struct Shown<'a> {
    pub(in crate::pipeline) observer: &'a mut dyn Observer,
    pub(in crate::pipeline) space: &'a dyn Space,
    /// Pictures or films.
    pub(in crate::pipeline) items: usize,
    pub(in crate::pipeline) tiling: Tiling,
    /// Pixels of a cell of the latents along a side.
    pub(in crate::pipeline) factor: usize,
    /// Finds the linear map that is nearest to the decoder.
    pub(in crate::pipeline) fit: &'a dyn Fn() -> Result<LinearMap, Error>,
    /// That map, once one was wanted.
    pub(in crate::pipeline) map: Option<LinearMap>,
}

impl Shown<'_> {
    /// A preview that cannot be made loses no run.
    fn show(&mut self, clean: Tensor<4>) {
        let begun = Instant::now();
        let clean = middle_frames(clean, self.items);
        let images = if self.observer.previews_decoded() {
            self.space.decode(clean, self.tiling.into())
        } else {
            self.mapped(clean)
        };
        match images {
            Ok(images) => self.observer.preview(images),
            Err(error) => self.observer.warn(&format!("there is no preview: {error}")),
        }
        tracing::debug!("a preview took {:.3} s", begun.elapsed().as_secs_f64());
    }

    /// The map's colours, as large as the pictures.
    fn mapped(&mut self, clean: Tensor<4>) -> Result<Tensor<4>, Error> {
        let map = match self.map.take() {
            Some(map) => map,
            None => (self.fit)()?,
        };
        let colours = self.map.insert(map).apply(clean);
        let [_, _, height, width] = colours.dims();
        let factor = self.factor;
        let options = InterpolateOptions::new(InterpolateMode::Bilinear);
        let options = options.with_output_size([factor * height, factor * width]);
        Ok(interpolate(colours, options))
    }
}

impl Observer for Shown<'_> {
    fn begin(&mut self, initial_latents: &Tensor<4>) {
        self.observer.begin(initial_latents);
    }

    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.observer.progress(progress)?;
        if self.observer.wants_preview(progress) {
            self.show(progress.clean());
        }
        ControlFlow::Continue(())
    }

    fn warn(&mut self, message: &str) {
        self.observer.warn(message);
    }
}

/// Of `[items · frames, …]` the middle frame of each item.
fn middle_frames(latents: Tensor<4>, items: usize) -> Tensor<4> {
    let [rows, channels, height, width] = latents.dims();
    let frames = rows / items;
    latents
        .reshape([items, frames, channels, height * width])
        .narrow(1, frames / 2, 1)
        .reshape([items, channels, height, width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_film_is_shown_by_its_middle_frame() {
        let rows = Tensor::<1, burn::tensor::Int>::arange(0..6, &Device::flex());
        let rows = rows.float().reshape([6, 1, 1, 1]);
        let middle = |items| {
            let middle = middle_frames(rows.clone(), items).into_data();
            middle.iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(middle(2), [1.0, 4.0]);
        assert_eq!(middle(6), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
