//! Pictures of a run that goes on.

use std::ops::ControlFlow;

use burn::tensor::Tensor;

use crate::denoise::{Observer, Progress};
use crate::models::vae::Tiling;
use crate::pipeline::parts::Space;

/// Decodes what an observer wants to see of a run before it ends, and passes everything else on.
pub(in crate::pipeline) struct Shown<'a> {
    pub(in crate::pipeline) observer: &'a mut dyn Observer,
    pub(in crate::pipeline) space: &'a dyn Space,
    /// Pictures or films.
    pub(in crate::pipeline) items: usize,
    pub(in crate::pipeline) tiling: Tiling,
}

impl Shown<'_> {
    /// A preview that cannot be made loses no run.
    fn show(&mut self, clean: Tensor<4>) {
        let images = self
            .space
            .decode(middle_frames(clean, self.items), self.tiling.into());
        match images {
            Ok(images) => self.observer.preview(images),
            Err(error) => self.observer.warn(&format!("there is no preview: {error}")),
        }
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
