//! Class-conditional latent diffusion (LDM-4-G) against a reference in its published layout: `tests/fixtures/ldm/make.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use afterimage::cache::{CachePlan, CacheRule, Course, Forecast, Session};
use afterimage::catalog::ModelFolder;
use afterimage::denoise::{Denoise, Noise as _};
use afterimage::denoiser::{Blueprint, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::models::class_embedder::{ClassEmbedder, ClassEmbedderConfig};
use afterimage::models::unet::{Extent, UNet, UNet2DConditionModel, UNetCondition, UNetConfig};
use afterimage::models::vae::{Autoencoder, Tiling, VaeConfig, VaeJson};
use afterimage::pipeline::{ModelConfig, Pipeline, Request, SeededNoise, Seeds, Trace};
use afterimage::samplers::SamplerConfig;
use afterimage::weights::original::{Structure, split};
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::checkpoints::{list, sparse_checkpoint};
use crate::fixture::{Fixture, Reference, fixture, json, text};
use crate::golden::check_cells;
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::weights::folder;

/// Of the small model as of the published one but for the levels' widths.
const STRUCTURE: Structure = Structure {
    unet_layers: 2,
    vae_levels: 3,
    text_layers: 0,
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
        let condition = UNetCondition::new(context.on(&device));
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

/// A case as it is run.
struct Setting<'a> {
    call: &'a Value,
    sampler: String,
    rule: CacheRule,
}

impl<'a> Setting<'a> {
    fn new(fixture: &Fixture, case: &'a Value) -> Self {
        let rule = case["cache"]["rule"].as_str().unwrap_or("none");
        Self {
            call: &case["call"],
            sampler: fixture.scheduler(case["scheduler"].as_str().unwrap()),
            rule: rule.parse().unwrap(),
        }
    }

    fn number(&self, key: &str) -> usize {
        self.call[key].as_u64().unwrap() as usize
    }

    fn run(&self, model: &Model, trace: &mut Trace<'_>) -> (CachePlan, Tensor<4>) {
        let device = tested::device();
        let config = SamplerConfig::from_json(&self.sampler, "case".as_ref()).unwrap();
        let steps = self.number("num_inference_steps");
        let sampler = config.build(steps, 0.0).unwrap();
        let [height, width] = ["height", "width"].map(|side| self.number(side) / 4);
        let blueprint = model.unet.config().blueprint(Extent {
            height,
            width,
            tokens: 1,
        });
        let plan = self.rule.plan(&Course::steps(steps), &blueprint).unwrap();
        let labels = labels(&self.call["class_labels"]);
        let guidance = Guidance {
            scale: self.call["guidance_scale"].as_f64().unwrap(),
            ..Guidance::default()
        };
        let null = vec![model.classes.null_label(); labels.len()];
        let rows = guidance.rows(labels.len());
        let mut noise = SeededNoise::new(&Seeds::One(self.number("seed") as u64), &device);
        let latents = noise.draw([labels.len(), 3, height, width]);
        let context = model.embedder.forward(&guidance.pair(labels, null));
        let condition = UNetCondition::new(context);
        let run = model.unet.start(&condition, sampler.evaluations());
        let mut session = Session::new(&model.unet, &run, &plan, rows);
        let denoise = Denoise {
            sampler: sampler.as_ref(),
            plan: &plan,
            guidance,
            prior_noise: self.rule.noise,
            known: None,
        };
        let latents = denoise
            .run(&mut session, latents, &mut noise, trace)
            .unwrap();
        let forecast = plan.forecast(&blueprint, rows, size_of::<f32>());
        assert_eq!(session.account().cells, forecast.cells);
        assert_eq!(session.account().fallbacks, 0);
        drop(session);
        (plan, latents)
    }
}

#[test]
fn runs_agree_with_the_reference() {
    let (fixture, model) = (golden(), load());
    let (mut failures, mut count, mut worst) = (Vec::new(), 0, 0.0_f64);
    for case in fixture.cases().filter(|case| case["kind"] == "class2img") {
        match check_run(&fixture, case, &model) {
            Ok(difference) => worst = worst.max(difference),
            Err(error) => failures.push(format!("{}: {error}", case["id"])),
        }
        count += 1;
    }
    eprintln!("{count} runs, the worst is off by {worst:.1e} standard deviations");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 25);
}

