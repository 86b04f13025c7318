//! `LoRA` and its kin, embeddings, Custom Diffusion: against diffusers, against dense products, and what does not fit.

use std::path::{Path, PathBuf};

use afterimage::cache::CacheRule;
use afterimage::catalog::ModelFolder;
use afterimage::models::unet::UNet2DConditionModel;
use afterimage::pipeline::{
    Adapters, Family, ModelConfig, Pipeline, Request, Residency, TextToImage,
};
use afterimage::text::Embedding;
use afterimage::weights::adapt::{CustomDiffusion, Lora, LoraKind, Merge, Parameters};
use afterimage::weights::{WeightSource, shapes};
use burn::tensor::{DType, Device};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::fixture::{Fixture, Reference, fixture, shared, text};
use crate::golden::check_run;
use crate::weights::folder;

/// A tensor of a made-up file.
pub(crate) type Made = (String, Vec<usize>, Vec<f32>);

fn made(name: impl Into<String>, shape: &[usize], value: impl Fn(usize) -> f32) -> Made {
    let values = (0..shape.iter().product()).map(value).collect();
    (name.into(), shape.to_vec(), values)
}

fn bytes(tensors: &[Made], metadata: Option<&str>) -> Vec<u8> {
    let data = tensors.iter().map(|(_, _, values)| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        bytes.collect::<Vec<u8>>()
    });
    let data: Vec<_> = data.collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let metadata = metadata.map(|text| ("lora_adapter_metadata".to_owned(), text.to_owned()));
    safetensors::serialize(views, Some(metadata.into_iter().collect())).unwrap()
}

/// A file in a folder that stays as long as the returned value.
pub(crate) fn file(name: &str, tensors: &[Made]) -> (tempfile::TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes(tensors, None)).unwrap();
    (folder, path)
}

/// Kept for the rest of the test: sources in memory are compiled in elsewhere.
fn source(tensors: &[Made], metadata: Option<&str>) -> WeightSource {
    let bytes = Vec::leak(bytes(tensors, metadata));
    WeightSource::from_static(bytes, "made.safetensors").unwrap()
}

pub(crate) fn pair(layer: &str, down: &[usize], up: &[usize]) -> Vec<Made> {
    let value = |index: usize| (index % 7) as f32 * 0.01 - 0.03;
    vec![
        made(format!("{layer}.lora_down.weight"), down, value),
        made(format!("{layer}.lora_up.weight"), up, value),
    ]
}

fn sd15() -> ModelFolder {
    ModelFolder::open(fixture("sd15/model").to_str().unwrap()).unwrap()
}

fn load(folder: &ModelFolder, adapters: &Adapters) -> TextToImage {
    TextToImage::load_with(folder, &Device::flex(), DType::F32, adapters).unwrap()
}

