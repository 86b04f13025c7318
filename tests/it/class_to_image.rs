//! Class-to-image models through the pipeline and the command line, and `DiT` files in both layouts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use afterimage::cache::CacheRule;
use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{ModelConfig, Pipeline, Request, Seeds, Trace};
use afterimage::samplers::SamplerConfig;
use afterimage::weights::WeightSource;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::dit::rule;
use crate::fixture::{Fixture, fixture};
use crate::parity::{Comparison, Part, Tally, Way};
use crate::tested;

fn load(model: &Path) -> Pipeline {
    let folder = ModelFolder::open(model.to_str().unwrap()).unwrap();
    Pipeline::load(&folder, &tested::device(), tested::dtype()).unwrap()
}

fn model() -> PathBuf {
    fixture("dit").join("model")
}

#[test]
fn runs_agree_with_diffusers() {
    let fixture = Fixture::best("dit");
    let mut pipeline = load(&fixture.model());
    let mut tally = Tally::default();
    // What draws noise at its steps drew it from torch's global generator.
    let seeded = |case: &&Value| case["tensors"]["draws"].is_null();
    for case in fixture.of_kinds(&["class2img"]).filter(seeded) {
        let outcome = check_run(&fixture, case, &mut pipeline);
        tally.add(&fixture, case, outcome);
    }
    tally.finish(5);
}

fn check_run(fixture: &Fixture, case: &Value, pipeline: &mut Pipeline) -> Result<f64, String> {
    let scheduler = fixture.scheduler(case["scheduler"].as_str().unwrap());
    pipeline.set_sampler(SamplerConfig::from_json(&scheduler, "case".as_ref()).unwrap());
    let call = &case["call"];
    let labels: Vec<usize> = serde_json::from_value(call["class_labels"].clone()).unwrap();
    let items = labels.len();
    let request = Request {
        seeds: Seeds::One(call["seed"].as_u64().unwrap()),
        steps: call["num_inference_steps"]
            .as_u64()
            .map(|steps| steps as usize),
        guidance_scale: call["guidance_scale"].as_f64(),
        cache: rule(&case["cache"], case["timesteps"].as_array().unwrap().len()),
        ..Request::of_classes(labels)
    };
    let mut ignored = ();
    let mut trace = Trace::new(&mut ignored);
    let made = pipeline.generate(&request, &mut trace).unwrap();
    let mut comparison = Comparison::new(fixture, case, Way::Free);
    for (row, step) in case["kept_steps"].as_array().unwrap().iter().enumerate() {
        let step = step.as_u64().unwrap() as usize;
        if let Some(golden) = fixture.of(case, "latents") {
            let golden = golden.row(row).first(items);
            let found = trace.latents[step].clone();
            comparison.check(Part::Latents, format!("latents.{step}"), &golden, found)?;
        }
    }
    let golden = fixture.of(case, "final_latents").unwrap().first(items);
    comparison.check(Part::Latents, "final", &golden, made.latents)?;
    if let Some(golden) = fixture.of(case, "image") {
        // The reference keeps channels last.
        let found = made.images.permute([0, 2, 3, 1]);
        comparison.check(Part::Picture, "image", &golden.first(items), found)?;
    }
    assert_eq!(made.report.account.cells, made.report.forecast.cells);
    Ok(comparison.share())
}

