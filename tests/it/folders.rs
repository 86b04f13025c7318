//! Folders as people have them: of other ages, under other names, half downloaded.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use afterimage::{
    catalog::{ModelFolder, Overrides},
    noise::Prediction,
    pipeline::{Canvas, ModelConfig, Pipeline, Request, check_weights},
};
use burn::tensor::{DType, Device};
use serde_json::{Value, json};

use crate::catalog::{open, toy_folder, written};
use crate::fixture::Fixture;
use crate::weights::{counting, folder};

/// A copy of a fixture's model.
pub(crate) fn copied(name: &str) -> tempfile::TempDir {
    let folder = folder();
    copy(&Fixture::best(name).model(), folder.path());
    folder
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::write(to, fs::read(path).unwrap()).unwrap();
        }
    }
}

/// Sets keys of a JSON file; null takes one out.
pub(crate) fn edited(folder: &Path, file: &str, keys: Value) {
    let path = folder.join(file);
    // Ends that Python writes as no JSON has them are silent.
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("-Infinity", "null");
    let mut value: Value = serde_json::from_str(&text).unwrap();
    let object = value.as_object_mut().unwrap();
    for (key, new) in keys.as_object().unwrap() {
        if new.is_null() {
            object.remove(key);
        } else {
            object.insert(key.clone(), new.clone());
        }
    }
    fs::write(path, value.to_string()).unwrap();
}

fn config(folder: &Path) -> Result<ModelConfig, afterimage::Error> {
    ModelConfig::read(&open(folder)?)
}

fn sides(folder: &Path) -> [usize; 2] {
    let Canvas { sides, .. } = config(folder).unwrap().canvas();
    sides
}

#[test]
fn sizes_of_old_conversions_and_pairs_are_those_of_diffusers() {
    let folder = copied("sd15");
    let unet = "unet/config.json";
    let old = json!({"sample_size": 32, "_diffusers_version": "0.6.0"});
    edited(folder.path(), unet, old);
    assert_eq!(sides(folder.path()), [64, 64]);
    edited(folder.path(), unet, json!({"_diffusers_version": "0.9.0"}));
    assert_eq!(sides(folder.path()), [32, 32]);
    edited(folder.path(), unet, json!({"sample_size": [16, 24]}));
    assert_eq!(sides(folder.path()), [16, 24]);
    let request = Request::new("a cat");
    let resolved = request.resolve(&config(folder.path()).unwrap()).unwrap();
    assert_eq!(resolved.latent_shape, [1, 4, 16, 24]);
    edited(
        folder.path(),
        "vae/config.json",
        json!({"sample_size": [512, 512]}),
    );
    assert!(config(folder.path()).is_ok());
}

/// SDXL's pipelines repair nothing.
#[test]
fn sizes_of_sdxl_stay() {
    let folder = copied("sdxl");
    let old = json!({"sample_size": 32, "_diffusers_version": "0.6.0"});
    edited(folder.path(), "unet/config.json", old);
    assert_eq!(sides(folder.path()), [32, 32]);
}