fn latents(pipeline: &TextToImage, prompt: &str, rule: CacheRule) -> Vec<f32> {
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

fn parameters(config: &ModelConfig) -> Vec<Parameters> {
    let Family::TextToImage(parts) = &config.family else {
        panic!("a text-to-image model")
    };
    let device = Device::flex();
    let unet = UNet2DConditionModel::new(&parts.unet, &device);
    let mut parameters = vec![Parameters::new("unet", shapes(&unet))];
    for encoder in &parts.text.encoders {
        let model = afterimage::models::clip::ClipTextModel::new(&encoder.clip, &device);
        parameters.push(Parameters::new(encoder.part, shapes(&model)));
    }
    parameters
}

/// Weights as they become, against those of the reference; gives how many there are.
fn check_merged(fixture: &Fixture, case: &Value) -> usize {
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
    ] {
        if shared(&format!("reference/fixtures/{name}")).is_some() {
            check_all(&Fixture::best(name), least);
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
fn everything() -> Adapters {
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
    let run = |pipeline: &TextToImage| latents(pipeline, prompt, CacheRule::none());
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
    let run = |pipeline: &TextToImage| latents(pipeline, "a <two-part> fox", CacheRule::none());
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
        let Family::TextToImage(parts) = &config.family else {
            panic!("a text-to-image model")
        };
        let unet = UNet2DConditionModel::new(&parts.unet, &Device::flex());
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

fn values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0_f32..1.0, count)
}

/// `[rows, inner] · [inner, columns]`, by the definition.
fn dense(left: &[f32], right: &[f32], inner: usize) -> Vec<f64> {
    let (rows, columns) = (left.len() / inner, right.len() / inner);
    let entry = |row: usize, column: usize| {
        let terms = (0..inner)
            .map(|k| f64::from(left[row * inner + k]) * f64::from(right[k * columns + column]));
        terms.sum::<f64>()
    };
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    places.map(|(row, column)| entry(row, column)).collect()
}

/// `out[o, i, p] = sum over m, n of left[o, m] core[m, n, p] right[n, i]`, by the definition.
fn dense_core(left: &[f32], core: &[f32], right: &[f32], rank: usize, points: usize) -> Vec<f64> {
    let (outputs, inputs) = (left.len() / rank, right.len() / rank);
    let mut out = vec![0.0; outputs * inputs * points];
    for (place, value) in out.iter_mut().enumerate() {
        let (o, i, p) = (
            place / points / inputs,
            place / points % inputs,
            place % points,
        );
        for m in 0..rank {
            for n in 0..rank {
                *value += f64::from(left[o * rank + m])
                    * f64::from(core[(m * rank + n) * points + p])
                    * f64::from(right[n * inputs + i]);
            }
        }
    }
    out
}

/// Merges `tensors` at `scale` into `layer.weight` of this shape and compares with `base + expected`.
fn check_dense(shape: &[usize], tensors: &[(Vec<Made>, f64)], expected: &[f64]) -> LoraKind {
    let base = made("layer.weight", shape, |index| (index % 5) as f32 - 2.0);
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), shape.to_vec())],
    )];
    let lora = |(tensors, scale): &(Vec<Made>, f64)| {
        Lora::from_source(&source(tensors, None))
            .unwrap()
            .with_scale(*scale)
    };
    let loras: Vec<_> = tensors.iter().map(lora).collect();
    let merge = Merge::resolve(&parameters, &loras, &[]).unwrap();
    let data = merge
        .of("unet")
        .read("layer.weight", &source(std::slice::from_ref(&base), None))
        .unwrap();
    for ((found, base), change) in data.iter::<f32>().zip(&base.2).zip(expected) {
        let expected = f64::from(*base) + change;
        assert!(
            (f64::from(found) - expected).abs() < 2e-5,
            "{found} for {expected}"
        );
    }
    assert_eq!(data.shape().to_vec(), shape);
    *loras[0].summary().kinds.first_key_value().unwrap().0
}

fn alpha(value: f32) -> Made {
    ("lora_unet_layer.alpha".into(), Vec::new(), vec![value])
}

fn tensor(ending: &str, shape: &[usize], values: &[f32]) -> Made {
    (
        format!("lora_unet_layer.{ending}"),
        shape.to_vec(),
        values.to_vec(),
    )
}

