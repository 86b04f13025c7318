//! Films from a model of pictures: Text2Video-Zero.
//!
//! The first frame is denoised part of the way (loop A) and further (loop B); what it is then is moved for the other frames and carried
//! back by noise to where loop A ended; from there all frames are denoised together (loop C), each looking at the first. The loops are
//! stretches of one sampler; each has a plan and a store of its own.
//!
//! Source: Khachatryan et al., "Text2Video-Zero" (arXiv 2303.13439, section 3.3); behaviour as diffusers' `TextToVideoZeroPipeline`.

mod field;
mod stretch;

use std::ops::{ControlFlow, Range};

use burn::tensor::Tensor;

pub use field::MotionField;
use stretch::Stretch;

use crate::cache::{Account, CachePlan, CacheRule, Forecast, Session};
use crate::conditioning::Conditioning;
use crate::denoise::{Denoise, Noise, Observer, Progress};
use crate::denoiser::{Blueprint, Evaluation, Rows, StagedDenoiser};
use crate::error::{Error, RequestError};
use crate::guidance::Guidance;
use crate::noise::NoiseSchedule;
use crate::sampler::{History, Sampler};

/// How a film moves, and from which noise on its frames differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// The shift from frame to frame.
    pub field: MotionField,
    /// Where the first frame is moved: before the evaluation of this number, counted from the last, which is 0 (`t0`).
    pub moved_at: usize,
    /// Where the frames go on together, counted alike (`t1`).
    pub joined_at: usize,
}

impl Motion {
    /// The published field and places, 44 and 47 of 50 evaluations, or what is in proportion.
    pub fn of(evaluations: usize) -> Self {
        let place = |of_fifty: usize| (of_fifty * evaluations + 25) / 50;
        let joined_at = place(47).min(evaluations.saturating_sub(1));
        Self {
            field: MotionField::default(),
            moved_at: place(44).min(joined_at.saturating_sub(1)),
            joined_at,
        }
    }

    /// The evaluations of the loops A, B and C in a run of so many.
    ///
    /// # Errors
    ///
    /// If the places are not in a run of that length, or not one after the other.
    pub fn loops(self, evaluations: usize) -> Result<[Range<usize>; 3], Error> {
        let Self {
            moved_at,
            joined_at,
            ..
        } = self;
        if moved_at >= joined_at || joined_at >= evaluations {
            return Err(RequestError::MotionPlaces {
                moved_at,
                joined_at,
                evaluations,
            }
            .into());
        }
        let (joined, moved) = (evaluations - joined_at - 1, evaluations - moved_at - 1);
        Ok([0..joined, joined..moved, joined..evaluations])
    }

    /// The plans of the loops that there are, in the run of `sampler` over `trunk`: those of the first frame, and that of all frames.
    ///
    /// # Errors
    ///
    /// As [`loops`](Self::loops), and if `rule` does not fit a loop.
    pub fn plans(
        self,
        sampler: &dyn Sampler,
        rule: &CacheRule,
        trunk: &Blueprint,
    ) -> Result<(Vec<CachePlan>, CachePlan), Error> {
        let plan = |range| rule.plan(&Stretch::new(sampler, range).course(), trunk);
        let [begin, ahead, together] = self.loops(sampler.evaluations().len())?;
        let first = [begin, ahead].into_iter().filter(|range| !range.is_empty());
        Ok((first.map(plan).collect::<Result<_, _>>()?, plan(together)?))
    }

    /// Share of the signal's power that is left when the frames are carried back to where they go on together.
    fn kept(self, sampler: &dyn Sampler, schedule: &NoiseSchedule) -> f64 {
        let evaluations = sampler.evaluations();
        // The noise of a timestep is what all before it have added.
        let before = |place: usize| {
            let timestep = evaluations[evaluations.len() - 1 - place].timestep as usize;
            timestep.checked_sub(1).map_or(1.0, |last| {
                let bars = schedule.alpha_bars();
                bars[last.min(bars.len() - 1)]
            })
        };
        before(self.joined_at) / before(self.moved_at)
    }
}

