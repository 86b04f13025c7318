//! Routers of Learning-to-Cache, from a few runs of a model.

use super::Pipeline;
use super::request::{Request, Seeds, course};
use super::run::{Changes, Observed};
use crate::cache::{CacheRule, Router};
use crate::denoise::Observer;
use crate::error::{Error, RequestError};

impl Pipeline {
    /// A router of Learning-to-Cache for runs such as `request` describes, from one run of it under each of `seeds`; what `request`
    /// caches is left out.
    ///
    /// A branch's score says how early a greedy choice takes it: the threshold of a rule is the share of the multiply-accumulates of
    /// branches, at steps that may reuse, that the rule spares.
    ///
    /// # Errors
    ///
    /// If the model reads no classes, the request does not fit it, the observer cancels, or the device fails.
    pub fn calibrate(
        &self,
        request: &Request,
        seeds: &[u64],
        observer: &mut dyn Observer,
    ) -> Result<Router, Error> {
        if self.config.classes().is_none() {
            return Err(RequestError::NoRouter.into());
        }
        let mut request = Request {
            cache: CacheRule::none(),
            ..request.clone()
        };
        let resolved = request.resolve(&self.config)?;
        resolved.notes.iter().for_each(|note| observer.warn(note));
        let mut changes = Changes::new(resolved.plan.evaluations());
        for &seed in seeds {
            request.seeds = Seeds::One(seed);
            let run = self.run(&request, &resolved);
            let mut noise = run.noise();
            let conditioning = self.conditioning(&run, &mut noise, observer)?;
            let observed = Observed::new(self.trunk(), changes);
            run.denoise(&observed, &conditioning, observer)?;
            changes = observed.into_changes();
        }
        let router = changes.router(&resolved.blueprint);
        let rule = CacheRule::learning_to_cache(router.clone());
        let sampler = resolved.sampler.as_ref();
        let course = course(sampler, sampler.evaluations().len());
        rule.plan(&course, &resolved.blueprint)?;
        Ok(router)
    }
}