const OUT: usize = 7;
const IN: usize = 6;
const POINTS: usize = 9;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Two `LoRA`s of unequal rank on one layer: the changes are added up.
    #[test]
    fn loras_are_dense_products(
        (up, down) in (values(OUT * 3), values(3 * IN)),
        (up2, down2) in (values(OUT * 8), values(8 * IN)),
        scale in -2.0..2.0,
    ) {
        let first = vec![tensor("lora_up.weight", &[OUT, 3], &up), tensor("lora_down.weight", &[3, IN], &down), alpha(1.5)];
        let second = vec![tensor("lora_up.weight", &[OUT, 8], &up2), tensor("lora_down.weight", &[8, IN], &down2)];
        let pairs = dense(&up, &down, 3).into_iter().zip(dense(&up2, &down2, 8));
        let expected: Vec<f64> = pairs.map(|(one, two)| scale * 0.5 * one + two).collect();
        let kind = check_dense(&[OUT, IN], &[(first, scale), (second, 1.0)], &expected);
        assert_eq!(kind, LoraKind::Lora);
    }

    #[test]
    fn locons_are_dense_products(
        (up, down) in (values(OUT * 2), values(2 * IN * POINTS)),
        (mid, small) in (values(4 * POINTS), values(2 * IN)),
    ) {
        let shape = [OUT, IN, 3, 3];
        let plain = vec![tensor("lora_up.weight", &[OUT, 2, 1, 1], &up), tensor("lora_down.weight", &[2, IN, 3, 3], &down)];
        assert_eq!(check_dense(&shape, &[(plain, 1.0)], &dense(&up, &down, 2)), LoraKind::LoCon);
        let core = vec![
            tensor("lora_up.weight", &[OUT, 2, 1, 1], &up),
            tensor("lora_down.weight", &[2, IN, 1, 1], &small),
            tensor("lora_mid.weight", &[2, 2, 3, 3], &mid),
            alpha(4.0),
        ];
        let expected = dense_core(&up, &mid, &small, 2, POINTS);
        let expected: Vec<f64> = expected.into_iter().map(|value| 2.0 * value).collect();
        assert_eq!(check_dense(&shape, &[(core, 1.0)], &expected), LoraKind::LoCon);
    }

    #[test]
    fn lohas_are_dense_products(
        (a1, b1) in (values(OUT * 2), values(2 * IN * POINTS)),
        (a2, b2) in (values(OUT * 2), values(2 * IN * POINTS)),
        (t1, t2) in (values(4 * POINTS), values(4 * POINTS)),
        scale in -2.0..2.0,
    ) {
        let shape = [OUT, IN, 3, 3];
        let product = |one: Vec<f64>, two: Vec<f64>| -> Vec<f64> {
            one.iter().zip(&two).map(|(one, two)| scale * 0.5 * one * two).collect()
        };
        let wide = [2, IN * POINTS];
        let flat = vec![
            tensor("hada_w1_a", &[OUT, 2], &a1), tensor("hada_w1_b", &wide, &b1),
            tensor("hada_w2_a", &[OUT, 2], &a2), tensor("hada_w2_b", &wide, &b2), alpha(1.0),
        ];
        let expected = product(dense(&a1, &b1, 2), dense(&a2, &b2, 2));
        assert_eq!(check_dense(&shape, &[(flat, scale)], &expected), LoraKind::LoHa);
        // Beside a core, the left matrices are kept as [rank, outputs].
        let turned = |a: &[f32]| (0..2 * OUT).map(|k| a[k % OUT * 2 + k / OUT]).collect::<Vec<_>>();
        let (b1, b2) = (&b1[..2 * IN], &b2[..2 * IN]);
        let core = vec![
            tensor("hada_w1_a", &[2, OUT], &turned(&a1)), tensor("hada_w1_b", &[2, IN], b1),
            tensor("hada_w2_a", &[2, OUT], &turned(&a2)), tensor("hada_w2_b", &[2, IN], b2),
            tensor("hada_t1", &[2, 2, 3, 3], &t1), tensor("hada_t2", &[2, 2, 3, 3], &t2), alpha(1.0),
        ];
        let expected = product(dense_core(&a1, &t1, b1, 2, POINTS), dense_core(&a2, &t2, b2, 2, POINTS));
        assert_eq!(check_dense(&shape, &[(core, scale)], &expected), LoraKind::LoHa);
    }
}

#[test]
fn unit_convolutions_and_linear_layers_are_one() {
    let (up, down) = ([0.5, -1.0, 2.0, 0.25], [1.0, 2.0, -0.5, 3.0]);
    let expected = dense(&up, &down, 2);
    let linear: [&[usize]; 2] = [&[2, 2], &[2, 2]];
    let unit: [&[usize]; 2] = [&[2, 2, 1, 1], &[2, 2, 1, 1]];
    for [outer, inner] in [linear, unit] {
        for weight in [&[2, 2][..], &[2, 2, 1, 1]] {
            let tensors = vec![
                tensor("lora_up.weight", outer, &up),
                tensor("lora_down.weight", inner, &down),
            ];
            check_dense(weight, &[(tensors, 1.0)], &expected);
        }
    }
}

