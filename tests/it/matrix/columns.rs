//! The caching methods.

use afterimage::Error;
use afterimage::cache::{CacheRule, Refresh};
use afterimage::pipeline::Request;

use super::STEPS;
use super::models::Subject;

/// A caching method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Plain,
    OuterCut,
    MiddleCut,
    InnerCut,
    Sequential,
    Batched,
    Gate,
    Routed,
}

/// How much is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// The method's neutral form, which is the uncached run.
    Nothing,
    Some,
}

impl Column {
    pub(super) const ALL: [Self; 8] = [
        Self::Plain,
        Self::OuterCut,
        Self::MiddleCut,
        Self::InnerCut,
        Self::Sequential,
        Self::Batched,
        Self::Gate,
        Self::Routed,
    ];

    /// As the table says it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Plain => "uncached",
            Self::OuterCut => "DeepCache, outermost cut",
            Self::MiddleCut => "middle cut",
            Self::InnerCut => "innermost cut",
            Self::Sequential => "propagation",
            Self::Batched => "in batches",
            Self::Gate => "T-GATE",
            Self::Routed => "L2C",
        }
    }

    /// The rule for what `request` asks of `subject`. Propagation is that of the decoder where there is one, else that of blocks.
    pub(super) fn rule(
        self,
        reuse: Reuse,
        subject: &Subject,
        request: &Request,
    ) -> Result<CacheRule, Error> {
        let skips = subject.skips();
        let deepcache = |branch: usize| {
            let interval = if reuse == Reuse::Some { 2 } else { 1 };
            CacheRule::deepcache(interval, branch)
        };
        let propagation = || {
            let keys = Refresh::every(if reuse == Reuse::Some { 3 } else { 1 });
            match skips {
                0 => CacheRule::dit_propagation_proportional(keys),
                _ => CacheRule::encoder_propagation(keys),
            }
        };
        Ok(match self {
            Self::Plain => CacheRule::none(),
            Self::OuterCut => deepcache(0),
            Self::MiddleCut => deepcache(skips / 2),
            Self::InnerCut => deepcache(skips.saturating_sub(1)),
            Self::Sequential => propagation(),
            Self::Batched => propagation().with_parallel(3),
            Self::Gate if reuse == Reuse::Some => CacheRule::tgate(STEPS / 2),
            // PNDM makes a step more than it is asked for.
            Self::Gate => CacheRule::tgate(2 * STEPS),
            Self::Routed => {
                let threshold = if reuse == Reuse::Some { 0.5 } else { 0.0 };
                let router = subject.pipeline.calibrate(request, &[1], &mut ())?;
                CacheRule::learning_to_cache(router.with_threshold(threshold))
            }
        })
    }
}
