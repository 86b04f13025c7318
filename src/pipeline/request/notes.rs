//! What a user should know before a run: what is asked for and changes nothing, and what may surprise.

use super::asked::Request;
use super::film::FRAMES_A_SECOND;
use super::resolved::Resolved;
use super::subject::Subject;
use crate::cache::CacheRule;
use crate::image_io::Mask;
use crate::pipeline::config::{FewStepRun, Films, ModelConfig, Numbers, SourceConfig};
use crate::samplers::SamplerConfig;

/// Multiples that pictures to start from are rounded to, at least.
const ROUNDED: usize = 8;

/// Scores that pictures of a refiner's training have.
const SCORES: std::ops::RangeInclusive<f64> = 1.0..=10.0;

impl Request {
    /// What a user should know before the run that is `resolved`.
    pub(super) fn notes(&self, model: &ModelConfig, resolved: &Resolved) -> Vec<String> {
        let [_, _, height, width] = resolved.latent_shape;
        let sampler = self.sampler_for(model, [height, width]);
        let mut notes = sampler.notes();
        if let Some(distilled) = &model.distilled {
            let run = FewStepRun {
                silent: self.steps.is_none() || self.guidance_scale.is_none(),
                caches: self.cache != CacheRule::none(),
            };
            notes.extend(distilled.notes(model.defaults, run));
        }
        if !resolved.guidance.is_on() {
            notes.extend(self.idle(model));
        }
        notes.extend(self.outgrown(model, [height, width]));
        notes.extend(self.stretched(model, resolved.size));
        let frames = resolved.rows.frames;
        match model.films() {
            Films::Trained { frames: trained } if frames > trained => notes.push(format!(
                "the model makes films of {trained} frames; {frames} may be more than it has seen"
            )),
            _ => {}
        }
        notes.extend(self.idle_eta(&sampler));
        notes.extend(self.idle_clip_skip(model));
        notes.extend(self.idle_rate(model, frames));
        notes.extend(self.idle_binning(model, resolved.size));
        notes.extend(self.idle_layers(resolved));
        notes.extend(self.idle_controls(resolved));
        notes.extend(self.odd_scores(model));
        notes
    }

    /// Layers of CLIP that are left out where its states are not read: of FLUX' prompts its summary is, which all layers make.
    fn idle_clip_skip(&self, model: &ModelConfig) -> Option<String> {
        let read = match &model.source {
            SourceConfig::Texts(_) => true,
            SourceConfig::Joint(texts) => texts.joined,
            _ => false,
        };
        (self.clip_skip > 0 && !read).then(|| {
            "`clip_skip` does nothing: this model does not read the states of CLIP's layers".into()
        })
    }

    /// A rate of pictures. The one that a run takes by itself is in recipes of pictures too.
    fn idle_rate(&self, model: &ModelConfig, frames: usize) -> Option<String> {
        let rate = self.film.fps.filter(|fps| *fps != FRAMES_A_SECOND)?;
        let films = frames > 1 || matches!(model.films(), Films::Trained { .. });
        (!films).then(|| format!("`fps` does nothing: pictures have no rate, of {rate} or another"))
    }

    /// What does nothing in a run that is not guided.
    fn idle(&self, model: &ModelConfig) -> Option<String> {
        let added = &self.added;
        let mut negative = self.negative_prompts.iter();
        let others = [
            &added.second_negative_prompts,
            &added.third_negative_prompts,
        ];
        let avoids = negative.any(|text| !text.is_empty())
            || others.into_iter().flatten().any(|text| !text.is_empty());
        let given = [
            ("the negative prompt", avoids),
            ("`guidance_rescale`", self.guidance_rescale > 0.0),
            ("`guidance_until`", self.guidance_until.is_some()),
            ("`skip_layers`", self.skip_layers.layers.is_some()),
        ];
        let idle: Vec<_> = given.into_iter().filter(|(_, given)| *given).collect();
        let names: Vec<_> = idle.iter().map(|(name, _)| *name).collect();
        let names = names.join(" and ");
        let does = if idle.len() > 1 { "do" } else { "does" };
        match model.trunk.guides_apart() {
            _ if idle.is_empty() => None,
            true => Some(format!(
                "{names} {does} nothing: this model is led away from a negative prompt by `true_guidance_scale` above 1"
            )),
            false => Some(format!(
                "{names} {does} nothing: this run is not guided, which it is by a `guidance_scale` above 1"
            )),
        }
    }