/// Alphas that peft keeps beside the tensors.
#[test]
fn peft_says_alphas_in_its_configuration() {
    let tensors = [
        made("unet.layer.lora_A.weight", &[2, 3], |_| 1.0),
        made("unet.layer.lora_B.weight", &[3, 2], |_| 1.0),
    ];
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), vec![3, 3])],
    )];
    let base = [made("layer.weight", &[3, 3], |_| 0.0)];
    let merged = |metadata: Option<&str>| {
        let lora = Lora::from_source(&source(&tensors, metadata)).unwrap();
        let merge = Merge::resolve(&parameters, &[lora], &[]).unwrap();
        let data = merge
            .of("unet")
            .read("layer.weight", &source(&base, None))
            .unwrap();
        data.iter::<f32>().next().unwrap()
    };
    assert_eq!(merged(None), 2.0);
    assert_eq!(merged(Some(r#"{"unet.r": 2, "unet.lora_alpha": 8}"#)), 8.0);
    assert_eq!(merged(Some(r#"{"text_encoder.lora_alpha": 8}"#)), 2.0);
    let pattern = r#"{"unet.lora_alpha": 8, "unet.alpha_pattern": {"layer": 1}}"#;
    assert_eq!(merged(Some(pattern)), 1.0);
    let stabilised = merged(Some(r#"{"unet.lora_alpha": 2, "unet.use_rslora": true}"#));
    assert!((stabilised - 2.0 * 2.0_f32.sqrt()).abs() < 1e-6);
    let dora = Lora::from_source(&source(&tensors, Some(r#"{"unet.use_dora": true}"#)));
    assert!(dora.unwrap_err().to_string().contains("DoRA"));
}

/// What loading the small model with a file says.
fn refusal(model: &Path, name: &str, tensors: &[Made]) -> String {
    let (_kept, path) = file(name, tensors);
    let lora = match Lora::open(&path) {
        Ok(lora) => lora,
        Err(error) => return told(&error, &path),
    };
    let folder = ModelFolder::open(model.to_str().unwrap()).unwrap();
    let adapters = Adapters {
        loras: vec![lora],
        ..Adapters::default()
    };
    let loaded = TextToImage::load_with(&folder, &Device::flex(), DType::F32, &adapters);
    told(&loaded.unwrap_err(), &path)
}

/// The message, which names the file, without the file's folder.
fn told(error: &afterimage::Error, path: &Path) -> String {
    assert!(error.is_weights(), "{error}");
    let text = error.to_string();
    let shown = path.display().to_string();
    assert!(text.contains(&shown), "{text}");
    text.replace(&shown, path.file_name().unwrap().to_str().unwrap())
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let (sd15, sdxl) = (fixture("sd15/model"), fixture("sdxl/model"));
    let attention = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
    let sgm = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k";
    let (down, up): (&[usize], &[usize]) = (&[2, 32], &[24, 2]);
    let with = |mut tensors: Vec<Made>, ending: &str, value: f32| {
        tensors.push((format!("{attention}.{ending}"), vec![1], vec![value]));
        tensors
    };
    let whole = || pair(attention, down, up);
    let cases: Vec<(&Path, Vec<Made>, &[&str])> = vec![
        (
            &sd15,
            pair(sgm, &[4, 2048], &[640, 4]),
            &[
                "another model family",
                "input_blocks_4_1",
                "width 2048 (SDXL)",
                "width 32",
            ],
        ),
        (
            &sdxl,
            pair(attention, &[4, 768], &[1280, 4]),
            &["another model family", "768 (Stable Diffusion 1.x)"],
        ),
        (
            &sd15,
            pair(
                "lora_te2_text_model_encoder_layers_0_mlp_fc1",
                &[2, 32],
                &[64, 2],
            ),
            &["another model family", "`text_encoder_2`"],
        ),
        (
            &sd15,
            pair("lora_unet_nowhere", &[2, 4], &[4, 2]),
            &["1 of 1 layers", "`lora_unet_nowhere`"],
        ),
        (
            &sd15,
            pair(attention, down, &[25, 2]),
            &[
                "[25, 32]",
                "`mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight`",
                "[24, 32]",
            ],
        ),
        (
            &sd15,
            pair(attention, down, &[24, 3]),
            &[
                "no rank in common",
                "lora_up.weight` of shape [24, 3]",
                "[2, 32]",
            ],
        ),
        (
            &sd15,
            whole()[..1].to_vec(),
            &["lora_up.weight` is missing beside", "lora_down.weight`"],
        ),
        (
            &sd15,
            with(whole(), "dora_scale", 1.0),
            &["DoRA", "dora_scale`"],
        ),
        (&sd15, with(whole(), "lokr_w1", 1.0), &["LoKr"]),
        (
            &sd15,
            with(whole(), "strange", 1.0),
            &["no LoRA", "strange`"],
        ),
        (
            &sd15,
            with(whole(), "alpha", f32::NAN),
            &["alpha` is NaN", "finite"],
        ),
        (
            &sd15,
            [
                whole(),
                pair(
                    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
                    down,
                    up,
                ),
            ]
            .concat(),
            &["two tensors change `mid_block"],
        ),
        (
            &sd15,
            vec![made("conv_in.weight", &[4, 4], |_| 0.0)],
            &["no LoRA", "`conv_in.weight`"],
        ),
    ];
    for (model, tensors, words) in cases {
        let text = refusal(model, "bad.safetensors", &tensors);
        for word in words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
    let lora = || Lora::from_source(&source(&whole(), None)).unwrap();
    let parameters = parameters(&ModelConfig::read(&self::sd15()).unwrap());
    let error = Merge::resolve(&parameters, &[lora().with_scale(f64::NAN)], &[]).unwrap_err();
    assert!(error.to_string().contains("the scale is NaN"), "{error}");
}

#[test]
fn corrupt_files_are_refused_by_name() {
    let (_kept, path) = file(
        "cut.safetensors",
        &pair("lora_unet_conv_in", &[2, 4], &[16, 2]),
    );
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 40, whole.len() - 5] {
        std::fs::write(&path, &whole[..length]).unwrap();
        told(&Lora::open(&path).unwrap_err(), &path);
        told(&Embedding::open(&path, None).unwrap_err(), &path);
        told(&CustomDiffusion::open(&path).unwrap_err(), &path);
    }
    let pickle = path.with_extension("pt");
    std::fs::write(&pickle, b"no pickle at all").unwrap();
    told(&Embedding::open(&pickle, None).unwrap_err(), &pickle);
}

fn embedding_refusal(model: &str, token: Option<&str>, tensors: &[Made]) -> String {
    let (_kept, path) = file("word.safetensors", tensors);
    let embedding = match Embedding::open(&path, token) {
        Ok(embedding) => embedding,
        Err(error) => return told(&error, &path),
    };
    let folder = ModelFolder::open(fixture(model).to_str().unwrap()).unwrap();
    let adapters = Adapters {
        embeddings: vec![embedding],
        ..Adapters::default()
    };
    let loaded = TextToImage::load_with(&folder, &Device::flex(), DType::F32, &adapters);
    told(&loaded.unwrap_err(), &path)
}

type Case<'a> = (&'a str, Option<&'a str>, Vec<Made>, &'a [&'a str]);

#[test]
fn embeddings_that_do_not_fit_are_refused_by_name() {
    let one = |width| vec![made("<x>", &[2, width], |_| 0.5)];
    let each = vec![
        made("clip_l", &[2, 32], |_| 0.5),
        made("clip_g", &[2, 32], |_| 0.5),
    ];
    let cases: [Case<'_>; 7] = [
        (
            "sd15/model",
            None,
            one(33),
            &["`<x>`", "width 33", "`text_encoder`", "width 32"],
        ),
        (
            "sd15/model",
            Some("A"),
            one(32),
            &["`A` exists already", "--embedding TOKEN=FILE"],
        ),
        (
            "sd15/model",
            Some("<|endoftext|>"),
            one(32),
            &["exists already"],
        ),
        ("sd15/model", None, each, &["SDXL", "the model has one"]),
        (
            "sdxl/model",
            None,
            one(32),
            &["for one text encoder", "the model has two"],
        ),
        ("sd15/model", Some(" "), one(32), &["is empty"]),
        (
            "sd15/model",
            None,
            vec![made("a", &[2, 2, 2], |_| 0.0)],
            &["no embedding", "`a [2, 2, 2]`"],
        ),
    ];
    for (model, token, tensors, words) in cases {
        let text = embedding_refusal(model, token, &tensors);
        for word in words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
    let twice = |token: &str| Embedding::from_source(&source(&one(32), None), Some(token)).unwrap();
    let adapters = Adapters {
        embeddings: vec![twice("<y>"), twice("<Y>")],
        ..Adapters::default()
    };
    let loaded = TextToImage::load_with(&sd15(), &Device::flex(), DType::F32, &adapters);
    let error = loaded.unwrap_err().to_string();
    assert!(error.contains("`<Y>` exists already"), "{error}");
}

#[test]
fn custom_diffusions_that_do_not_fit_are_refused_by_name() {
    let layer = "mid_block.attentions.0.transformer_blocks.0.attn2.processor";
    let custom = |shape: &[usize]| {
        let tensor = made(
            format!("{layer}.to_v_custom_diffusion.weight"),
            shape,
            |_| 0.5,
        );
        CustomDiffusion::from_source(&source(&[tensor], None)).unwrap()
    };
    let parameters = parameters(&ModelConfig::read(&sd15()).unwrap());
    let resolve = |customs: &[CustomDiffusion]| {
        let error = Merge::resolve(&parameters, &[], customs).unwrap_err();
        error.to_string()
    };
    let text = resolve(&[custom(&[24, 768])]);
    assert!(
        text.contains("another model family") && text.contains("made.safetensors"),
        "{text}"
    );
    let text = resolve(&[custom(&[25, 32])]);
    assert!(
        text.contains("[25, 32]") && text.contains("[24, 32]"),
        "{text}"
    );
    let text = resolve(&[custom(&[24, 32]), custom(&[24, 32])]);
    assert!(text.contains("two files replace"), "{text}");
    let lora = source(&pair("lora_unet_conv_in", &[2, 4], &[16, 2]), None);
    let text = CustomDiffusion::from_source(&lora).unwrap_err().to_string();
    assert!(text.contains("no Custom Diffusion"), "{text}");
}

#[test]
fn models_without_text_take_no_adapters() {
    let folder = ModelFolder::open(fixture("ddpm/model").to_str().unwrap()).unwrap();
    let loaded = Pipeline::load_with(&folder, &Device::flex(), DType::F32, &everything());
    let error = loaded.unwrap_err();
    assert!(
        error.is_request() && error.to_string().contains("takes no adapters"),
        "{error}"
    );
}

#[test]
fn merged_weights_keep_the_precision_of_their_sum() {
    // 2048 + 1 is a tie in f16; the sum is made in f32 and rounded once, by whoever loads it.
    let base = Reference {
        shape: vec![1, 1],
        values: vec![2048.0],
    };
    let tensors = vec![
        tensor("lora_up.weight", &[1, 1], &[0.5]),
        tensor("lora_down.weight", &[1, 1], &[1.0]),
    ];
    let lora = Lora::from_source(&source(&tensors, None)).unwrap();
    let parameters = [Parameters::new(
        "unet",
        vec![("layer.weight".into(), base.shape.clone())],
    )];
    let merge = Merge::resolve(&parameters, &[lora.clone(), lora], &[]).unwrap();
    let weights = [made("layer.weight", &base.shape, |_| base.values[0])];
    let data = merge
        .of("unet")
        .read("layer.weight", &source(&weights, None))
        .unwrap();
    assert_eq!(data.iter::<f32>().collect::<Vec<_>>(), [2049.0]);
}

#[cfg(feature = "cli")]
mod program {
    use super::*;
    use crate::cli::afterimage;

    fn generate(extra: &[&str]) -> crate::cli::Ending {
        let (model, folder) = (fixture("sd15/model"), folder());
        let output = folder.path().join("out.png");
        let (model, output) = (model.to_str().unwrap(), output.to_str().unwrap());
        let fixed = [
            "generate",
            "a <two-part> fox",
            "--device",
            "cpu",
            "--steps",
            "2",
        ];
        let named = [
            "--seed", "1", "--json", "--model", model, "--output", output,
        ];
        afterimage(fixed.iter().chain(&named).chain(extra))
    }

    #[test]
    fn adapters_are_options_and_stand_in_the_record() {
        let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
        let word = Fixture::committed("sd15-textual-inversion").file("ti_two.safetensors");
        let lora = format!("{}=0.5", lora.display());
        let word = word.to_str().unwrap();
        let ending = generate(&["--lora", &lora, "--embedding", word]);
        assert_eq!(ending.code, Some(0), "{}", ending.shown());
        let record: Value = serde_json::from_str(&ending.stdout).unwrap();
        assert_eq!(record["loras"][0], lora);
        assert_eq!(record["embeddings"][0], format!("<two-part>={word}"));
        assert!(record["custom_diffusions"].is_null());
    }

    #[test]
    fn mistakes_name_the_file() {
        let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
        let lora = lora.to_str().unwrap();
        let wrong = format!("{lora}=much");
        generate(&["--lora", &wrong]).refused(2, &["the scale `much` is not a number"]);
        generate(&["--lora", "absent.safetensors"]).refused(1, &["file: absent.safetensors"]);
        generate(&["--embedding", lora]).refused(1, &["no embedding", lora]);
        generate(&["--custom-diffusion", lora]).refused(1, &["no Custom Diffusion", lora]);
        generate(&["--embedding", &format!("fox={lora}")]).refused(1, &["no embedding"]);
    }

    #[test]
    fn inspect_tells_what_an_adapter_is() {
        let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
        let ending = afterimage(["inspect", lora.to_str().unwrap()]);
        for words in ["kind  LoRA (", "rank  2", "unet  ", "text  of width 32"] {
            assert!(ending.stdout.contains(words), "{}", ending.shown());
        }
        let word = Fixture::committed("sd15-textual-inversion").file("ti_webui.pt");
        let ending = afterimage(["inspect", word.to_str().unwrap()]);
        for words in ["embedding", "ti_webui", "3 of width 32"] {
            assert!(ending.stdout.contains(words), "{}", ending.shown());
        }
    }
}