#[test]
fn classes_of_the_same_kind_are_read_and_others_are_named() {
    let folder = copied("sd15");
    let index = "model_index.json";
    for class in [
        json!("StableDiffusionInpaintPipelineLegacy"),
        json!("FlaxStableDiffusionPipeline"),
        json!("SomebodysPipeline"),
        json!(["pipeline_own", "OwnPipeline"]),
    ] {
        edited(folder.path(), index, json!({"_class_name": class}));
        assert!(config(folder.path()).unwrap().reads_text(), "{class}");
    }
    edited(
        folder.path(),
        index,
        json!({"_class_name": "AltDiffusionPipeline", "text_encoder": ["alt", "RobertaSeriesModelWithTransformation"]}),
    );
    let text = config(folder.path()).unwrap_err().to_string();
    assert!(
        text.starts_with("`_class_name` is `AltDiffusionPipeline`"),
        "{text}"
    );
    assert!(
        text.contains("its `text_encoder` is a `RobertaSeriesModelWithTransformation`"),
        "{text}"
    );
    edited(
        folder.path(),
        index,
        json!({"unet": null, "text_encoder": null, "_class_name": "StableCascadeDecoderPipeline"}),
    );
    let flux = copied("flux-schnell");
    edited(
        flux.path(),
        index,
        json!({"_class_name": "FluxKontextPipeline"}),
    );
    let text = config(flux.path()).unwrap_err().to_string();
    assert!(
        text.contains("`StableDiffusion3Pipeline`, `FluxPipeline`"),
        "{text}"
    );
    let text = config(folder.path()).unwrap_err().to_string();
    assert!(
        text.starts_with("`_class_name` is `StableCascadeDecoderPipeline`"),
        "{text}"
    );
    assert!(
        text.contains("built are pipelines of Stable Diffusion"),
        "{text}"
    );
}

/// The class in the index decides whether a text encoder projects, as in diffusers.
#[test]
fn a_silent_text_encoder_is_of_the_class_that_the_index_names() {
    let folder = copied("sdxl");
    for part in ["text_encoder", "text_encoder_2"] {
        let silent = json!({"architectures": null});
        edited(folder.path(), &format!("{part}/config.json"), silent);
    }
    let config = config(folder.path()).unwrap();
    let encoders = &config.texts().unwrap().encoders;
    let projections = encoders
        .iter()
        .map(|encoder| encoder.clip.projection.is_some());
    assert_eq!(projections.collect::<Vec<_>>(), [false, true]);
}

/// A folder is for diffusers' pipeline, which guides all channels; the original file for the published program, which guides three.
#[test]
fn guided_channels_follow_the_layout() {
    for (name, channels) in [
        ("DiT-XL-2-256", 4),
        ("DiT-XL-2-256x256", 3),
        ("DiT-XL-2-512x512", 3),
    ] {
        let config = ModelConfig::read(&ModelFolder::open(name).unwrap()).unwrap();
        let resolved = Request::of_classes([1]).resolve(&config).unwrap();
        assert_eq!(resolved.guidance.channels.unwrap_or(4), channels, "{name}");
    }
}

#[test]
fn the_only_variant_is_read_and_several_are_ranked() {
    let folder = toy_folder();
    let unet = folder.path().join("unet");
    let named = |name: &str| unet.join(format!("diffusion_pytorch_model{name}"));
    let width = || {
        open(folder.path())
            .unwrap()
            .weights("unet")
            .map(|source| source.shape("u"))
    };
    fs::remove_file(named(".safetensors")).unwrap();
    for (at, variant) in ["odd", "non_ema", "bf16", "fp16", "ema"]
        .into_iter()
        .enumerate()
    {
        let bytes = counting(&[("u", &[at + 1])]);
        fs::write(named(&format!(".{variant}.safetensors")), bytes).unwrap();
        assert_eq!(width().unwrap(), Some(vec![at + 1]), "{variant}");
    }
}

#[test]
fn shards_of_a_variant_are_read() {
    let folder = toy_folder();
    let unet = folder.path().join("unet");
    fs::remove_file(unet.join("diffusion_pytorch_model.safetensors")).unwrap();
    for (index, shard) in [
        (
            "diffusion_pytorch_model.safetensors.index.bf16.json",
            "diffusion_pytorch_model.bf16-00001-of-00001.safetensors",
        ),
        (
            "diffusion_pytorch_model.non_ema.safetensors.index.json",
            "diffusion_pytorch_model-00001-of-00001.non_ema.safetensors",
        ),
    ] {
        fs::write(unet.join(shard), counting(&[("u", &[7])])).unwrap();
        fs::write(
            unet.join(index),
            json!({"weight_map": {"u": shard}}).to_string(),
        )
        .unwrap();
        let source = open(folder.path()).unwrap().weights("unet").unwrap();
        assert_eq!(source.shape("u"), Some(vec![7]));
        fs::remove_file(unet.join(index)).unwrap();
        let text = open(folder.path())
            .unwrap()
            .weights("unet")
            .unwrap_err()
            .to_string();
        assert!(text.contains("the folder `unet` holds"), "{text}");
        assert!(text.contains(shard), "{text}");
    }
}