    /// A picture of a camera asks for a run that takes hours, of a size that the model has never seen.
    fn outgrown(&self, model: &ModelConfig, latent_size: [usize; 2]) -> Option<String> {
        let pictured = self.edit.is_some() || !self.controls.is_empty();
        let canvas = model.canvas();
        let pixels = |[height, width]: [usize; 2]| height.saturating_mul(width);
        if self.size.is_some() || !pictured || pixels(latent_size) <= 4 * pixels(canvas.sides) {
            return None;
        }
        let sides = |[height, width]: [usize; 2]| {
            format!("{}x{}", width * canvas.factor, height * canvas.factor)
        };
        Some(format!(
            "this run makes {}, the size of the picture it is given, where the model's own is {}: it takes long, and shapes may repeat; \
             `size` makes another",
            sides(latent_size),
            sides(canvas.sides)
        ))
    }

    /// Pictures and masks that lose their proportions in a picture of `size`, height and width: the first of each kind. What rounding to
    /// multiples takes off is no loss.
    fn stretched(&self, model: &ModelConfig, size: [usize; 2]) -> Vec<String> {
        let slack = model.multiple().max(ROUNDED);
        let mut found = Vec::new();
        if let Subject::Picture { picture, name } = &self.subject {
            let own = [picture.height(), picture.width()];
            found.push((format!("picture `{name}`"), own, 1));
        }
        if let Some(edit) = &self.edit {
            let loses = |own: &[usize; 2]| !keeps_proportions(*own, size, slack);
            let pictures = edit.pictures.iter();
            let mut pictures = pictures.map(|one| [one.height(), one.width()]);
            let picture = pictures.find(loses);
            found.extend(picture.map(|own| (format!("picture `{}`", edit.name), own, slack)));
            let mask = edit.masks.iter().map(Mask::size).find(loses);
            found.extend(mask.map(|own| ("mask".to_owned(), own, slack)));
        }
        if let (Some(low), Some(upscale)) = (&self.low, &model.upscale)
            && upscale.stretched
        {
            let [_, _, height, width] = low.dims();
            found.push(("small picture".to_owned(), [height, width], 1));
        }
        found.retain(|(_, own, slack)| !keeps_proportions(*own, size, *slack));
        let told = |(what, [high, wide], _): (String, [usize; 2], usize)| {
            let [height, width] = size;
            format!(
                "the {what} has {wide}x{high} pixels and is stretched to {width}x{height}: its proportions are others"
            )
        };
        found.into_iter().map(told).collect()
    }

    /// Noise that the sampler does not weigh by it.
    fn idle_eta(&self, sampler: &SamplerConfig) -> Option<String> {
        let idle = self.eta != 0.0 && !sampler.takes_eta();
        idle.then(|| {
            format!(
                "`eta` does nothing: the sampler is `{}`, and those that take it are `ddim`, `ddim-quad` and `tcd`",
                sampler.name()
            )
        })
    }

    /// A list of sizes that is switched off, and that the model does not have.
    fn idle_binning(&self, model: &ModelConfig, size: [usize; 2]) -> Option<String> {
        let idle = !self.resolution_binning && model.binned(size).is_none();
        idle.then(|| {
            "switching `resolution_binning` off does nothing: this model has no list of sizes, and makes every picture at its own"
                .to_owned()
        })
    }

    /// Layers whose absence would guide between two steps.
    fn idle_layers(&self, resolved: &Resolved) -> Option<String> {
        let skipped = resolved.guidance.skipped?;
        let idle = resolved.guidance.is_on() && skipped.from >= skipped.until;
        let [from, until] = self.skip_layers.window();
        idle.then(|| {
            format!(
                "`skip_layers` do nothing: no step lies after {from} of the run and before {until}, where they guide"
            )
        })
    }

    /// Controls whose windows hold no evaluation as a whole.
    fn idle_controls(&self, resolved: &Resolved) -> Vec<String> {
        let count = resolved.plan.evaluations();
        let controls = self.controls.iter().zip(&resolved.windows);
        let idle = controls.filter(|(_, window)| window.is_empty());
        idle.map(|(control, _)| {
            let (name, window) = (&control.name, &control.window);
            format!(
                "the control by `{name}` does nothing: none of the {count} model calls lies as a whole in its window, {} to {} of the run",
                window.start, window.end
            )
        })
        .collect()
    }

