//! Calibrated plans: a model's own, from a few runs of it.

use burn::tensor::Tensor;

use super::Pipeline;
use super::made::values;
use super::request::{Request, Resolved, SeededNoise};
use super::run::Run;
use super::run::planning::{
    BEHIND, Effort, FEW_STEP_SAMPLERS, Quiet, closeness, curve, fewer, mean, schedulable, short,
    tried,
};
use super::run::sensitivity::Followed;
use super::run::stretches::Calibrated;
use crate::cache::{CacheRule, CostTable, FewerSteps, PlanFile, Predictor, Refresh};
use crate::conditioning::Conditioning;
use crate::denoise::Observer;
use crate::error::{Error, PlanError, RequestError};
use crate::ops::Reuse;
use crate::samplers::SamplerKind;

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// Identity of the model's weights ([`weights_hash`](crate::catalog::ModelFolder::weights_hash)).
    pub model: String,
    /// The rules that schedules are found for; their own refreshes do not matter.
    pub rules: Vec<CacheRule>,
    /// The runs that are watched: they differ in subjects and seeds alone.
    pub requests: Vec<Request>,
    /// The most evaluations from one refresh to the next.
    pub gap: usize,
    /// How much is measured.
    pub effort: Effort,
}

/// What all rules share, found on the way of the first.
#[derive(Default)]
struct Shared {
    /// What is left in the end of a deviation, in front of every evaluation and at the end.
    gains: Option<Vec<f64>>,
    /// The plain pictures of the runs that others are compared with, before rounding.
    plain: Vec<Vec<f32>>,
}

impl Calibration {
    /// With another rule in a request.
    fn request(request: &Request, cache: CacheRule) -> Request {
        Request {
            cache,
            ..request.clone()
        }
    }

    /// The runs whose pictures are compared.
    fn compared(&self) -> &[Request] {
        match self.effort {
            Effort::Thorough => &self.requests,
            Effort::Quick => &self.requests[..self.requests.len().min(1)],
        }
    }

    /// The first request without a cache.
    fn plain(&self) -> Result<Request, Error> {
        let first = self.requests.first().ok_or(RequestError::NoPictures)?;
        Ok(Self::request(first, CacheRule::none()))
    }
}

impl Pipeline {
    /// A plan for runs such as `asked` describes: for each of its rules the best schedule of every number of refreshes, what it saves and
    /// how close it comes to the plain run; and the same of fewer steps, of the run's sampler and of those best for few steps.
    ///
    /// The same runs give the same plan: nothing in it depends on the time they take.
    ///
    /// # Errors
    ///
    /// If a rule has no schedules to find, a request does not fit the model, the observer cancels, or the device fails.
    pub fn plan(
        &self,
        asked: &Calibration,
        observer: &mut dyn Observer,
    ) -> Result<PlanFile, Error> {
        let _reuse = Reuse::new();
        let rules: Vec<_> = asked
            .rules
            .iter()
            .map(schedulable)
            .collect::<Result<_, _>>()?;
        let plain = asked.plain()?;
        let resolved = plain.resolve(&self.config)?;
        self.check_plannable(&rules, &resolved)?;
        resolved.notes.iter().for_each(|note| observer.warn(note));
        let observer = &mut Quiet(observer);
        let mut plan = self.unmeasured(asked, &plain, &resolved);
        let mut shared = Shared::default();
        for rule in &rules {
            let table = self.table(asked, (rule, plan.evaluations), &mut shared, observer)?;
            let speedup = |refreshes: &[usize]| {
                let refresh = Refresh::At(refreshes.to_vec());
                let rule = CacheRule {
                    refresh,
                    ..rule.clone()
                };
                let request = Calibration::request(&plain, rule);
                Ok(request.resolve(&self.config)?.forecast(1).speedup())
            };
            plan.curves.push(curve(rule, &table, speedup)?);
        }
        self.compare(asked, &shared.plain, &mut plan, observer)?;
        Ok(plan)
    }