/// Clones without Git LFS, and downloads that were answered with a page.
#[test]
fn pointers_and_pages_in_place_of_files_are_told() {
    const POINTER: &str =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a4d7a\nsize 3438167534\n";
    const PAGE: &str = "<!DOCTYPE html>\n<html><body>not found</body></html>";
    let files = [
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "model_index.json",
    ];
    for file in files {
        for (content, said) in [
            (
                POINTER,
                "a Git LFS pointer, not the file itself, which has 3438167534 bytes",
            ),
            (PAGE, "a page of the web"),
        ] {
            let folder = copied("sd15");
            if file.starts_with("unet/diffusion") {
                fs::remove_file(folder.path().join(files[0])).unwrap();
            }
            written(folder.path(), file, content.as_bytes());
            let model = open(folder.path());
            let loaded =
                model.and_then(|model| Pipeline::load(&model, &Device::flex(), DType::F32));
            let error = loaded.unwrap_err();
            assert!(error.is_weights(), "{file}: {error}");
            let text = error.to_string();
            assert!(text.contains(said), "{file}: {text}");
            assert!(
                text.ends_with(
                    &PathBuf::from(file)
                        .file_name()
                        .unwrap()
                        .to_string_lossy()
                        .into_owned()
                ),
                "{text}"
            );
        }
    }
}

/// A copy of the Hub's cache without what its links lead to.
#[test]
#[cfg(unix)]
fn links_that_lead_to_nothing_are_told() {
    for file in [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    ] {
        let folder = copied("sd15");
        let path = folder.path().join(file);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("../../../blobs/4d7a", &path).unwrap();
        let model = open(folder.path());
        let loaded = model.and_then(|model| Pipeline::load(&model, &Device::flex(), DType::F32));
        let text = loaded.unwrap_err().to_string();
        let said = format!(
            "`{}` is a link to `../../../blobs/4d7a`, which is not there",
            path.display()
        );
        assert!(text.contains(&said), "{file}: {text}");
    }
    let folder = folder();
    let path = folder.path().join("m.safetensors");
    std::os::unix::fs::symlink("gone", &path).unwrap();
    let text = open(&path).unwrap_err().to_string();
    assert!(text.contains("is a link to `gone`"), "{text}");
    // What cannot be looked at may well be there.
    fs::write(folder.path().join("file"), "").unwrap();
    let inside = folder.path().join("file/m.safetensors");
    let text = open(&inside).unwrap_err().to_string();
    assert!(text.starts_with("cannot read the model: "), "{text}");
}

/// What node programs save beside T5 is left out, and what stands in front of all names of a part is taken off.
#[test]
fn parts_as_node_programs_save_them_are_read() {
    let folder = copied("flux-schnell");
    let path = folder.path().join("text_encoder_2/model.safetensors");
    let source = afterimage::weights::WeightSource::open(&path).unwrap();
    let fronted = source.names().map(|name| {
        let shape = source.shape(name).unwrap();
        (format!("text_encoders.t5xxl.transformer.{name}"), shape)
    });
    let mut tensors: Vec<_> = fronted.collect();
    let fits = |tensors: &[(String, Vec<usize>)]| {
        let named = tensors
            .iter()
            .map(|(name, shape)| (name.as_str(), &shape[..]));
        fs::write(&path, counting(&named.collect::<Vec<_>>())).unwrap();
        let model = open(folder.path()).unwrap();
        check_weights(&model, &ModelConfig::read(&model).unwrap(), &Device::flex())
    };
    fits(&tensors).unwrap();
    for (name, _) in &mut tensors {
        *name = name.replace("text_encoders.t5xxl.transformer.", "");
    }
    for beside in ["logit_scale", "spiece_model"] {
        tensors.push((beside.to_owned(), vec![1]));
    }
    fits(&tensors).unwrap();
    tensors.push(("stranger".to_owned(), vec![1]));
    let text = fits(&tensors).unwrap_err().to_string();
    assert!(text.contains("`stranger`"), "{text}");
}

