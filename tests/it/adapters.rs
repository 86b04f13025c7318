//! `LoRA` and its kin, embeddings, Custom Diffusion: against diffusers, and how they are put on and taken off.

use afterimage::cache::CacheRule;
use afterimage::catalog::ModelFolder;
use afterimage::models::unet::UNet2DConditionModel;
use afterimage::pipeline::Request;
use afterimage::pipeline::{Adapters, ModelConfig, Pipeline, Residency};
use afterimage::text::Embedding;
use afterimage::weights::adapt::{CustomDiffusion, Lora, Merge, Parameters};
use afterimage::weights::shapes;
use burn::tensor::{DType, Device};
use serde_json::Value;

use crate::adapter_files::{made, pair, source};
use crate::fixture::{Fixture, fixture, shared, text};
use crate::golden::check_run;

pub(crate) fn sd15() -> ModelFolder {
    ModelFolder::open(fixture("sd15/model").to_str().unwrap()).unwrap()
}

pub(crate) fn load(folder: &ModelFolder, adapters: &Adapters) -> Pipeline {
    Pipeline::load_with(folder, &Device::flex(), DType::F32, adapters).unwrap()
}

pub(crate) fn latents(pipeline: &Pipeline, prompt: &str, rule: CacheRule) -> Vec<f32> {
    let request = Request {
        steps: Some(3),
        cache: rule,
        ..Request::new(prompt)
    };
    let generated = pipeline.generate(&request, &mut ()).unwrap();
    generated.latents.into_data().iter::<f32>().collect()
}

/// The adapters of a case.
fn adapters(fixture: &Fixture, case: &Value) -> Adapters {
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let scales = case["lora"]["scales"].as_array().into_iter().flatten();
    let files = texts(&case["lora"]["files"]);
    let lora = |(file, scale): (&String, &Value)| {
        let lora = Lora::open(fixture.file(file)).unwrap();
        lora.with_scale(scale.as_f64().unwrap())
    };
    let of_case = texts(&case["textual_inversion"]).into_iter();
    let words = of_case.map(|file| Embedding::open(fixture.file(&file), None));
    let of_all = fixture.said("files").as_array().into_iter().flatten();
    let of_all = of_all.map(|entry| {
        let path = fixture.file(entry["file"].as_str().unwrap());
        Embedding::open(path, entry["token"].as_str())
    });
    let custom = case["custom_diffusion"].as_str();
    Adapters {
        loras: files.iter().zip(scales).map(lora).collect(),
        embeddings: words.chain(of_all).map(Result::unwrap).collect(),
        custom_diffusions: custom
            .map(|file| CustomDiffusion::open(fixture.file(file)).unwrap())
            .into_iter()
            .collect(),
    }
}

pub(crate) fn parameters(config: &ModelConfig) -> Vec<Parameters> {
    let device = Device::flex();
    let unet = UNet2DConditionModel::new(config.unet().unwrap(), &device);
    let mut parameters = vec![Parameters::new("unet", shapes(&unet))];
    for encoder in &config.texts().unwrap().encoders {
        let model = afterimage::models::clip::ClipTextModel::new(&encoder.clip, &device);
        parameters.push(Parameters::new(encoder.part, shapes(&model)));
    }
    parameters
}

/// Weights as they become, against those of the reference; gives how many there are.
pub(crate) fn check_merged(fixture: &Fixture, case: &Value) -> usize {
    let folder = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    let parameters = parameters(&ModelConfig::read(&folder).unwrap());
    let merge = Merge::resolve(&parameters, &adapters(fixture, case).loras, &[]).unwrap();
    let tensors = case["tensors"].as_object().unwrap();
    let probes = tensors.iter().filter_map(|(key, name)| {
        let (part, layer) = key.strip_prefix("merged.")?.split_once('.')?;
        let part = if part == "te" { "text_encoder" } else { part };
        Some((part, format!("{layer}.weight"), name.as_str().unwrap()))
    });
    let probes: Vec<_> = probes.collect();
    for (part, name, golden) in &probes {
        let golden = fixture.tensor(golden);
        let data = merge
            .of(part)
            .read(name, &folder.weights(part).unwrap())
            .unwrap();
        let values: Vec<f32> = data.iter().collect();
        assert_eq!(values.len(), golden.values.len(), "{name}");
        let spread = golden
            .values
            .iter()
            .map(|value| value.abs())
            .fold(0.0, f32::max);
        for (value, expected) in values.iter().zip(&golden.values) {
            assert!(
                (value - expected).abs() <= 1e-6 * spread,
                "{name}: {value} for {expected}"
            );
        }
    }
    probes.len()
}

