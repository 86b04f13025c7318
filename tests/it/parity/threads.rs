//! The number of threads changes nothing, to the last bit.

use afterimage::cache::CacheRule;
use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Pipeline, Request};
use burn::tensor::{DType, Device};

use crate::fixture::{fixture, shipped, values};

/// Models of several sizes: what is small is computed on one thread whatever there is.
#[test]
fn pictures_are_the_same_on_any_number_of_threads() {
    let reused = || CacheRule::deepcache(2, 0);
    for (folder, request) in [
        (shipped("scenes"), Request::new("a red circle")),
        (shipped("scenes-dit"), Request::of_classes([3, 5])),
        (shipped("fashion-ddpm"), Request::new("")),
        (
            fixture("sdxl/model"),
            Request {
                batch: 3,
                cache: reused(),
                ..Request::new("a red fox")
            },
        ),
    ] {
        let request = Request {
            steps: Some(2),
            ..request
        };
        let name = folder.display().to_string();
        let made = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let run = || {
                let folder = ModelFolder::open(&name).unwrap();
                let pipeline = Pipeline::load(&folder, &Device::flex(), DType::F32).unwrap();
                let made = pipeline.generate(&request, &mut ()).unwrap();
                [values(made.latents), values(made.images)]
            };
            pool.build().unwrap().install(run)
        };
        let alone = made(1);
        for threads in [2, 3] {
            assert!(made(threads) == alone, "{name}: {threads} threads");
        }
    }
}
