//! Pictures into numbers.

use std::iter::repeat_n;
use std::rc::Rc;

use super::compare::Comparison;
use super::joined::Joined;
use super::outcome::{Estimate, Judged, Outcome, ToConverged};
use super::results::Results;
use super::store::{Batch, Cost};
use super::study::{Sample, Study};
use super::timing::{Spread, is_time};
use crate::error::Error;
use crate::metrics::{
    Asked, ClipScore, FeatureSpace, FeatureStatistics, Judge, Lpips, float_psnr, frechet_distance,
    mean_squared_error, ssim, steadiness,
};

/// What pictures are measured with, beside their pixels.
#[derive(Debug, Default)]
pub struct Instruments {
    /// Pictures against the plain run's.
    pub lpips: Option<Lpips>,
    /// Where sets of pictures are compared by Fréchet distances.
    pub space: Option<Rc<dyn FeatureSpace>>,
    /// Data that the sets are compared with: a name, and features in [`space`](Self::space).
    pub data: Option<(String, FeatureStatistics)>,
    /// Counts what was asked for and is there.
    pub judge: Option<Rc<dyn Judge>>,
    /// Says how well pictures fit their prompts; idle where there are none.
    pub clip: Option<ClipScore>,
}

impl Instruments {
    /// # Errors
    ///
    /// If the study's pictures are too small for an instrument.
    fn check(&self, study: &Study) -> Result<(), Error> {
        let lpips = self.lpips.as_ref().map(|lpips| lpips as &dyn FeatureSpace);
        let mut networks = lpips.into_iter().chain(self.space.as_deref());
        networks.try_for_each(|network| network.check_size(study.width, study.height))
    }
}

/// Measures a complete evaluation, batch by batch, and tells `progress` how many are done.
///
/// # Errors
///
/// If a batch is damaged, pictures do not fit an instrument, or the device fails.
pub fn measure(
    joined: &Joined,
    instruments: &Instruments,
    mut progress: impl FnMut(usize, usize),
) -> Result<Results, Error> {
    let study = joined.study();
    instruments.check(study)?;
    let mut columns: Vec<Column> = study.methods.iter().map(|_| Column::default()).collect();
    let mut rounds = Rounds::default();
    for (index, batch) in joined.batches().enumerate() {
        let batch = batch?;
        let samples = study.samples_of(index);
        for (method, column) in columns.iter_mut().enumerate() {
            column.take(&batch, method, (&samples, study.frames), instruments)?;
            if let Some(converged) = study.converged() {
                column.take_converged(&batch, method, converged, instruments)?;
            }
        }
        rounds.take(&batch);
        progress(index + 1, study.batches());
    }
    rounds.warn_of_clock();
    let outcomes = outcomes(study, &columns, &rounds, instruments);
    warn_of_idle(&outcomes, instruments);
    Ok(Results {
        study: study.clone(),
        rounds: rounds.counting().count(),
        devices: rounds.devices,
        feature_space: instruments.space.as_ref().map(|space| space.name().into()),
        data: instruments
            .data
            .as_ref()
            .map(|(name, set)| (name.clone(), set.count())),
        clip_model: instruments.clip.as_ref().map(|clip| clip.name().into()),
        judge: instruments.judge.as_ref().map(|judge| judge.name().into()),
        comparisons: Comparison::all(&outcomes),
        outcomes,
    })
}

/// Says which instruments had nothing to measure: what they would have said is left out.
fn warn_of_idle(outcomes: &[Outcome], instruments: &Instruments) {
    let idle = |found: fn(&Outcome) -> bool| !outcomes.iter().any(found);
    if let Some(judge) = &instruments.judge
        && idle(|outcome| outcome.judged.is_some_and(|judged| judged.asked > 0))
    {
        tracing::warn!(
            "the judge of {} found nothing to look for in these prompts: shares are left out",
            judge.name()
        );
    }
    if let Some(clip) = &instruments.clip
        && idle(|outcome| outcome.clip.is_some())
    {
        tracing::warn!(
            "`{}` had no prompts to hold pictures to: scores are left out",
            clip.name()
        );
    }
}

/// What is known of one method's pictures.
#[derive(Debug, Default)]
struct Column {
    squared_errors: Vec<f64>,
    float_psnr: Vec<f64>,
    ssim: Vec<f64>,
    lpips: Vec<f64>,
    converged_psnr: Vec<f64>,
    converged_lpips: Vec<f64>,
    features: Option<FeatureStatistics>,
    judged: Option<Judged>,
    steadiness: Vec<f64>,
    clip: Vec<f64>,
}

