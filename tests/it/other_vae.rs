//! `--vae`: an autoencoder in place of a model's own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use afterimage::{
    catalog::{ModelFolder, Overrides},
    pipeline::{ModelConfig, Pipeline, Request, Seeds, check_weights},
};
use burn::tensor::{DType, Device};

use crate::checkpoint_words::{Tensors, family, opened};
use crate::checkpoints::{STATES, first_checkpoint, list, sparse_file};
use crate::fixture::Fixture;
use crate::folders::{copied, edited};
use crate::weights::folder;

fn with_vae(path: &Path) -> Overrides {
    Overrides {
        vae: Some(path.to_str().unwrap().to_owned()),
        ..Overrides::default()
    }
}

/// An autoencoder of its own, in every layout that there is.
#[test]
fn an_autoencoder_takes_the_place_of_a_missing_one() {
    let folder = folder();
    let named = |name: &str| folder.path().join(name);
    let kept = |(name, _): &(String, Vec<usize>)| !name.starts_with("first_stage_model.");
    let bare: Tensors = first_checkpoint().into_iter().filter(kept).collect();
    let model = sparse_file(&named("m.safetensors"), &bare, &[]);
    let original = list("original/sd15.vae.ldm.tsv");
    let stripped = original.iter().map(|(name, shape)| {
        let name = name.strip_prefix("first_stage_model.").unwrap();
        (name.to_owned(), shape.clone())
    });
    let mut stripped: Tensors = stripped.collect();
    stripped.push(("loss.logvar".to_owned(), vec![]));
    stripped.push(("model_ema.decay".to_owned(), vec![]));
    for (name, tensors) in [
        ("prefixed.safetensors", &original),
        ("bare.safetensors", &stripped),
        ("diffusers.safetensors", &list("diffusers/sd15.vae.tsv")),
    ] {
        let vae = sparse_file(&named(name), tensors, &[]);
        let model = opened(&model, &with_vae(&vae)).unwrap();
        let config = ModelConfig::read(&model).unwrap();
        check_weights(&model, &config, &Device::flex()).unwrap();
        assert_eq!(model.other_vae(), vae.to_str());
    }
    let part = named("part");
    fs::create_dir_all(&part).unwrap();
    let card = ModelFolder::open("stable-diffusion-v1-5").unwrap();
    fs::write(
        part.join("config.json"),
        card.read_json("vae/config.json").unwrap(),
    )
    .unwrap();
    sparse_file(
        &part.join("diffusion_pytorch_model.safetensors"),
        &list("diffusers/sd15.vae.tsv"),
        &[],
    );
    let model = opened(&model, &with_vae(&part)).unwrap();
    let config = ModelConfig::read(&model).unwrap();
    check_weights(&model, &config, &Device::flex()).unwrap();
}

/// The autoencoders of Stable Diffusion and SDXL have the same shapes: the scale of their latents is what tells them apart.
#[test]
fn an_autoencoder_of_another_scale_is_told() {
    let (own, other) = (Fixture::best("sd15").model(), copied("sd15"));
    let warned = || {
        let model = opened(&own, &with_vae(other.path())).unwrap();
        model.warnings().concat()
    };
    assert_eq!(warned(), "");
    let config = "vae/config.json";
    edited(
        other.path(),
        config,
        serde_json::json!({"scaling_factor": 0.13025}),
    );
    let said = "scales latents by 0.13025, the model's own by 0.18215";
    assert!(warned().contains(said), "{}", warned());
    edited(
        other.path(),
        config,
        serde_json::json!({"scaling_factor": null}),
    );
    assert_eq!(warned(), "");
}

#[test]
fn an_autoencoder_of_another_family_is_refused_by_its_header() {
    let folder = folder();
    let model = sparse_file(
        &folder.path().join("m.safetensors"),
        &first_checkpoint(),
        &[],
    );
    let widened = list("diffusers/sd15.vae.tsv")
        .into_iter()
        .map(|(name, mut shape)| {
            if name == "decoder.conv_in.weight" {
                shape[1] = 16;
            }
            (name, shape)
        });
    let vae = sparse_file(
        &folder.path().join("v.safetensors"),
        &widened.collect::<Vec<_>>(),
        &[],
    );
    let model_of = |vae: &Path| opened(&model, &with_vae(vae));
    let text = ModelConfig::read(&model_of(&vae).unwrap())
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("`latent_channels` is `16`"), "{text}");
    assert!(
        text.contains("is for another model family: the denoiser takes 4 channels in"),
        "{text}"
    );
    let other = sparse_file(
        &folder.path().join("o.safetensors"),
        &family(STATES, 768),
        &[],
    );
    let text = model_of(&other).unwrap_err().to_string();
    assert!(
        text.contains("hint: is this an autoencoder's file?"),
        "{text}"
    );
    assert!(
        model_of(&folder.path().join("nothing"))
            .unwrap_err()
            .is_file()
    );
    let pixels = Overrides {
        vae: Some("x".into()),
        ..Overrides::default()
    };
    let text = ModelFolder::open_configs_with("ddpm-cifar10-32", &pixels)
        .unwrap_err()
        .to_string();
    assert!(text.contains("has no autoencoder"), "{text}");
}

/// The same autoencoder from elsewhere makes the same pictures, another one others; a folder may be the part's or a whole model's.
#[test]
fn pictures_are_those_of_the_autoencoder_that_is_named() {
    let fixture = Fixture::best("sd15");
    let own = fixture.model();
    let request = Request {
        seeds: Seeds::One(3),
        steps: Some(1),
        guidance_scale: Some(1.0),
        ..Request::new("a cat")
    };
    let made = |vae: Option<&Path>| {
        let overrides = vae.map_or_else(Overrides::default, with_vae);
        let model = opened(&own, &overrides).unwrap();
        let pipeline = Pipeline::load(&model, &Device::flex(), DType::F32).unwrap();
        let made = pipeline.generate(&request, &mut ()).unwrap();
        (made.images.into_data(), model.weights_hash().unwrap())
    };
    let (plain, hash) = made(None);
    for vae in [
        own.clone(),
        own.join("vae"),
        own.join("vae/diffusion_pytorch_model.safetensors"),
    ] {
        let (same, other) = made(Some(&vae));
        same.assert_eq(&plain, true);
        assert_eq!(other, hash);
    }
    let (other, other_hash) = made(Some(&Fixture::best("sd21").model().join("vae")));
    assert_ne!(other.as_bytes(), plain.as_bytes());
    assert_ne!(other_hash, hash);
}