/// Text2Video-Zero of a trunk of pictures.
#[derive(Debug)]
pub struct ZeroShotFilm<'a, D: StagedDenoiser + ?Sized> {
    /// A trunk whose frames look at the first of their film.
    pub denoiser: &'a D,
    /// What a row of it costs.
    pub blueprint: &'a Blueprint,
    /// The update rule of the whole run.
    pub sampler: &'a dyn Sampler,
    /// What the model was trained on.
    pub schedule: &'a NoiseSchedule,
    /// Applied to each loop by itself.
    pub rule: &'a CacheRule,
    /// How strongly the condition guides.
    pub guidance: Guidance,
    /// How the film moves.
    pub motion: Motion,
    /// Frames of a film.
    pub frames: usize,
}

/// Frames that are denoised, and what each loop computed.
#[derive(Debug)]
pub struct Filmed {
    /// `[items · frames, channels, height, width]`
    pub latents: Tensor<4>,
    /// Of the loops that ran, in order: what was computed, and what was forecast.
    pub loops: Vec<(Account, Forecast)>,
}

impl<D: StagedDenoiser + ?Sized> ZeroShotFilm<'_, D> {
    /// Evaluations of all loops together.
    ///
    /// # Errors
    ///
    /// As [`Motion::loops`].
    pub fn evaluations(&self) -> Result<usize, Error> {
        let loops = self.motion.loops(self.sampler.evaluations().len())?;
        Ok(loops.into_iter().map(|range| range.len()).sum())
    }

    /// Runs the loops from the first frames' `latents`, `[items, channels, height, width]`, f32, already at the sampler's initial scale;
    /// `conditioning` has a row a film and half, and nothing that differs from frame to frame. The observer sees one run, whose
    /// evaluations are counted through all loops, and one frame of each film in the first two.
    ///
    /// # Errors
    ///
    /// If the motion or the rule does not fit the run, the observer cancels, or the device fails.
    pub fn run(
        &self,
        conditioning: &Conditioning,
        latents: Tensor<4>,
        noise: &mut dyn Noise,
        observer: &mut dyn Observer,
    ) -> Result<Filmed, Error> {
        let [begin, ahead, together] = self.motion.loops(self.sampler.evaluations().len())?;
        observer.begin(&latents);
        let mut loops = Loops {
            film: self,
            noise,
            observer,
            made: 0,
            total: self.evaluations()?,
            outcomes: Vec::new(),
        };
        let mut history = History::default();
        let joined = loops.run(begin, (conditioning, 1), latents, &mut history)?; // [items, channels, height, width]
        let mut further = history.clone();
        let moved = loops.run(ahead, (conditioning, 1), joined.clone(), &mut further)?;
        let films = self.films(joined, &moved, loops.noise);
        let frames = self.frames;
        let mut history = each_frame(history, frames);
        let latents = loops.run(together, (conditioning, frames), films, &mut history)?;
        Ok(Filmed {
            latents,
            loops: loops.outcomes,
        })
    }

    /// All frames at the noise where they go on together, `[items · frames, channels, height, width]`: the first as `joined`, the others as
    /// `moved` leads to, both `[items, channels, height, width]`.
    fn films(&self, joined: Tensor<4>, moved: &Tensor<4>, noise: &mut dyn Noise) -> Tensor<4> {
        let [items, channels, height, width] = joined.dims();
        let others = self.frames - 1;
        if others == 0 {
            return joined;
        }
        let kept = self.motion.kept(self.sampler, self.schedule);
        let moved = self.motion.field.warp(moved, 1..self.frames);
        let drawn = noise.draw(moved.dims());
        let carried = moved * kept.sqrt() + drawn * (1.0 - kept).sqrt();
        let carried = carried.reshape([items, others, channels, height, width]);
        Tensor::cat(vec![joined.unsqueeze_dim(1), carried], 1).reshape([
            items * self.frames,
            channels,
            height,
            width,
        ])
    }
}

/// What a sampler remembers of first frames, for all frames of their films.
fn each_frame(history: History, frames: usize) -> History {
    let each = |first: Tensor<4>| {
        let [items, channels, height, width] = first.dims();
        first
            .unsqueeze_dim::<5>(1)
            .expand([items, frames, channels, height, width])
            .reshape([items * frames, channels, height, width])
    };
    History {
        outputs: history.outputs.into_iter().map(each).collect(),
        sample: history.sample.map(each),
    }
}