    fn check_plannable(&self, rules: &[CacheRule], resolved: &Resolved) -> Result<(), Error> {
        let reason = if resolved.motion.is_some() {
            "films that one frame is moved to are made in several loops"
        } else if self.config.upscale.is_some() {
            "a model that makes pictures larger needs pictures"
        } else {
            return Ok(());
        };
        let rule = rules.first().map(CacheRule::to_string).unwrap_or_default();
        Err(PlanError::NoSchedule { rule, reason }.into())
    }

    /// A plan without anything measured.
    fn unmeasured(&self, asked: &Calibration, plain: &Request, resolved: &Resolved) -> PlanFile {
        let sampler = match plain.sampler {
            Some(kind) => kind.name(),
            None => self.config.sampler.name(),
        };
        let evaluations = resolved.plan.evaluations();
        let [_, _, height, width] = resolved.latent_shape;
        let factor = self.config.canvas().factor;
        let made = (sampler, resolved.steps);
        let mut plan = PlanFile::new(asked.model.clone(), made, evaluations);
        plan.guidance_scale = resolved.guidance.asked();
        plan.size = [width * factor, height * factor];
        let pictures = |requests: &[Request]| requests.iter().map(Request::items).sum();
        plan.pictures = pictures(&asked.requests);
        plan.compared = Some(pictures(asked.compared())).filter(|few| *few < plan.pictures);
        plan.gap = asked.gap.clamp(1, evaluations);
        plan
    }