/// `PixArt`-LCM has the sampler of what it was distilled as.
#[test]
fn transformers_for_few_steps_are_known_by_their_sampler() {
    let folder = copied("pixart-sigma");
    let silent = |folder: &Path| {
        let run = Request::new("a fox")
            .resolve(&config(folder).unwrap())
            .unwrap();
        (run.steps, run.guidance.asked())
    };
    assert_eq!(silent(folder.path()), (20, 4.5));
    let class = json!({"_class_name": "LCMScheduler"});
    edited(folder.path(), "scheduler/scheduler_config.json", class);
    let index = json!({"scheduler": ["diffusers", "LCMScheduler"]});
    edited(folder.path(), "model_index.json", index);
    assert_eq!(silent(folder.path()), (4, 1.0));
}

/// A caller's word does what the key in the folder's configuration would.
#[test]
fn a_prediction_that_is_asked_for_is_that_of_the_configuration() {
    let folder = copied("sd15");
    let request = Request {
        steps: Some(1),
        guidance_scale: Some(1.0),
        ..Request::new("a cat")
    };
    let made = |prediction: Option<Prediction>| {
        let overrides = Overrides {
            prediction,
            ..Overrides::default()
        };
        let name = folder.path().to_str().unwrap();
        let model = ModelFolder::open_with(name, &overrides, &mut ()).unwrap();
        let pipeline = Pipeline::load(&model, &Device::flex(), DType::F32).unwrap();
        let made = pipeline.generate(&request, &mut ()).unwrap();
        made.images.into_data()
    };
    let (plain, asked) = (made(None), made(Some(Prediction::Velocity)));
    let key = json!({"prediction_type": "v_prediction"});
    edited(folder.path(), "scheduler/scheduler_config.json", key);
    made(None).assert_eq(&asked, true);
    made(Some(Prediction::Epsilon)).assert_eq(&plain, true);
    assert_ne!(plain.as_bytes(), asked.as_bytes());
}

/// What does not fit in the last part is found before the first is read: its weights are of a type that reading refuses.
#[test]
fn parts_are_checked_before_any_is_read() {
    let folder = copied("sd15");
    let text_encoder = folder.path().join("text_encoder");
    for entry in fs::read_dir(&text_encoder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|ending| ending == "safetensors")
        {
            let length = fs::metadata(&path).unwrap().len();
            let bytes = fs::read(&path).unwrap();
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut head = bytes[..header].to_vec();
            let text = String::from_utf8(head.split_off(8))
                .unwrap()
                .replace("F32", "I32")
                .replace("F16", "I16");
            head.extend(text.into_bytes());
            head.resize(length as usize, 0);
            fs::write(path, head).unwrap();
        }
    }
    let error = |folder: &Path| {
        let loaded = Pipeline::load(&open(folder).unwrap(), &Device::flex(), DType::F32);
        loaded.unwrap_err().to_string()
    };
    let first = error(folder.path());
    assert!(
        first.contains("which is not supported") || first.contains("holds"),
        "{first}"
    );
    edited(
        folder.path(),
        "vae/config.json",
        json!({"layers_per_block": 3}),
    );
    let text = error(folder.path());
    assert!(
        text.starts_with("the weights of `vae` do not fit its config"),
        "{text}"
    );
    fs::remove_dir_all(folder.path().join("vae")).unwrap();
    written(folder.path(), "vae/config.json", b"{\"block_out_channels\": [32, 64, 64, 64], \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"], \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}");
    let text = error(folder.path());
    assert!(text.contains("has no weights for `vae`"), "{text}");
}