/// The loops of a film on their way.
struct Loops<'a, D: StagedDenoiser + ?Sized> {
    film: &'a ZeroShotFilm<'a, D>,
    noise: &'a mut dyn Noise,
    observer: &'a mut dyn Observer,
    /// Evaluations of the loops before.
    made: usize,
    /// Evaluations of all loops.
    total: usize,
    outcomes: Vec<(Account, Forecast)>,
}

impl<D: StagedDenoiser + ?Sized> Loops<'_, D> {
    /// One loop over films of so many frames, `[items · frames, channels, height, width]`.
    fn run(
        &mut self,
        range: Range<usize>,
        (conditioning, frames): (&Conditioning, usize),
        latents: Tensor<4>,
        history: &mut History,
    ) -> Result<Tensor<4>, Error> {
        if range.is_empty() {
            return Ok(latents);
        }
        let film = self.film;
        let sampler = Stretch::new(film.sampler, range);
        let plan = film.rule.plan(&sampler.course(), film.blueprint)?;
        for warning in plan.warnings.iter().filter(|_| frames == film.frames) {
            self.observer.warn(&warning.to_string());
        }
        let items = latents.dims()[0] / frames;
        let rows: Rows = film.guidance.rows(items).with_frames(frames);
        let conditioning = Conditioning {
            rows,
            ..conditioning.clone()
        };
        let run = film.denoiser.start(&conditioning, sampler.evaluations());
        let mut session = Session::new(film.denoiser, &run, &plan, rows);
        let denoise = Denoise {
            sampler: &sampler,
            plan: &plan,
            guidance: film.guidance,
            prior_noise: None,
            known: None,
        };
        let mut counted = Counted {
            observer: self.observer,
            made: self.made,
            total: self.total,
        };
        let latents = denoise.go_on(&mut session, latents, history, self.noise, &mut counted)?;
        let forecast = plan.forecast(film.blueprint, rows, size_of::<f32>());
        self.outcomes.push((session.account(), forecast));
        self.made += plan.evaluations();
        Ok(latents)
    }
}

/// An observer of one run for which several follow each other.
struct Counted<'a> {
    observer: &'a mut dyn Observer,
    made: usize,
    total: usize,
}

impl Counted<'_> {
    /// Through all runs.
    fn counted<'a>(&self, progress: &Progress<'a>) -> Progress<'a> {
        let evaluation = Evaluation {
            index: self.made + progress.evaluation.index,
            ..progress.evaluation
        };
        Progress {
            evaluation,
            total: self.total,
            ..*progress
        }
    }
}

impl Observer for Counted<'_> {
    fn progress(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.observer.progress(&self.counted(progress))
    }

    fn wants_preview(&mut self, progress: &Progress<'_>) -> bool {
        self.observer.wants_preview(&self.counted(progress))
    }

    fn previews_decoded(&self) -> bool {
        self.observer.previews_decoded()
    }

    fn preview(&mut self, images: Tensor<4>) {
        self.observer.preview(images);
    }

    fn warn(&mut self, message: &str) {
        self.observer.warn(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_places_are_those_of_fifty_steps() {
        let motion = Motion::of(50);
        assert_eq!((motion.moved_at, motion.joined_at), (44, 47));
        assert_eq!(motion.loops(50).unwrap(), [0..2, 2..5, 2..50]);
        for evaluations in 2..60 {
            let loops = Motion::of(evaluations).loops(evaluations);
            let [begin, ahead, together] = loops.unwrap();
            assert_eq!((begin.end, together.end), (ahead.start, evaluations));
        }
    }

    #[test]
    fn places_that_do_not_fit_the_run_are_refused() {
        for (moved_at, joined_at, evaluations) in [(8, 8, 12), (10, 8, 12), (8, 12, 12), (0, 0, 1)]
        {
            let motion = Motion {
                moved_at,
                joined_at,
                ..Motion::of(50)
            };
            let error = motion.loops(evaluations).unwrap_err().to_string();
            assert!(error.contains(&format!("{joined_at}")), "{error}");
            assert!(error.contains("hint: "), "{error}");
        }
    }
}
