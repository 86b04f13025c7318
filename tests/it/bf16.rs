//! Runs in bf16 on the CPU: how far they move predictions and pictures.

use afterimage::catalog::ModelFolder;
use afterimage::models::vae::{Autoencoder, Tiling};
use afterimage::pipeline::{ModelConfig, Pipeline, Request, Seeds, Trace};
use afterimage::rng::TorchRng;
use afterimage::weights::{ActivationFormat, Format, Storage, WeightFormat, load_strict};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::fixture::{shipped, values};
use crate::quantised::apart;
use crate::tolerance::{BF16, BF16_DECODED, BF16_ENCODED};

/// The first predictions of two steps, request after request, without guidance.
fn predictions(model: &str, dtype: DType, requests: &[Request]) -> Vec<f32> {
    let folder = ModelFolder::open(shipped(model).to_str().unwrap()).unwrap();
    let pipeline = Pipeline::load(&folder, &Device::flex(), dtype).unwrap();
    let first = |request: &Request| {
        let request = Request {
            steps: Some(2),
            guidance_scale: Some(1.0),
            ..request.clone()
        };
        let mut ignored = ();
        let mut trace = Trace::new(&mut ignored);
        pipeline.generate(&request, &mut trace).unwrap();
        values(trace.predictions[0].clone())
    };
    requests.iter().flat_map(first).collect()
}

/// A request from the first seeds: single predictions differ by a tenth in how far they are off.
fn seeded(request: Request) -> impl Iterator<Item = Request> {
    (0..2).map(move |seed| Request {
        seeds: Seeds::One(seed),
        ..request.clone()
    })
}

#[test]
fn predictions_are_off_by_less_than_in_torch() {
    for ((model, most), requests) in BF16.into_iter().zip([
        vec![Request::new("a red circle above a blue square")],
        [3, 9, 17, 27]
            .map(|class| Request::of_classes([class]))
            .into(),
        vec![Request::new("")],
    ]) {
        let requests: Vec<_> = requests.into_iter().flat_map(seeded).collect();
        let [exact, found] =
            [DType::F32, DType::BF16].map(|dtype| predictions(model, dtype, &requests));
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
    let alone = predictions("scenes-dit", DType::BF16, std::slice::from_ref(&request));
    let batch = Request {
        batch: 2,
        ..request
    };
    let both = predictions("scenes-dit", DType::BF16, &[batch]);
    assert_eq!(both.len(), 2 * alone.len());
    assert_eq!(both[..alone.len()], alone);
}

/// The autoencoder of `scenes` as runs in `dtype` have it.
fn autoencoder(dtype: DType) -> Autoencoder {
    let folder = ModelFolder::open(shipped("scenes").to_str().unwrap()).unwrap();
    let config = ModelConfig::read(&folder).unwrap();
    let vae = Autoencoder::new(config.vae().unwrap().clone(), &Device::flex());
    let storage = Storage::of_decoder(true, dtype).unwrap();
    load_strict(vae, &folder.weights("vae").unwrap(), "vae", storage).unwrap()
}

/// Normal numbers, in the denoiser's units.
fn latents() -> Tensor<4> {
    let (count, shape) = (4 * 16 * 16, [1, 4, 16, 16]);
    Tensor::from_data(
        TensorData::new(TorchRng::new(0).normal(count), shape),
        &Device::flex(),
    )
}

#[test]
fn autoencoders_are_off_by_less_than_in_torch() {
    let [exact, found] = [DType::F32, DType::BF16].map(autoencoder);
    let latents = exact.from_denoiser(latents());
    let pixels = exact.decode(latents.clone(), Tiling::Never);
    let decoded = found.decode(latents, Tiling::Never);
    assert_eq!((found.dtype(), decoded.dtype()), (DType::BF16, DType::F32));
    let off = apart(&values(decoded), &values(pixels.clone()));
    eprintln!("decoded in bf16: {off:.2e}");
    assert!((1e-4..BF16_DECODED).contains(&off), "{off}");

    let pixels = pixels.clamp(-1.0, 1.0);
    let [exact, found] = [exact, found].map(|vae| vae.encode(pixels.clone(), Tiling::Never));
    assert_eq!(found.mean.dtype(), DType::F32);
    let off = apart(&values(found.mean), &values(exact.mean));
    eprintln!("encoded in bf16: {off:.2e}");
    assert!((1e-4..BF16_ENCODED).contains(&off), "{off}");
}

/// What a run is decoded by follows its type, and weights in 8 bits change nothing of it.
#[test]
fn pipelines_in_bf16_decode_in_bf16() {
    let folder = ModelFolder::open(shipped("scenes").to_str().unwrap()).unwrap();
    let expected = autoencoder(DType::BF16);
    let expected = expected.decode(expected.from_denoiser(latents()), Tiling::Automatic);
    let expected = values((expected / 2.0 + 0.5).clamp(0.0, 1.0));
    let eight = Format {
        activations: ActivationFormat::Q8,
        ..Format::new(DType::BF16, WeightFormat::Q8)
    };
    for format in [DType::BF16.into(), eight] {
        let pipeline = Pipeline::load(&folder, &Device::flex(), format).unwrap();
        let pictures = pipeline.decode(latents(), Tiling::Automatic).unwrap();
        assert_eq!(values(pictures), expected, "{format:?}");
    }
}
