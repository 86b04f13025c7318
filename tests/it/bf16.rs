//! Runs in bf16 on the CPU: how far they move predictions.

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{Pipeline, Request, Trace};
use burn::tensor::{DType, Device};

use crate::fixture::{shipped, values};
use crate::quantised::apart;
use crate::tolerance::BF16;

/// The first predictions of two steps from the same noise, without guidance.
fn predictions(model: &str, dtype: DType, request: &Request) -> Vec<f32> {
    let folder = ModelFolder::open(shipped(model).to_str().unwrap()).unwrap();
    let pipeline = Pipeline::load(&folder, &Device::flex(), dtype).unwrap();
    let request = Request {
        steps: Some(2),
        guidance_scale: Some(1.0),
        ..request.clone()
    };
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    pipeline.generate(&request, &mut trace).unwrap();
    values(trace.predictions[0].clone())
}

#[test]
fn predictions_are_off_by_less_than_in_torch() {
    for ((model, most), request) in BF16.into_iter().zip([
        Request::new("a red circle above a blue square"),
        Request::of_classes([3]),
        Request::new(""),
    ]) {
        let [exact, found] =
            [DType::F32, DType::BF16].map(|dtype| predictions(model, dtype, &request));
        let off = apart(&found, &exact);
        eprintln!("{model} in bf16: {off:.2e}");
        assert!(found != exact, "{model}: nothing was rounded");
        assert!(off < most, "{model}: {off}");
    }
}

/// What a picture gives does not depend on the one beside it.
#[test]
fn a_batch_in_bf16_is_its_pictures() {
    let request = Request::of_classes([3]);
    let alone = predictions("scenes-dit", DType::BF16, &request);
    let batch = Request {
        batch: 2,
        ..request
    };
    let both = predictions("scenes-dit", DType::BF16, &batch);
    assert_eq!(both.len(), 2 * alone.len());
    assert_eq!(both[..alone.len()], alone);
}
