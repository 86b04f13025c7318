//! Tiny autoencoders, against diffusers and their author's own files.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use afterimage::{
    catalog::{ModelFolder, Overrides},
    models::vae::{Autoencoder, Tiling, VaeConfig, VaeJson},
    pipeline::ModelConfig,
    weights::load_strict,
};
use burn::tensor::{DType, Tensor};

use crate::checkpoint_words::{Tensors, opened};
use crate::checkpoints::sparse_file;
use crate::fixture::{Fixture, shared};
use crate::golden::{check_run, load_with};
use crate::parity::Tally;
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::weights::folder;

fn tiny(path: &Path) -> Overrides {
    Overrides {
        tiny_vae: Some(path.to_str().unwrap().to_owned()),
        ..Overrides::default()
    }
}

/// The autoencoder in `path`, in place of that of the small model.
fn autoencoder(path: &Path) -> Autoencoder {
    let model = Fixture::committed("sd15").model();
    let model = ModelFolder::open_with(model.to_str().unwrap(), &tiny(path), &mut ()).unwrap();
    let config: VaeJson = model.read_config("vae/config.json").unwrap();
    let vae = Autoencoder::new(VaeConfig::new(config).unwrap(), &tested::device());
    load_strict(vae, &model.weights("vae").unwrap(), "vae", DType::F32).unwrap()
}

/// `[rows, 3, height, width]`, bytes as -1 to 1.
fn pixels(fixture: &Fixture, case: &serde_json::Value) -> Tensor<4> {
    let bytes: Tensor<4> = fixture.of(case, "image_in").unwrap().on(&tested::device());
    bytes / 127.5 - 1.0
}

#[test]
fn both_halves_agree_with_diffusers() {
    let mut count = 0;
    let fixtures = ["few-step-tiny-vae", "taesd"].map(Fixture::both);
    for fixture in fixtures.into_iter().flatten() {
        for case in fixture.of_kinds(&["autoencoder_tiny"]) {
            let part = case["parts"]["vae"].as_str().unwrap_or("model/vae");
            let vae = autoencoder(&fixture.file(part));
            let close = |key: &str, found: Tensor<4>| {
                let golden = fixture.of(case, key).unwrap();
                golden
                    .compare(found, tested::tolerance(F32_CPU))
                    .unwrap_or_else(|error| panic!("{} {key}: {error}", case["id"]));
            };
            let found = vae.encode(pixels(&fixture, case), Tiling::Never);
            close("latents", found.mean);
            let latents = fixture.of(case, "z").unwrap().on(&tested::device());
            close("decoded", vae.decode(latents, Tiling::Never));
            count += 1;
        }
    }
    assert!(count >= 2, "{count}");
}

#[test]
fn runs_agree_with_diffusers() {
    if shared("reference/fixtures/few-step-tiny-vae").is_some() {
        let fixture = Fixture::best("few-step-tiny-vae");
        let said = tiny(&fixture.file("vae"));
        let mut pipeline = load_with(&fixture, &said, &tested::device());
        let mut tally = Tally::default();
        for case in fixture.of_kinds(&["txt2img", "img2img"]) {
            tally.add(&fixture, case, check_run(&fixture, case, &mut pipeline));
        }
        tally.finish(3);
    }
}

/// Trained weights in the author's layout, of the kind that normalises its smallest map, against the author's own program: pictures run
/// from 0 to 1 there.
#[test]
fn trained_weights_agree_with_their_author() {
    let (Some(weights), Some(_)) = (shared("data/taef2"), shared("reference/fixtures/taesd"))
    else {
        return;
    };
    let fixture = Fixture::best("taesd");
    let vae = autoencoder(&weights.join("taef2_decoder.pth"));
    let (mut decoded, mut encoded) = (0, 0);
    for case in fixture.of_kinds(&["taesd_real"]) {
        let close = |key: &str, found: Tensor<4>| {
            let golden = fixture.of(case, key).unwrap();
            golden.compare(found, tested::tolerance(F32_CPU)).unwrap();
        };
        match case["id"].as_str().unwrap() {
            "real.taef2_decoder" => {
                let latents = fixture.of(case, "z").unwrap().on(&tested::device());
                // Latents are bent before they are decoded by diffusers and in the author's decoder alike.
                close("image", vae.decode(latents, Tiling::Never) / 2.0 + 0.5);
                decoded += 1;
            }
            "real.taef2_encoder" => {
                close(
                    "latents",
                    vae.encode(pixels(&fixture, case), Tiling::Never).mean,
                );
                encoded += 1;
            }
            _ => {}
        }
    }
    assert_eq!((decoded, encoded), (1, 1));
    assert_eq!(autoencoder(&weights).config(), vae.config());
}