fn check_all(fixture: &Fixture, least: usize) {
    let folder = ModelFolder::open(fixture.model().to_str().unwrap()).unwrap();
    let (mut count, mut worst) = (0, 0.0_f64);
    for case in fixture.cases() {
        count += check_merged(fixture, case);
        if case["kind"] == "merged" {
            continue;
        }
        let mut pipeline = load(&folder, &adapters(fixture, case));
        let outcome = check_run(fixture, case, &mut pipeline);
        worst = worst.max(outcome.unwrap_or_else(|error| panic!("{}: {error}", case["id"])));
        count += 1;
    }
    let name = fixture.said("fixture");
    eprintln!("{name}: {count} checks, the worst run takes {worst:.2} of its tolerance");
    assert!(count >= least, "{count} checks");
}

#[test]
fn the_committed_cases_agree_with_diffusers() {
    check_all(&Fixture::committed("sd15-lora"), 5);
    check_all(&Fixture::committed("sd15-textual-inversion"), 2);
}

#[test]
fn all_cases_agree_with_diffusers() {
    for (name, least) in [
        ("sd15-lora", 10),
        ("sd15-textual-inversion", 3),
        ("sd15-custom-diffusion", 2),
        ("few-step-lora", 17),
    ] {
        if shared(&format!("reference/fixtures/{name}")).is_some() {
            check_all(&Fixture::best(name), least);
        }
    }
}

/// Layers over convolutions, the time embedding and both ends, in kohya's names and diffusers', in f16 and f32.
#[test]
fn every_layer_of_few_step_files_is_known() {
    let Some(fixture) = Fixture::any("few-step-lora") else {
        return;
    };
    for (file, layers) in [("lcm", 277), ("hyper", 281)] {
        for names in ["kohya", "diffusers"] {
            let path = fixture.file(&format!("{file}_{names}.safetensors"));
            let summary = Lora::open(path).unwrap().summary();
            assert_eq!(summary.parts["unet"], layers, "{file} {names}");
        }
    }
}

#[test]
fn torch_files_hold_the_same() {
    let fixture = Fixture::best("sd15-textual-inversion");
    let run = |file: &str| {
        let embedding = Embedding::open(fixture.file(file), None).unwrap();
        assert_eq!(
            (embedding.token(), embedding.vectors()),
            ("ti_webui", vec![(3, 32)])
        );
        let adapters = Adapters {
            embeddings: vec![embedding],
            ..Adapters::default()
        };
        latents(
            &load(&sd15(), &adapters),
            "a TI_webui fox",
            CacheRule::none(),
        )
    };
    assert_eq!(run("ti_webui.pt"), run("ti_webui.safetensors"));
    let Some(complete) = shared("reference/fixtures/sd15-custom-diffusion") else {
        return;
    };
    let run = |ending: &str| {
        let name = format!("pytorch_custom_diffusion_weights.{ending}");
        let custom = CustomDiffusion::open(complete.join(name)).unwrap();
        let adapters = Adapters {
            custom_diffusions: vec![custom],
            ..Adapters::default()
        };
        latents(&load(&sd15(), &adapters), "a fox", CacheRule::none())
    };
    assert_eq!(run("bin"), run("safetensors"));
}

/// A `LoRA`, an embedding and replaced keys for the small model.
pub(crate) fn everything() -> Adapters {
    let fixtures = [
        Fixture::committed("sd15-lora").file("lora_diffusers.safetensors"),
        Fixture::committed("sd15-lora").file("lora_kohya.safetensors"),
    ];
    let layer = "mid_block.attentions.0.transformer_blocks.0.attn2.processor";
    let custom = made(
        format!("{layer}.to_k_custom_diffusion.weight"),
        &[24, 32],
        |index| (index % 11) as f32 * 0.1 - 0.5,
    );
    let embedding = Fixture::committed("sd15-textual-inversion").file("ti_two.safetensors");
    Adapters {
        loras: fixtures.map(|path| Lora::open(path).unwrap()).into(),
        embeddings: vec![Embedding::open(embedding, None).unwrap()],
        custom_diffusions: vec![CustomDiffusion::from_source(&source(&[custom], None)).unwrap()],
    }
}

