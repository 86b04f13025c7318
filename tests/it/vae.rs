//! The autoencoder, against diffusers.

use std::path::Path;

use afterimage::models::vae::{AutoencoderKl, Tiling, VaeConfig, VaeJson};
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::{Distribution, Tensor};

use crate::fixture::{Golden, fixture, json, shared};
use crate::param_lists::assert_same_parameters;
use crate::tested;
use crate::tolerance::F32_CPU;

fn config(path: impl AsRef<Path>) -> VaeConfig {
    VaeConfig::new(json::<VaeJson>(path)).unwrap()
}

fn model(folder: &Path) -> AutoencoderKl {
    let model = AutoencoderKl::new(config(folder.join("config.json")), &tested::device());
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    let source = WeightSource::open(weights).unwrap();
    load_strict(model, &source, "vae", tested::dtype()).unwrap()
}

/// The committed model and its cases.
fn committed() -> (AutoencoderKl, Golden) {
    let folder = fixture("vae");
    (
        model(&folder),
        Golden::open(folder.join("cases.safetensors")),
    )
}

#[test]
fn a_batch_of_odd_size_is_decoded_and_encoded() {
    let (vae, golden) = committed();
    let latents = golden.tensor("latents", &tested::device());
    let pixels = vae.decode(latents, Tiling::Automatic);
    golden.assert_close("pixels", pixels, tested::tolerance(F32_CPU));
    let pixels = golden.tensor("pixels", &tested::device());
    let moments = vae.encode(pixels, Tiling::Automatic);
    golden.assert_close("mean", moments.mean, tested::tolerance(F32_CPU));
    golden.assert_close(
        "log_variance",
        moments.log_variance,
        tested::tolerance(F32_CPU),
    );
}

#[test]
fn tiles_are_cut_and_faded_as_by_diffusers() {
    let (vae, golden) = committed();
    let latents = golden.tensor("large_latents", &tested::device());
    let pixels = vae.decode(latents, Tiling::Always);
    golden.assert_close("tiled_pixels", pixels, tested::tolerance(F32_CPU));
    let pixels = golden.tensor("tiled_pixels", &tested::device());
    let moments = vae.encode(pixels, Tiling::Always);
    golden.assert_close("tiled_mean", moments.mean, tested::tolerance(F32_CPU));
}

#[test]
fn small_pictures_have_no_tiles() {
    let (vae, golden) = committed();
    let latents: Tensor<4> = golden.tensor("latents", &tested::device());
    let [always, never] = [Tiling::Always, Tiling::Never].map(|tiling| {
        let pixels = vae.decode(latents.clone(), tiling);
        pixels.into_data().try_to_vec::<f32>().unwrap()
    });
    assert_eq!(always, never);
}

#[test]
fn units_of_the_denoiser_are_there_and_back() {
    let (vae, golden) = committed();
    let latents: Tensor<4> = golden.tensor("latents", &tested::device());
    let scaled = vae.to_denoiser(latents.clone());
    let ratio = (scaled.clone() / latents).mean().into_scalar::<f32>();
    assert!((ratio - 0.18215).abs() < 1e-6);
    golden.assert_close(
        "latents",
        vae.from_denoiser(scaled),
        tested::tolerance(F32_CPU),
    );
}

#[test]
fn samples_have_the_moments_asked_for() {
    let (vae, golden) = committed();
    let moments = vae.encode(golden.tensor("pixels", &tested::device()), Tiling::Never);
    let shape = moments.mean.dims();
    let at = |noise: f64| moments.sample(Tensor::full(shape, noise, &tested::device()));
    golden.assert_close("mean", at(0.0), tested::tolerance(F32_CPU));
    let log_variance = ((at(1.0) - at(-1.0)) / 2.0).log() * 2.0;
    let error = (log_variance - moments.log_variance).abs().max();
    assert!(
        error.into_scalar::<f32>() < 0.05,
        "rounding of mean ± deviation"
    );
}

#[test]
fn the_shared_case_is_met() {
    let Some(folder) = shared("reference/fixtures/sd15") else {
        return;
    };
    let vae = model(&folder.join("model/vae"));
    let golden = Golden::open(folder.join("cases.safetensors"));
    let decoded = vae.decode(golden.tensor("vae.z", &tested::device()), Tiling::Automatic);
    golden.assert_close("vae.decoded", decoded, tested::tolerance(F32_CPU));
    let image = golden.tensor("vae.image", &tested::device());
    let moments = vae.encode(image, Tiling::Automatic);
    golden.assert_close("vae.moments_mean", moments.mean, tested::tolerance(F32_CPU));
    golden.assert_close(
        "vae.moments_logvar",
        moments.log_variance,
        tested::tolerance(F32_CPU),
    );
}

#[test]
fn parameters_are_those_of_the_real_checkpoint() {
    let Some(path) = shared("data/configs/runwayml/stable-diffusion-v1-5/vae/config.json") else {
        return;
    };
    let config = config(path);
    assert!(config.force_upcast);
    let model = AutoencoderKl::new(config, &tested::device());
    assert_same_parameters("sd15.vae", shapes(&model));
}

/// Takes minutes and gigabytes: `cargo test --release --test it -- --ignored decoding_at_full_size`, `AFTERIMAGE_SIDE` in latents.
#[test]
#[ignore = "a measurement"]
fn decoding_at_full_size() {
    let json = serde_json::json!({
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
    });
    let config = VaeConfig::new(serde_json::from_value(json).unwrap()).unwrap();
    let side = std::env::var("AFTERIMAGE_SIDE").map_or(64, |side| side.parse().unwrap());
    let forecast = config.decode_bytes(side, side) >> 20;
    let macs = config.decode_macs(side, side) as f64 / 1e9;
    let device = tested::device();
    let vae = AutoencoderKl::new(config, &device);
    let decode = |side: usize| {
        let latents = Tensor::random([1, 4, side, side], Distribution::Default, &device);
        vae.decode(latents, Tiling::Automatic).into_data()
    };
    decode(1);
    let before = peak_mib();
    let start = std::time::Instant::now();
    decode(side);
    let seconds = start.elapsed().as_secs_f64();
    let grown = peak_mib() - before;
    panic!(
        "{seconds:.1} s, {macs:.0} GMACs, {grown} MiB on {before} MiB, untiled forecast {forecast} MiB"
    );
}

/// The most memory this process has held.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.unwrap().trim().trim_end_matches(" kB");
    digits.parse::<u64>().unwrap() >> 10
}