/// Compares everything that a case holds; gives the largest difference in standard deviations.
fn check_run(fixture: &Fixture, case: &Value, model: &Model) -> Result<f64, String> {
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let (plan, latents) = Setting::new(fixture, case).run(model, &mut trace);
    check_plan(case, &plan);
    if let Some(times) = case["timesteps"].as_array() {
        let times: Vec<f64> = times.iter().map(|time| time.as_f64().unwrap()).collect();
        assert_eq!(trace.timesteps, times);
    }
    let mut worst = 0.0_f64;
    let mut check = |name: String, golden: &Reference, found: Tensor<4>| {
        let difference = golden.compare(found, tested::tolerance(F32_CPU));
        worst = worst.max(difference.map_err(|error| format!("{name}: {error}"))?);
        Ok::<_, String>(())
    };
    let reference = |key: &str| fixture.of(case, key).unwrap();
    for (kept, step) in labels(&case["kept_steps"]).into_iter().enumerate() {
        let rows = [
            ("noise_pred", &trace.predictions),
            ("latents", &trace.latents),
        ];
        for (key, found) in rows {
            if let Some(golden) = fixture.of(case, key) {
                let name = format!("{key}.{step}");
                check(name, &golden.row(kept), found[step].clone())?;
            }
        }
    }
    check("final".into(), &reference("final_latents"), latents.clone())?;
    if let Some(image) = fixture.of(case, "image") {
        let pixels = model
            .vae
            .decode(model.vae.from_denoiser(latents), Tiling::Never);
        let found = (pixels / 2.0 + 0.5).clamp(0.0, 1.0);
        check("image".into(), &image, found)?;
    }
    Ok(worst)
}

/// The rule, as text, refreshes where the reference did, and decodes in its batches.
fn check_plan(case: &Value, plan: &CachePlan) {
    let cache = &case["cache"];
    for key in ["full_steps", "key_steps"] {
        if cache[key].is_array() {
            let found = plan.refreshes().collect::<Vec<_>>();
            assert_eq!(found, labels(&cache[key]), "{}", case["id"]);
        }
    }
    if cache["decoder_batches"].is_array() {
        let found = plan.spans.iter().map(|span| span.len).collect::<Vec<_>>();
        assert_eq!(found, labels(&cache["decoder_batches"]), "{}", case["id"]);
    }
}

fn published() -> UNetConfig {
    let card = include_str!("../../models/cards/ldm-4-g/unet/config.json");
    UNetConfig::from_json(card).unwrap()
}

const EXTENT: Extent = Extent {
    height: 64,
    width: 64,
    tokens: 1,
};

const ROW: Rows = Rows {
    halves: 1,
    items: 1,
};

/// A run of 250 steps of `trunk` under `rule`, one row.
fn forecast(rule: &str, trunk: &Blueprint) -> Forecast {
    let rule: CacheRule = rule.parse().unwrap();
    let plan = rule.plan(&Course::steps(250), trunk).unwrap();
    plan.forecast(trunk, ROW, 2)
}

/// METHODS 1.5: all cells with attention's products and without, and a reuse step at skip 0.
#[test]
fn costs_are_the_published_ones() {
    let whole = published().blueprint(EXTENT);
    let lean = published().blueprint_without_products(EXTENT);
    let giga = |macs: u64| macs as f64 / 1e9;
    assert!((giga(whole.full_macs()) / 104.2 - 1.0).abs() < 0.005);
    assert!((giga(lean.full_macs()) / 99.82 - 1.0).abs() < 0.005);
    for trunk in [whole, lean] {
        let reuse = forecast("deepcache:interval=2", &trunk).evaluation_macs[1];
        assert!((giga(reuse) / 4.42 - 1.0).abs() < 0.005, "{reuse}");
    }
}