    /// What a run is conditioned on, where it starts, and the noise that is left.
    fn begun(
        &self,
        run: &Run<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(Conditioning, Tensor<4>, SeededNoise), Error> {
        let mut noise = run.noise();
        let mut conditioning = self.conditioning(run, &mut noise, observer)?;
        let guidance = run.resolved.guidance;
        conditioning.guidance_scale = guidance.embedded;
        let latents = run.start_from_noise(&mut noise)?.latents;
        Ok((conditioning, latents, noise))
    }

    /// What forecasts of a rule cost, over all runs, weighed by what is left in the end of a deviation, on the first of the runs.
    fn table(
        &self,
        asked: &Calibration,
        (rule, evaluations): (&CacheRule, usize),
        shared: &mut Shared,
        observer: &mut dyn Observer,
    ) -> Result<CostTable, Error> {
        let looks_back = !rule.forecast.holds();
        // The best schedule is known where forecasts look at two refreshes; it serves those that look at more.
        let rule = &match rule.forecast.order() {
            0 | 1 => rule.clone(),
            _ => rule.clone().with_forecast(Predictor::Linear),
        };
        let mut table = CostTable::new(evaluations, asked.gap, looks_back);
        let all: usize = asked.requests.iter().map(Request::items).sum();
        for request in &asked.requests {
            let request = Calibration::request(request, rule.clone());
            let resolved = request.resolve(&self.config)?;
            let run = self.run(&request, &resolved);
            let (conditioning, latents, mut noise) = self.begun(&run, observer)?;
            let calibrated = Calibrated {
                run: &run,
                denoiser: self.trunk(),
                share: request.items() as f64 / all as f64,
                effort: asked.effort,
            };
            let trajectory =
                calibrated.fill(&mut table, &conditioning, latents, &mut noise, observer)?;
            if let Some(end) = trajectory.latents.last()
                && shared.plain.len() < asked.compared().len()
            {
                let plain = self.finished(&run, end.clone(), observer)?;
                shared.plain.push(plain);
            }
            if shared.gains.is_none() {
                let followed = Followed::new(&run, self.trunk(), &conditioning, trajectory);
                shared.gains = Some(followed.gains(asked.effort, observer)?);
            }
        }
        if let Some(gains) = &shared.gains {
            table.weigh(gains);
        }
        Ok(table)
    }

    /// The values of a run's pictures.
    fn finished(
        &self,
        run: &Run<'_>,
        latents: Tensor<4>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f32>, Error> {
        let how = self.decoding(run.request, run.resolved);
        let mut warn = |text: &str| observer.warn(text);
        let (images, _) = self.space.finish(latents, how, None, &mut warn)?;
        values(&images)
    }

    /// Measures how close schedules and fewer steps come to the `plain` pictures.
    fn compare(
        &self,
        asked: &Calibration,
        plain: &[Vec<f32>],
        plan: &mut PlanFile,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        for curve in &mut plan.curves {
            for index in tried(curve, asked.effort) {
                let point = &mut curve.points[index];
                let mut rule: CacheRule = curve.rule.parse()?;
                rule.refresh = Refresh::At(point.refreshes.clone());
                let change = |request: &mut Request| request.cache = rule.clone();
                point.psnr = Some(self.closeness(asked, plain, change, observer)?);
            }
        }
        let few = fewer(plan.steps, asked.effort);
        let own = plan.sampler.clone();
        for steps in &few {
            let offer = self.fewer_steps(asked, plain, (&own, *steps), observer)?;
            plan.fewer_steps.extend(offer);
        }
        let others = FEW_STEP_SAMPLERS.iter().filter(|other| **other != own);
        for other in others {
            let offers = self.others(asked, plain, (other, &few), &plan.fewer_steps, observer)?;
            plan.fewer_steps.extend(offers);
        }
        Ok(())
    }

    /// What fewer steps of another sampler are worth: of half of the numbers, and of one alone where that is far behind the model's `own`.
    fn others(
        &self,
        asked: &Calibration,
        plain: &[Vec<f32>],
        (sampler, few): (&str, &[usize]),
        own: &[FewerSteps],
        observer: &mut dyn Observer,
    ) -> Result<Vec<FewerSteps>, Error> {
        let middle = few.len() / 2;
        let Some(&steps) = few.get(middle) else {
            return Ok(Vec::new());
        };
        let mut offers = Vec::new();
        offers.extend(self.fewer_steps(asked, plain, (sampler, steps), observer)?);
        let own = own.iter().find(|own| own.steps == steps);
        let behind = |offer: &FewerSteps| own.is_some_and(|own| offer.psnr < own.psnr - BEHIND);
        if offers.iter().all(behind) {
            return Ok(offers);
        }
        let rest = few.iter().enumerate();
        let second = |&(place, _): &(usize, _)| place != middle && place % 2 == middle % 2;
        for (_, steps) in rest.filter(second) {
            offers.extend(self.fewer_steps(asked, plain, (sampler, *steps), observer)?);
        }
        Ok(offers)
    }

    /// What a plain run of fewer steps is worth; `None` where the model does not go with the sampler.
    fn fewer_steps(
        &self,
        asked: &Calibration,
        plain: &[Vec<f32>],
        (sampler, steps): (&str, usize),
        observer: &mut dyn Observer,
    ) -> Result<Option<FewerSteps>, Error> {
        let kind: SamplerKind = sampler.parse()?;
        let change = |request: &mut Request| {
            request.cache = CacheRule::none();
            request.steps = Some(steps);
            if kind.name() != self.config.sampler.name() {
                request.sampler = Some(kind);
            }
        };
        let full = asked.plain()?;
        let mut fewer = full.clone();
        change(&mut fewer);
        let Ok(resolved) = fewer.resolve(&self.config) else {
            return Ok(None);
        };
        let whole = full.resolve(&self.config)?.forecast(1).total_macs();
        let own = resolved.forecast(1).total_macs().max(1);
        Ok(Some(FewerSteps {
            sampler: sampler.to_owned(),
            steps,
            speedup: short(whole as f64 / own as f64),
            psnr: self.closeness(asked, plain, change, observer)?,
        }))
    }

    /// The mean PSNR of the compared pictures of changed requests against `plain`.
    fn closeness(
        &self,
        asked: &Calibration,
        plain: &[Vec<f32>],
        change: impl Fn(&mut Request),
        observer: &mut dyn Observer,
    ) -> Result<f64, Error> {
        let mut all = Vec::new();
        for (request, plain) in asked.compared().iter().zip(plain) {
            let mut request = request.clone();
            change(&mut request);
            let made = self.generate(&request, observer)?;
            all.extend(closeness(plain, &made.values()?, made.images.dims()[0]));
        }
        Ok(mean(&all))
    }
}