#[test]
fn adapters_come_off_without_a_trace() {
    let (folder, plain) = (sd15(), Adapters::default());
    let prompt = "a <two-part> fox";
    let run = |pipeline: &Pipeline| latents(pipeline, prompt, CacheRule::none());
    let mut pipeline = load(&folder, &plain);
    let before = run(&pipeline);
    pipeline.set_adapters(&folder, &everything()).unwrap();
    let with = run(&pipeline);
    assert_ne!(before, with);
    assert_eq!(
        with,
        run(&load(&folder, &everything())),
        "put on later is put on at once"
    );
    let mut other = everything();
    other.loras.remove(0);
    pipeline.set_adapters(&folder, &other).unwrap();
    assert_eq!(
        run(&pipeline),
        run(&load(&folder, &other)),
        "one of two is taken off"
    );
    let foreign = pair("lora_unet_nowhere", &[2, 4], &[4, 2]);
    let foreign = Adapters {
        loras: vec![Lora::from_source(&source(&foreign, None)).unwrap()],
        ..Adapters::default()
    };
    assert!(pipeline.set_adapters(&folder, &foreign).is_err());
    assert_eq!(
        run(&pipeline),
        run(&load(&folder, &other)),
        "what fails changes nothing"
    );
    pipeline.set_adapters(&folder, &plain).unwrap();
    assert_eq!(run(&pipeline), before);
}

#[test]
fn encoders_that_were_released_come_back_as_they_were() {
    let folder = sd15();
    let run = |pipeline: &Pipeline| latents(pipeline, "a <two-part> fox", CacheRule::none());
    let mut pipeline = load(&folder, &everything());
    pipeline.set_residency(Residency::Keep);
    let kept = run(&pipeline);
    assert!(pipeline.holds_text_encoders());
    pipeline.set_residency(Residency::Release);
    for _ in 0..2 {
        assert_eq!(run(&pipeline), kept);
        assert!(!pipeline.holds_text_encoders());
    }
    let plain = Adapters::default();
    pipeline.set_adapters(&folder, &plain).unwrap();
    assert!(!pipeline.holds_text_encoders(), "nothing asked for them");
    assert_eq!(run(&pipeline), run(&load(&folder, &plain)));
}

#[test]
fn each_adapter_changes_the_picture_and_a_scale_of_zero_does_not() {
    let folder = sd15();
    let run = |adapters: &Adapters| {
        latents(
            &load(&folder, adapters),
            "a <two-part> fox",
            CacheRule::none(),
        )
    };
    let plain = run(&Adapters::default());
    let all = everything();
    let only = |change: fn(&mut Adapters, Adapters)| {
        let mut adapters = Adapters::default();
        change(&mut adapters, all.clone());
        run(&adapters)
    };
    assert_ne!(plain, only(|ours, all| ours.loras = all.loras));
    assert_ne!(plain, only(|ours, all| ours.embeddings = all.embeddings));
    assert_ne!(
        plain,
        only(|ours, all| ours.custom_diffusions = all.custom_diffusions)
    );
    let none = only(|ours, all| {
        ours.loras = all
            .loras
            .into_iter()
            .map(|lora| lora.with_scale(0.0))
            .collect();
    });
    assert_eq!(plain, none);
}

#[test]
fn caching_at_interval_1_is_the_plain_run_with_adapters_too() {
    let pipeline = load(&sd15(), &everything());
    let run = |rule| latents(&pipeline, "a <two-part> fox", rule);
    let plain = run(CacheRule::none());
    assert_eq!(plain, run(CacheRule::deepcache(1, 0)));
    assert_ne!(plain, run(CacheRule::deepcache(2, 0)));
    assert_eq!(plain, run(CacheRule::none()), "state leaks between runs");
}