/// Rows of one class stand together, and every picture is that of its own class and noise.
#[test]
fn classes_and_batches_make_their_rows() {
    let pipeline = load(&model());
    let latents = |labels: &[usize], batch, seeds: &[u64]| -> Vec<f32> {
        let request = Request {
            batch,
            seeds: Seeds::Each(seeds.to_vec()),
            steps: Some(2),
            ..Request::of_classes(labels)
        };
        let latents = pipeline.generate(&request, &mut ()).unwrap().latents;
        latents.into_data().iter::<f32>().collect()
    };
    let together = latents(&[207, 360], 2, &[1, 2, 3, 4]);
    let size = together.len() / 4;
    for (index, (label, seed)) in [(207, 1), (207, 2), (360, 3), (360, 4)]
        .into_iter()
        .enumerate()
    {
        let alone = latents(&[label], 1, &[seed]);
        let pairs = alone.iter().zip(&together[index * size..]);
        assert!(
            pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3),
            "{index}"
        );
    }
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let classes =
        ModelConfig::read(&ModelFolder::open(model().to_str().unwrap()).unwrap()).unwrap();
    let text = fixture("sd15").join("model");
    let text = ModelConfig::read(&ModelFolder::open(text.to_str().unwrap()).unwrap()).unwrap();
    let size = Request {
        size: Some((12, 8)),
        ..Request::of_classes([1])
    };
    let channels = Request {
        guidance_channels: Some(0),
        ..Request::of_classes([1])
    };
    let of_text = Request {
        guidance_channels: Some(2),
        ..Request::new("a cat")
    };
    let cases = vec![
        (of_text, &text, "takes no number of guided channels"),
        (Request::of_classes([]), &classes, "no class is named"),
        (
            Request::of_classes([3, 1000]),
            &classes,
            "there is no class 1000",
        ),
        (Request::new("a cat"), &classes, "reads no text"),
        (Request::of_classes([3]), &text, "knows no classes"),
        (size, &classes, "not a multiple of 8"),
        (channels, &classes, "`guidance_channels` is 0"),
    ];
    for (request, model, words) in cases {
        let error = request.resolve(model).unwrap_err();
        assert!(
            error.is_request() && error.to_string().contains(words),
            "{error}"
        );
    }
}

