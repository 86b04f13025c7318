//! Class-conditional latent diffusion (LDM-4-G) against a reference in its published layout: `tests/fixtures/ldm/make.py`.

mod published;
mod runs;

use std::fs;
use std::path::Path;

use afterimage::catalog::ModelFolder;
use afterimage::conditioning::Conditioning;
use afterimage::models::class_embedder::{ClassEmbedder, ClassEmbedderConfig};
use afterimage::models::unet::{UNet, UNet2DConditionModel, UNetConfig};
use afterimage::models::vae::{Autoencoder, Tiling, VaeConfig, VaeJson};
use afterimage::pipeline::{ModelConfig, Pipeline, Request, Seeds};
use afterimage::weights::original::{Structure, split};
use afterimage::weights::{WeightSource, load_strict};
use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::fixture::{Fixture, fixture, json, text};
use crate::golden::check_cells;
use crate::parity::{Comparison, Part, Way};
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::weights::folder;

/// Of the small model as of the published one but for the levels' widths.
const STRUCTURE: Structure = Structure {
    unet_layers: 2,
    vae_levels: 3,
    text_layers: 0,
    second_text: false,
    over_frames: false,
};

/// The small model, from a checkpoint in the original layout.
struct Model {
    classes: ClassEmbedderConfig,
    embedder: ClassEmbedder,
    unet: UNet,
    vae: Autoencoder,
}

fn load() -> Model {
    let device = tested::device();
    let source = WeightSource::open(fixture("ldm/original.safetensors")).unwrap();
    let mut split = split(&source, &STRUCTURE).unwrap();
    let leftovers = ["alphas_cumprod", "betas", "model_ema.num_updates"];
    assert_eq!(split.leftovers, leftovers);
    let mut part = |name: &str| split.parts.remove(name).unwrap();
    let config = |part: &str| text(fixture("ldm/model").join(part).join("config.json"));
    let classes = ClassEmbedderConfig::from_json(&config("class_embedder")).unwrap();
    let embedder = ClassEmbedder::new(classes, &device);
    let unet = UNetConfig::from_json(&config("unet")).unwrap();
    let network = UNet2DConditionModel::new(&unet, &device);
    let network = load_strict(network, &part("unet"), "unet", tested::dtype()).unwrap();
    let vae = json::<VaeJson>(fixture("ldm/model/vae/config.json"));
    let vae = Autoencoder::new(VaeConfig::new(vae).unwrap(), &device);
    let tokens = part("class_embedder");
    let model = Model {
        classes,
        embedder: load_strict(embedder, &tokens, "class_embedder", tested::dtype()).unwrap(),
        unet: UNet::new(unet, network),
        vae: load_strict(vae, &part("vae"), "vae", tested::dtype()).unwrap(),
    };
    assert!(split.parts.is_empty());
    model
}

fn golden() -> Fixture {
    Fixture::committed("ldm")
}

fn labels(values: &Value) -> Vec<usize> {
    serde_json::from_value(values.clone()).unwrap()
}

#[test]
fn cells_agree_with_the_reference() {
    let (fixture, model, device) = (golden(), load(), tested::device());
    let traces = fixture.cases().filter(|case| case["kind"] == "unet_trace");
    for case in traces {
        let labels = fixture.of(case, "class_labels").unwrap().values;
        let labels = labels
            .iter()
            .map(|&label| label as usize)
            .collect::<Vec<_>>();
        let context = fixture.of(case, "encoder_hidden_states").unwrap();
        let outcome = context.compare(model.embedder.forward(&labels), 0.0);
        outcome.unwrap_or_else(|error| panic!("context: {error}"));
        let condition = Conditioning::of_context(context.on(&device));
        check_cells(&fixture, case, &model.unet, &condition, &device)
            .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
    }
}