impl Column {
    fn take(
        &mut self,
        batch: &Batch,
        method: usize,
        (samples, frames): (&[Sample<'_>], usize),
        instruments: &Instruments,
    ) -> Result<(), Error> {
        let (plain, own) = (batch.pictures(0), batch.pictures(method));
        for (a, b) in plain.iter().zip(own) {
            self.squared_errors.push(mean_squared_error(a, b));
            self.ssim.extend(ssim(a, b));
        }
        let errors = batch.float_errors(method).iter();
        self.float_psnr
            .extend(errors.map(|&error| float_psnr(error)));
        if let Some(lpips) = &instruments.lpips {
            self.lpips.extend(lpips.distances(plain, own)?);
        }
        if let Some(space) = &instruments.space {
            let set = self
                .features
                .get_or_insert_with(|| FeatureStatistics::new(space.width()));
            space
                .features(own)?
                .iter()
                .for_each(|features| set.add(features));
        }
        let asked: Vec<Asked<'_>> = samples.iter().map(|sample| sample.asked).collect();
        if let Some(judge) = &instruments.judge {
            let sum = self.judged.get_or_insert(Judged { right: 0, asked: 0 });
            let verdicts = match frames {
                1 => judge.judge(own, &asked)?,
                frames => judge.judge_films(own, frames, &asked)?,
            };
            for verdict in verdicts {
                sum.right += verdict.right;
                sum.asked += verdict.asked;
            }
        }
        if frames > 1 {
            self.steadiness
                .extend(own.chunks(frames).filter_map(steadiness));
        }
        let asked = asked.into_iter();
        let asked: Vec<_> = asked.flat_map(|one| repeat_n(one, frames)).collect();
        if let (Some(clip), Some(texts)) = (&instruments.clip, texts(&asked)) {
            self.clip.extend(clip.scores(own, &texts)?);
        }
        Ok(())
    }
}

impl Column {
    /// How far a method's pictures are from those of the method `converged`.
    fn take_converged(
        &mut self,
        batch: &Batch,
        method: usize,
        converged: usize,
        instruments: &Instruments,
    ) -> Result<(), Error> {
        let errors = batch.converged_errors(method).iter();
        self.converged_psnr
            .extend(errors.map(|&error| float_psnr(error)));
        if let Some(lpips) = &instruments.lpips {
            let (converged, own) = (batch.pictures(converged), batch.pictures(method));
            self.converged_lpips
                .extend(lpips.distances(converged, own)?);
        }
        Ok(())
    }

    fn to_converged(&self) -> Option<ToConverged> {
        Some(ToConverged {
            float_psnr: Estimate::of(&self.converged_psnr)?,
            lpips: Estimate::of(&self.converged_lpips),
        })
    }
}

/// The prompts, if all of them are.
fn texts<'a>(asked: &[Asked<'a>]) -> Option<Vec<&'a str>> {
    let text = |asked: &Asked<'a>| match *asked {
        Asked::Text(text) => Some(text),
        Asked::Class(..) | Asked::Nothing => None,
    };
    asked.iter().map(text).collect()
}

/// What every batch took.
#[derive(Debug, Default)]
struct Rounds {
    devices: Vec<String>,
    /// By batch: whether it was made by a warm process, and costs by method.
    costs: Vec<(bool, Vec<Cost>)>,
}

impl Rounds {
    fn take(&mut self, batch: &Batch) {
        let record = &batch.record;
        if !self.devices.contains(&record.device) {
            self.devices.push(record.device.clone());
        }
        self.costs.push((record.warm, record.costs.clone()));
    }

    /// The batches whose timing counts: those of warm processes, and all of them where there is no other.
    fn counting(&self) -> impl Iterator<Item = &[Cost]> {
        let any_warm = self.costs.iter().any(|(warm, _)| *warm);
        let counts = move |(warm, _): &&(bool, _)| *warm || !any_warm;
        self.costs
            .iter()
            .filter(counts)
            .map(|(_, costs)| costs.as_slice())
    }

    fn ratios(&self, method: usize, of: fn(&Cost) -> f64) -> Spread {
        let rounds = self.counting();
        let times = rounds.map(|costs| (of(&costs[0]), of(&costs[method])));
        let (plain, own): (Vec<_>, Vec<_>) = times.unzip();
        Spread::of_ratios(&plain, &own)
    }

    /// Says how many rounds were timed by a clock that stood still or ran back.
    fn warn_of_clock(&self) {
        let is_timed = |costs: &&[Cost]| costs.iter().all(|cost| is_time(cost.denoising));
        let (rounds, timed) = (
            self.counting().count(),
            self.counting().filter(is_timed).count(),
        );
        if timed < rounds {
            tracing::warn!(
                "the clock stood still or ran back in {} of {rounds} rounds, which count for no speed-up",
                rounds - timed
            );
        }
    }
}

fn outcomes(
    study: &Study,
    columns: &[Column],
    rounds: &Rounds,
    instruments: &Instruments,
) -> Vec<Outcome> {
    let distance = |column: &Column, other: Option<&FeatureStatistics>| {
        frechet_distance(column.features.as_ref()?, other?)
    };
    let plain = columns.first().and_then(|column| column.features.as_ref());
    let data = instruments.data.as_ref().map(|(_, set)| set);
    let methods = study.methods.iter().zip(columns).enumerate();
    methods
        .map(|(index, (method, column))| Outcome {
            method: method.clone(),
            speedup: rounds.ratios(index, |cost| cost.denoising),
            whole_speedup: rounds.ratios(index, |cost| cost.whole),
            denoising_seconds: Spread::of(rounds.counting().map(|costs| costs[index].denoising)),
            cells_run: rounds
                .costs
                .first()
                .map_or(0, |(_, costs)| costs[index].cells),
            mean_squared_error: Estimate::of(&column.squared_errors)
                .map_or(0.0, |estimate| estimate.mean),
            float_psnr: Estimate::of(&column.float_psnr),
            ssim: Estimate::of(&column.ssim),
            lpips: Estimate::of(&column.lpips),
            to_converged: column.to_converged(),
            frechet_to_plain: distance(column, plain),
            frechet_to_data: distance(column, data),
            judged: column.judged,
            steadiness: Estimate::of(&column.steadiness),
            clip: Estimate::of(&column.clip),
        })
        .collect()
}