/// METHODS 2.10, the column of multiply-accumulates: a mean step of one sample, products of attention not counted.
#[test]
fn forecasts_of_deepcache_are_the_published_ones() {
    let lean = published().blueprint_without_products(EXTENT);
    for (interval, giga) in [
        (1, 99.82),
        (2, 52.12),
        (3, 36.48),
        (5, 23.50),
        (10, 13.97),
        (20, 9.39),
    ] {
        let rule = format!("deepcache:interval={interval}");
        let found = forecast(&rule, &lean).total_macs() as f64 / 250e9;
        assert!(
            (found / giga - 1.0).abs() < 0.01,
            "{interval}: {found}, published {giga}"
        );
    }
}

/// METHODS 3.10: at best 1.34 times as fast with the list of 48 keys, 1.41 times with that of 19.
#[test]
fn forecasts_of_propagation_are_the_published_ones() {
    let whole = published().blueprint(EXTENT);
    for (list, speedup) in [("ldm-48", 1.34), ("ldm-19", 1.41)] {
        let rule = format!("encoder-propagation:keys={list}");
        let found = forecast(&rule, &whole).speedup();
        assert!(
            (found - speedup).abs() < 0.01,
            "{list}: {found}, published {speedup}"
        );
    }
}

/// Names and shapes as a linear layer has them where the file keeps the 1x1 convolution that it is.
fn linear((name, mut shape): (String, Vec<usize>)) -> (String, Vec<usize>) {
    if name.ends_with("proj_in.weight") || name.ends_with("proj_out.weight") {
        shape.truncate(2);
    }
    (name, shape)
}

/// A file of the published size is recognised, and every tensor has its place in the networks that the card describes.
#[test]
#[cfg(unix)]
fn the_published_checkpoint_has_its_card_and_its_parts() {
    let mut tensors = list("original/ldm4g-cin256-v2.unet.ldm.tsv");
    tensors.extend(list("original/ldm4g-cin256-v2.first_stage.ldm.tsv"));
    let classes = (
        "cond_stage_model.embedding.weight".to_owned(),
        vec![1001, 512],
    );
    tensors.extend([
        classes,
        ("first_stage_model.loss.logvar".to_owned(), vec![1]),
    ]);
    let temporary = folder();
    let path = sparse_checkpoint(temporary.path(), &tensors);
    let model = ModelFolder::open(path.to_str().unwrap()).unwrap();
    assert_eq!(model.card(), Some("ldm-4-g"));
    assert_eq!(model.leftovers(), ["first_stage_model.loss.logvar"]);
    let device = tested::device();
    let embedder = model.read_json("class_embedder/config.json").unwrap();
    let embedder = ClassEmbedderConfig::from_json(&embedder).unwrap();
    let vae = VaeConfig::new(model.read_config("vae/config.json").unwrap()).unwrap();
    let expected = BTreeMap::from([
        (
            "class_embedder",
            shapes(&ClassEmbedder::new(embedder, &device)),
        ),
        (
            "unet",
            shapes(&UNet2DConditionModel::new(&published(), &device)),
        ),
        ("vae", shapes(&Autoencoder::new(vae, &device))),
    ]);
    for (part, expected) in expected {
        let source = model.weights(part).unwrap();
        let found = source
            .names()
            .map(|name| (name.to_owned(), source.shape(name).unwrap()));
        let found: BTreeSet<_> = found.map(linear).collect();
        assert_eq!(found, expected.into_iter().collect(), "{part}");
    }
}

/// Classes of another number or width, or latents of another kind, are another model.
#[test]
#[cfg(unix)]
fn other_class_conditional_checkpoints_are_refused() {
    let classes = "cond_stage_model.embedding.weight".to_owned();
    let input = "model.diffusion_model.input_blocks.0.0.weight".to_owned();
    for (shape, channels) in [(vec![11, 8], 3), (vec![1001, 512], 4)] {
        let temporary = folder();
        let tensors = [
            (classes.clone(), shape),
            (input.clone(), vec![192, channels, 3, 3]),
        ];
        let path = sparse_checkpoint(temporary.path(), &tensors);
        let error = ModelFolder::open(path.to_str().unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(error.is_config() && text.contains("class tokens"), "{text}");
    }
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
        let latents = fixture.of(case, "final_latents").unwrap();
        let outcome = latents.compare(made.latents, tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("{id}: {error}"));
        if let Some(image) = fixture.of(case, "image") {
            let outcome = image.compare(made.images, tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("{id}, image: {error}"));
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