#[test]
fn the_autoencoder_encodes_quantises_and_decodes() {
    let (fixture, model, device) = (golden(), load(), tested::device());
    let case = fixture.case("vq");
    let reference = |key: &str| fixture.of(case, key).unwrap();
    let check = |key: &str, found: Tensor<4>| {
        let outcome = reference(key).compare(found, tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("{key}: {error}"));
    };
    let moments = model
        .vae
        .encode(reference("pixels").on(&device), Tiling::Never);
    let latents = reference("latents").on(&device);
    check("latents", moments.sample(Tensor::ones_like(&latents)));
    check("quantised", model.vae.quantise(latents.clone()));
    check("decoded", model.vae.decode(latents.clone(), Tiling::Never));
    // Decoding rounds by itself: rounding before changes nothing, and other latents of the same codes are the same picture.
    let rounded = model.vae.quantise(latents);
    check("decoded", model.vae.decode(rounded, Tiling::Never));
}

/// The small model as a folder in diffusers layout, from its original file.
pub(crate) fn assembled() -> tempfile::TempDir {
    let folder = folder();
    let source = WeightSource::open(fixture("ldm/original.safetensors")).unwrap();
    for (part, source) in split(&source, &STRUCTURE).unwrap().parts {
        copied(&folder, &format!("{part}/config.json"));
        let path = folder.path().join(part).join("model.safetensors");
        save(&source, &path);
    }
    for file in [
        "model_index.json",
        "afterimage.json",
        "scheduler/scheduler_config.json",
    ] {
        copied(&folder, file);
    }
    folder
}

fn copied(folder: &tempfile::TempDir, file: &str) {
    let target = folder.path().join(file);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(fixture("ldm/model").join(file), target).unwrap();
}

/// Writes a part as f32.
fn save(source: &WeightSource, path: &Path) {
    let read = |name: &str| {
        let data = source.read(name).unwrap().convert::<f32>();
        (name.to_owned(), data)
    };
    let tensors = source.names().map(read).collect::<Vec<_>>();
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes());
        (name, view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A folder through the pipeline makes the pictures of the reference, with the defaults that it names: 250 steps, scale 1.5.
#[test]
fn the_pipeline_makes_the_pictures_of_the_reference() {
    let (fixture, folder, device) = (golden(), assembled(), tested::device());
    let folder = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
    let pipeline = Pipeline::load(&folder, &device, tested::dtype()).unwrap();
    for id in [
        "ddim",
        "ddim.deepcache_power_n20",
        "ddim.fd_48_noise.parallel4",
    ] {
        let case = fixture.case(id);
        let rule = case["cache"]["rule"].as_str().unwrap_or("none");
        let request = Request {
            seeds: Seeds::One(case["call"]["seed"].as_u64().unwrap()),
            cache: rule.parse().unwrap(),
            ..Request::of_classes(labels(&case["call"]["class_labels"]))
        };
        let made = pipeline.generate(&request, &mut ()).unwrap();
        let mut comparison = Comparison::new(&fixture, case, Way::Free);
        let latents = fixture.of(case, "final_latents").unwrap();
        let outcome = comparison.check(Part::Latents, "final", &latents, made.latents);
        outcome.unwrap_or_else(|error| panic!("{id}: {error}"));
        if let Some(image) = fixture.of(case, "image") {
            let outcome = comparison.check(Part::Picture, "image", &image, made.images);
            outcome.unwrap_or_else(|error| panic!("{id}: {error}"));
        }
    }
    let beyond = Request::of_classes([10]);
    let error = pipeline.generate(&beyond, &mut ()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("there is no class 10\n"), "{text}");
}

/// Parts that do not fit each other are refused before any weight is read.
#[test]
fn a_context_of_another_width_is_refused() {
    let folder = assembled();
    let config = r#"{"num_classes":11,"embedding_dim":9}"#;
    fs::write(folder.path().join("class_embedder/config.json"), config).unwrap();
    let model = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
    let text = ModelConfig::read(&model).unwrap_err().to_string();
    assert!(text.starts_with("`cross_attention_dim` is `8`"), "{text}");
    assert!(text.contains("`embedding_dim` is 9"), "{text}");
}