/// The tensors of `fixture`'s tiny autoencoder, as their author numbers layers.
fn halves(names: &Tensors) -> [Tensors; 2] {
    ["encoder", "decoder"].map(|half| {
        let prefix = format!("{half}.layers.");
        let own = names.iter().filter_map(|(name, shape)| {
            let (layer, rest) = name.strip_prefix(&prefix)?.split_once('.')?;
            let layer = layer.parse::<usize>().unwrap() + usize::from(half == "decoder");
            Some((format!("{layer}.{rest}"), shape.clone()))
        });
        own.collect()
    })
}

/// TAESD and TAESD3, in every layout that they are shared in; what a file lacks is said.
#[test]
fn every_layout_is_read() {
    let committed = Fixture::committed("few-step-tiny-vae");
    let source = |part: &str| {
        let path = committed
            .file(part)
            .join("diffusion_pytorch_model.safetensors");
        let source = afterimage::weights::WeightSource::open(path).unwrap();
        let names = source.names().map(str::to_owned);
        let shapes: Tensors = names
            .map(|name| (name.clone(), source.shape(&name).unwrap()))
            .collect();
        shapes
    };
    let model = Fixture::committed("sd15").model();
    let place = folder();
    let named = |name: &str| place.path().join(name);
    let names = source("vae");
    let [encoder, decoder] = halves(&names);
    let prefixed = |half: &str, tensors: &Tensors| -> Tensors {
        let own = tensors.iter();
        own.map(|(name, shape)| (format!("{half}.{name}"), shape.clone()))
            .collect()
    };
    let whole = [prefixed("encoder", &encoder), prefixed("decoder", &decoder)].concat();
    sparse_file(&named("taesd_encoder.safetensors"), &encoder, &[]);
    let pair = sparse_file(&named("taesd_decoder.safetensors"), &decoder, &[]);
    let whole = sparse_file(&named("whole.safetensors"), &whole, &[]);
    let alone = sparse_file(&named("diffusers.safetensors"), &names, &[]);
    let expected = VaeConfig::new(
        serde_json::from_str(&fs::read_to_string(committed.file("vae/config.json")).unwrap())
            .unwrap(),
    )
    .unwrap();
    for path in [
        pair.as_path(),
        &named("taesd_encoder.safetensors"),
        &whole,
        &alone,
    ] {
        let opened = opened(&model, &tiny(path)).unwrap();
        let config = ModelConfig::read(&opened).unwrap();
        assert_eq!(config.vae(), Some(&expected), "{}", path.display());
        afterimage::pipeline::check_weights(&opened, &config, &tested::device()).unwrap();
    }
    let message = |path: &Path| opened(&model, &tiny(path)).unwrap_err().to_string();
    fs::remove_file(named("taesd_encoder.safetensors")).unwrap();
    assert!(
        message(&pair).contains("its encoder is missing"),
        "{}",
        message(&pair)
    );
    let large = message(&model.join("vae"));
    assert!(large.contains("give a large one as `--vae`"), "{large}");
    let sixteen = opened(&model, &tiny(&committed.file("vae16"))).unwrap();
    let error = ModelConfig::read(&sixteen).unwrap_err().to_string();
    assert!(
        error.contains("`latent_channels`") && error.contains("another model family"),
        "{error}"
    );
}