    /// Scores beyond those that pictures had which a refiner was trained on. diffusers takes any.
    fn odd_scores(&self, model: &ModelConfig) -> Vec<String> {
        let added = model.texts().and_then(|texts| texts.added);
        if added.is_none_or(|added| added.numbers != Numbers::Score) {
            return Vec::new();
        }
        let scores = [
            ("aesthetic_score", self.added.aesthetic_score),
            (
                "negative_aesthetic_score",
                self.added.negative_aesthetic_score,
            ),
        ];
        let odd = scores
            .into_iter()
            .filter(|(_, score)| !SCORES.contains(score));
        odd.map(|(name, score)| {
            format!("`{name}` is {score}: the refiner was trained on scores of 1 to 10")
        })
        .collect()
    }
}

/// Whether what has the proportions of `own`, height and width, has those of `size` too, but for less than `slack` pixels of a side.
fn keeps_proportions(own: [usize; 2], size: [usize; 2], slack: usize) -> bool {
    let [high, wide, height, width] = [own[0], own[1], size[0], size[1]].map(|side| side as u128);
    let off = (wide * height).abs_diff(high * width);
    off < slack as u128 * high.max(wide)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::catalog::ModelFolder;
    use crate::image_io::Picture;
    use crate::pipeline::request::{Edit, SkipLayers};

    /// What is said of a request for the model of a card.
    fn told(card: &str, ask: impl FnOnce(&mut Request)) -> String {
        let folder = ModelFolder::open_configs(card).expect("a card");
        let model = ModelConfig::read(&folder).expect("a configuration");
        let mut request = Request::new("a fox");
        ask(&mut request);
        let resolved = request.resolve(&model).expect("a run");
        resolved.notes.join("\n")
    }

    #[test]
    fn eta_of_samplers_that_do_not_take_it_is_told() {
        let told = |sampler: &str, eta| {
            told("stable-diffusion-v1-5", |request| {
                request.sampler = Some(sampler.parse().expect("a sampler"));
                request.eta = eta;
            })
        };
        let said = told("euler", 0.3);
        assert!(
            said.contains("`eta` does nothing: the sampler is `euler`"),
            "{said}"
        );
        for (sampler, eta) in [("ddim", 0.3), ("tcd", 0.3), ("euler", 0.0)] {
            let said = told(sampler, eta);
            assert!(!said.contains("`eta`"), "{said}");
        }
    }

    #[test]
    fn sizes_that_are_no_list_are_told() {
        let off = |card: &str| told(card, |request| request.resolution_binning = false);
        let words = "switching `resolution_binning` off does nothing";
        assert!(off("stable-diffusion-v1-5").contains(words));
        assert!(!off("PixArt-Sigma-XL-2-1024-MS").contains(words));
    }

    #[test]
    fn layers_that_are_left_out_at_no_step_are_told() {
        let skipping = |steps, scale| {
            told("stable-diffusion-3-medium", |request| {
                request.steps = Some(steps);
                request.guidance_scale = Some(scale);
                request.skip_layers = SkipLayers {
                    layers: Some(vec![7]),
                    ..SkipLayers::default()
                };
            })
        };
        let said = skipping(4, 5.0);
        assert!(
            said.contains("no step lies after 0.01 of the run and before 0.2"),
            "{said}"
        );
        let said = skipping(4, 1.0);
        assert!(said.contains("`skip_layers` does nothing: this run is not guided"));
        assert!(!skipping(28, 5.0).contains("skip_layers"));
    }

    #[test]
    fn scores_that_no_picture_has_are_told() {
        let scored = |score| {
            told("stable-diffusion-xl-refiner-1.0", |request| {
                request.edit = Some(Edit::new(Picture::filled(1024, 1024, [9; 3])));
                request.added.aesthetic_score = score;
            })
        };
        for score in [11.0, -5.0, 1e30] {
            let said = scored(score);
            assert!(
                said.contains(&format!("`aesthetic_score` is {score}: ")),
                "{said}"
            );
        }
        assert!(!scored(10.0).contains("aesthetic_score"));
    }

    #[test]
    fn proportions_are_kept_to_less_than_the_slack() {
        assert!(keeps_proportions([2, 4], [200, 400], 1));
        assert!(keeps_proportions([263, 519], [256, 512], 8));
        assert!(!keeps_proportions([263, 519], [256, 512], 1));
        assert!(!keeps_proportions([2000, 8], [128, 128], 8));
        assert!(!keeps_proportions([100, 256], [128, 128], 8));
    }
}