/// What would be taken for less, or for nothing.
#[test]
fn numbers_that_nothing_follows_are_refused() {
    type Case = (fn(&mut Request), &'static str);
    let classes =
        ModelConfig::read(&ModelFolder::open(model().to_str().unwrap()).unwrap()).unwrap();
    let cases: [Case; 2] = [
        (
            |request| request.guidance_channels = Some(99),
            "`guidance_channels` is 99, and the latents have 4 channels",
        ),
        (
            |request| request.size = Some((0, 128)),
            "size 0x128 has a side without pixels\nhint: a side has 1 to 8192",
        ),
    ];
    for (ask, words) in cases {
        let mut request = Request::of_classes([1]);
        ask(&mut request);
        let error = request.resolve(&classes).unwrap_err();
        assert!(
            error.is_request() && error.to_string().contains(words),
            "{error}"
        );
    }
}

/// What the published programs sample with, from the cards alone.
#[test]
fn cards_sample_as_published() {
    let card = |name: &str| ModelConfig::read(&ModelFolder::open(name).unwrap()).unwrap();
    let original = card("DiT-XL-2-256x256");
    let resolved = Request::of_classes([207]).resolve(&original).unwrap();
    assert_eq!((resolved.steps, resolved.guidance.channels), (250, Some(3)));
    let times: Vec<f64> = resolved
        .sampler
        .evaluations()
        .iter()
        .map(|one| one.timestep)
        .collect();
    let published = (0..250)
        .rev()
        .map(|step| (f64::from(step) * 999.0 / 249.0).round_ties_even());
    assert_eq!(times, published.collect::<Vec<_>>());
    assert_eq!(original.canvas().sides, [32, 32]);
    assert_eq!(card("DiT-XL-2-512x512").canvas().sides, [64, 64]);
    let rule: CacheRule = "dit-propagation:keys=A'".parse().unwrap();
    for name in ["DiT-XL-2-256", "DiT-XL-2-512"] {
        let request = Request {
            cache: rule.clone(),
            steps: Some(250),
            ..Request::of_classes([0])
        };
        let plan = request.resolve(&card(name)).unwrap().plan;
        assert_eq!((plan.cut, plan.refreshes().count()), (18, 136), "{name}");
    }
}

/// Bytes of one tensor, f32.
struct Bytes {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn bytes(source: &WeightSource, name: &str) -> Bytes {
    let data = source.read(name).unwrap().convert::<f32>();
    Bytes {
        shape: data.shape().to_vec(),
        bytes: data.as_bytes().to_vec(),
    }
}

fn write(path: &Path, tensors: &BTreeMap<String, Bytes>) {
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes).unwrap();
        (name.clone(), view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

/// A copy of the model folder with other transformer weights.
fn copied(change: impl Fn(&mut BTreeMap<String, Bytes>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ] {
        let target = folder.path().join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(model().join(file), target).unwrap();
    }
    let source = WeightSource::open(model().join(WEIGHTS)).unwrap();
    let named = source
        .names()
        .map(|name| (name.to_owned(), bytes(&source, name)));
    let mut tensors = named.collect();
    change(&mut tensors);
    write(&folder.path().join(WEIGHTS), &tensors);
    folder
}

/// Names of the original layout for those of diffusers, but for query, key and value.
const ORIGINAL: [(&str, &str); 12] = [
    ("pos_embed.proj.", "x_embedder.proj."),
    (
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1.",
        "t_embedder.mlp.0.",
    ),
    (
        "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2.",
        "t_embedder.mlp.2.",
    ),
    (
        "transformer_blocks.0.norm1.emb.class_embedder.",
        "y_embedder.",
    ),
    ("proj_out_1.", "final_layer.adaLN_modulation.1."),
    ("proj_out_2.", "final_layer.linear."),
    ("transformer_blocks.", "blocks."),
    ("norm1.linear.", "adaLN_modulation.1."),
    ("attn1.to_out.0.", "attn.proj."),
    ("ff.net.0.proj.", "mlp.fc1."),
    ("ff.net.2.", "mlp.fc2."),
    ("attn1.to_", "attn.qkv."),
];

/// The tensors as the original program stores them.
fn original(tensors: &mut BTreeMap<String, Bytes>) {
    let mut stored: BTreeMap<String, Bytes> = BTreeMap::new();
    for letter in ["q", "k", "v", ""] {
        for (name, tensor) in &*tensors {
            let projection = name
                .split_once("attn1.to_")
                .filter(|(_, rest)| !rest.starts_with("out"));
            if projection.is_some_and(|(_, rest)| !rest.starts_with(letter))
                || (projection.is_none() != letter.is_empty())
            {
                continue;
            }
            let name = ORIGINAL
                .iter()
                .fold(name.clone(), |name, (from, to)| name.replace(from, to));
            let name = name.replace(&format!("qkv.{letter}."), "qkv.");
            let entry = stored.entry(name).or_insert_with(|| Bytes {
                shape: [&[0], &tensor.shape[1..]].concat(),
                bytes: Vec::new(),
            });
            entry.shape[0] += tensor.shape[0];
            entry.bytes.extend(&tensor.bytes);
        }
    }
    let positions = Bytes {
        shape: vec![1, 64, 32],
        bytes: vec![0; 64 * 32 * 4],
    };
    stored.insert("pos_embed".into(), positions);
    *tensors = stored;
}

fn latents(model: &Path) -> Vec<f32> {
    let request = Request {
        steps: Some(2),
        ..Request::of_classes([207])
    };
    let latents = load(model).generate(&request, &mut ()).unwrap().latents;
    latents.into_data().iter::<f32>().collect()
}

#[test]
fn both_layouts_are_the_same_network() {
    // A copy is written in f32; from the fixture's f16 a few tokens go through other sums.
    let plain = latents(copied(|_| ()).path());
    assert_eq!(latents(copied(original).path()), plain, "original layout");
    let repeated = |tensors: &mut BTreeMap<String, Bytes>| repeat_embedders(tensors, 0);
    assert_eq!(
        latents(copied(repeated).path()),
        plain,
        "repeated embedders"
    );
}

/// The embedders in every block, as diffusers writes them; `change` is added to a byte of the last.
fn repeat_embedders(tensors: &mut BTreeMap<String, Bytes>, change: u8) {
    let first = "transformer_blocks.0.norm1.emb.";
    let of_first = tensors.iter().filter(|(name, _)| name.starts_with(first));
    let copies: Vec<_> = of_first
        .flat_map(|(name, tensor)| {
            (1..6).map(move |block| {
                let mut bytes = tensor.bytes.clone();
                bytes[2] = bytes[2].wrapping_add(if block == 5 { change } else { 0 });
                let name = name.replace(first, &format!("transformer_blocks.{block}.norm1.emb."));
                let shape = tensor.shape.clone();
                (name, Bytes { shape, bytes })
            })
        })
        .collect();
    tensors.extend(copies);
}

#[test]
fn embedders_that_differ_are_refused() {
    let folder = copied(|tensors| repeat_embedders(tensors, 1));
    let folder = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
    let error = Pipeline::load(&folder, &tested::device(), tested::dtype()).unwrap_err();
    assert!(error.is_weights(), "{error}");
    let words = "`transformer_blocks.5.norm1.emb.class_embedder.embedding_table.weight` differ";
    assert!(error.to_string().contains(words), "{error}");
}
