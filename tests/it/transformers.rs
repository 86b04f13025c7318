//! What transformers under texts are tested with alike.

use afterimage::pipeline::{Pipeline, Request};

use crate::fixture::Reference;
use crate::tested;
use crate::tolerance::F32_CPU;

/// Four steps of a picture that is not square, its text cut short.
pub(crate) fn small() -> Request {
    Request {
        steps: Some(4),
        text_length: Some(9),
        size: Some((64, 80)),
        ..Request::new("a red fox")
    }
}

pub(crate) fn latents(pipeline: &Pipeline, request: &Request) -> Reference {
    pipeline.generate(request, &mut ()).unwrap().latents.into()
}

/// At every cut: where all four steps of `request` are keys the run is the plain one, bit for bit; where the first alone is, one step at a time gives
/// what a batch does, and something else.
pub(crate) fn block_propagation_holds(pipeline: &Pipeline, request: &Request) {
    let plain = latents(pipeline, request);
    for cut in 1..pipeline.trunk().cell_count() {
        let of = |keys: &str| {
            let rule = format!("dit-propagation:cut={cut},keys={keys}");
            let cache = rule.parse().unwrap();
            let request = Request {
                cache,
                ..request.clone()
            };
            latents(pipeline, &request)
        };
        assert_eq!(of("0+1+2+3").values, plain.values, "cut {cut}");
        let alone = of("0");
        assert_ne!(alone.values, plain.values, "cut {cut}: nothing is reused");
        let together = of("0,parallel=3").on::<4>(&tested::device());
        let outcome = alone.compare(together, tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("cut {cut}: {error}"));
    }
}
