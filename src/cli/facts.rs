//! What a run is called by, in words.

use super::console;
use crate::engine::Facts;

impl Facts {
    /// `30 steps of ddim, guidance 4, 128x128`
    pub(in crate::cli) fn course(&self) -> String {
        let Self {
            steps,
            sampler,
            guidance_scale,
            width,
            height,
            ..
        } = self;
        let course =
            format!("{steps} steps of {sampler}, guidance {guidance_scale}, {width}x{height}");
        match (self.batch, self.frames) {
            (1, None) => course,
            (batch, None) => format!("{course}, {batch} pictures"),
            (1, Some(frames)) => format!("{course}, {frames} frames"),
            (batch, Some(frames)) => format!("{course}, {batch} films of {frames} frames"),
        }
    }

    pub(in crate::cli) fn text(&self) -> String {
        let mut lines = vec![("model", self.model.clone())];
        lines.extend(self.vae.clone().map(|vae| ("vae", vae)));
        lines.extend(self.prediction.map(|word| ("prediction", word.to_owned())));
        lines.extend(self.refinement().map(|text| ("refiner", text)));
        lines.extend(self.upscalers.iter().map(|name| ("upscaler", name.clone())));
        lines.push(("run", self.course()));
        lines.push(("cache", self.cache.clone()));
        console::pairs(&lines)
    }
}