/// The embedding of a learned word that repeats the vectors of known ones reads as these do, in both of SDXL's encoders.
#[test]
fn words_of_sdxl_are_learned_by_both_encoders() {
    let path = fixture("sdxl/model");
    let folder = ModelFolder::open(path.to_str().unwrap()).unwrap();
    let ids = |part: &str| {
        let files = folder.tokenizer_files(part).unwrap();
        let tokenizer = afterimage::text::ClipTokenizer::from_files(files.borrowed()).unwrap();
        let tokens = tokenizer.encode("a red fox").unwrap();
        tokens.ids[1..tokens.end].to_vec()
    };
    let copied = |name: &str, part: &str, tokenizer: &str| {
        let table = folder.weights(part).unwrap();
        let data = table
            .read("text_model.embeddings.token_embedding.weight")
            .unwrap();
        let width = data.shape()[1];
        let values: Vec<f32> = data.iter().collect();
        let ids = ids(tokenizer);
        let rows = ids
            .iter()
            .flat_map(|&id| &values[id as usize * width..][..width]);
        let rows: Vec<f32> = rows.copied().collect();
        made(name, &[ids.len(), width], |index| rows[index])
    };
    let each = [
        copied("clip_l", "text_encoder", "tokenizer"),
        copied("clip_g", "text_encoder_2", "tokenizer_2"),
    ];
    let embedding = Embedding::from_source(&source(&each, None), Some("<It>")).unwrap();
    assert_eq!(embedding.vectors().len(), 2);
    let adapters = Adapters {
        embeddings: vec![embedding],
        ..Adapters::default()
    };
    let pipeline = load(&folder, &adapters);
    let run = |prompt| latents(&pipeline, prompt, CacheRule::none());
    let written = run("a red fox, a red fox");
    assert_eq!(written, run("<it>, <IT>"));
    assert_ne!(written, run("<it>, fox"));
    let refiner = fixture("sdxl-refiner/model");
    let refiner = ModelFolder::open(refiner.to_str().unwrap()).unwrap();
    load(&refiner, &adapters);
}

/// Every weight of the full-size `UNet`s under kohya's flat names in both numberings, and under dotted ones.
#[test]
fn all_layers_of_full_size_models_are_found() {
    for (card, original) in [
        ("stable-diffusion-v1-5", "sd15.unet.ldm"),
        ("stable-diffusion-2-1", "sd21.unet.ldm"),
        ("stable-diffusion-xl-base-1.0", "sdxl-base.unet.sgm"),
    ] {
        let config = ModelConfig::read(&ModelFolder::open_configs(card).unwrap()).unwrap();
        let parameters = parameters(&config);
        let unet = UNet2DConditionModel::new(config.unet().unwrap(), &Device::flex());
        let own = shapes(&unet);
        resolve_all(&parameters, &own, |stem| format!("unet.{stem}"));
        let flat = |stem: &str| format!("lora_unet_{}", stem.replace('.', "_"));
        let expected = resolve_all(&parameters, &own, flat);
        let Some(path) = shared(&format!("data/param-lists/original/{original}.tsv")) else {
            continue;
        };
        let listed = text(path);
        let listed = listed.lines().map(|line| {
            let (name, shape) = line.split_once('\t').unwrap();
            let name = name.strip_prefix("model.diffusion_model.").unwrap();
            (name.to_owned(), serde_json::from_str(shape).unwrap())
        });
        let found = resolve_all(&parameters, &listed.collect::<Vec<_>>(), flat);
        assert_eq!(found, expected, "{card}");
    }
}

/// Resolves a `LoRA` of rank 1 over all weights; gives the number of parameters it changes.
fn resolve_all(
    parameters: &[Parameters],
    weights: &[(String, Vec<usize>)],
    spelled: impl Fn(&str) -> String,
) -> usize {
    let layers = weights.iter().filter(|(_, shape)| shape.len() > 1);
    let layers = layers.filter_map(|(name, shape)| Some((name.strip_suffix(".weight")?, shape)));
    let tensors = layers.flat_map(|(stem, shape)| {
        let down = [&[1], &shape[1..]].concat();
        let up = [&[shape[0], 1], &vec![1; shape.len() - 2][..]].concat();
        pair(&spelled(stem), &down, &up)
    });
    let tensors: Vec<_> = tensors.collect();
    let lora = Lora::from_source(&source(&tensors, None)).unwrap();
    let merge = Merge::resolve(parameters, &[lora], &[]).unwrap();
    let count = merge.of("unet").names().len();
    assert_eq!(count * 2, tensors.len());
    count
}
