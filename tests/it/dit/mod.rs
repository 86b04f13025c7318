//! `DiT` against diffusers and against block-by-block references: cells, runs, propagation; and its laws.

mod runs;

use std::collections::{BTreeMap, BTreeSet};

use afterimage::cache::{CacheRule, Course, KeyList, Refresh, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::Noise as _;
use afterimage::denoiser::{Carry as _, Evaluation, Rows, StagedDenoiser as _};
use afterimage::guidance::{Conditioned, Guidance};
use afterimage::models::dit::{DiT, DiTConfig, DiTTransformer2DModel};
use afterimage::pipeline::{SeededNoise, Seeds, Trace};
use afterimage::recall::Recall;
use afterimage::weights::dit::{canonical, first_of, place};
use afterimage::weights::original::Placement;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::tensor::{Tensor, TensorData};

pub(crate) use runs::rule;
use runs::{PUBLISHED_SAMPLER, Setting, run};

use crate::fixture::{Fixture, Reference, shared, text, values};
use crate::tested;
use crate::tolerance::F32_CPU;

fn load(fixture: &Fixture) -> DiT {
    let folder = fixture.model().join("transformer");
    let config = DiTConfig::from_json(&text(folder.join("config.json"))).unwrap();
    let source = WeightSource::open(folder.join("diffusion_pytorch_model.safetensors")).unwrap();
    let model = DiTTransformer2DModel::new(&config, &tested::device());
    let source = canonical(&source).unwrap();
    let model = load_strict(model, &source, "transformer", tested::dtype()).unwrap();
    DiT::new(config, model)
}

fn labels(reference: &Reference) -> Vec<usize> {
    reference
        .values
        .iter()
        .map(|&label| label as usize)
        .collect()
}

#[test]
fn cells_agree_with_diffusers() {
    let fixture = Fixture::best("dit");
    let dit = load(&fixture);
    let device = tested::device();
    let case = fixture.case("dit");
    let golden = |key: &str| fixture.of(case, key).unwrap();
    // The trace has another timestep in each row; rows do not see each other.
    let (times, labels) = (golden("timestep").values, labels(&golden("class_labels")));
    for (row, (time, label)) in times.iter().zip(labels).enumerate() {
        let timestep = f64::from(*time);
        let evaluations = [Evaluation { index: 0, timestep }];
        let condition = Conditioning::of_labels(vec![label]);
        let run = dit.start(&condition, &evaluations);
        let prepared = dit.prepare(&run, &evaluations);
        let sample: Tensor<4> = golden("sample").on(&device);
        let mut carry = dit.enter(sample.narrow(0, row, 1), &prepared);
        for cell in 0..=dit.cells() {
            if cell > 0 {
                carry = dit.advance(carry, cell - 1..cell, &prepared, &mut Recall::none());
            }
            let name = case["tensors"]["tokens"][cell].as_str().unwrap();
            let tokens: Tensor<2> = carry.hidden().clone().squeeze_dim(0);
            let outcome = fixture
                .tensor(name)
                .row(row)
                .compare(tokens, tested::tolerance(F32_CPU));
            outcome.unwrap_or_else(|error| panic!("row {row}, before cell {cell}: {error}"));
        }
        let output: Tensor<3> = dit.leave(carry, &prepared).squeeze_dim(0);
        let outcome = golden("output")
            .row(row)
            .compare(output, tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("row {row}, output: {error}"));
    }
}

fn committed() -> DiT {
    load(&Fixture::committed("dit"))
}

fn normals(shape: [usize; 4], seed: u64) -> Tensor<4> {
    SeededNoise::new(&Seeds::One(seed), &tested::device()).draw(shape)
}

fn evaluation(index: usize, timestep: f64) -> Evaluation {
    Evaluation { index, timestep }
}

#[test]
fn a_pass_can_pause_at_every_cut_and_at_any_size() {
    let dit = committed();
    let evaluations = [evaluation(0, 501.0)];
    let condition = Conditioning::of_labels(vec![207, 1000]);
    let run = dit.start(&condition, &evaluations);
    let prepared = dit.prepare(&run, &evaluations);
    for (height, width) in [(16, 16), (6, 10)] {
        let latents = || normals([2, 4, height, width], 1);
        let whole = dit.forward(latents(), &prepared);
        assert_eq!(whole.dims(), [2, 8, height, width]);
        let whole = values(whole);
        for cut in 0..=dit.cells() {
            let carry = dit.enter(latents(), &prepared);
            let carry = dit.advance(carry, 0..cut, &prepared, &mut Recall::none());
            let elements = height * width / 4 * dit.config().width;
            assert_eq!(carry.bytes(), 2 * elements * size_of::<f32>());
            let carry = dit.advance(carry, cut..dit.cells(), &prepared, &mut Recall::none());
            assert_eq!(values(dit.leave(carry, &prepared)), whole, "cut {cut}");
        }
    }
}

fn short(rule: CacheRule, sampler: &str, pictures: usize, scale: f64) -> Setting {
    Setting {
        sampler: sampler.to_owned(),
        steps: 7,
        guidance: Guidance {
            scale,
            conditioned: Conditioned::First,
            channels: Some(3),
            ..Guidance::default()
        },
        labels: [207, 360, 3][..pictures].to_vec(),
        rule,
    }
}

fn latents_of(dit: &DiT, setting: &Setting) -> Vec<f32> {
    let mut noise = SeededNoise::new(&Seeds::One(3), &tested::device());
    let mut ignored = ();
    values(run(dit, setting, &mut noise, &mut Trace::new(&mut ignored)).0)
}

#[test]
fn all_keys_are_the_plain_run_bit_for_bit() {
    let dit = committed();
    for scale in [1.0, 4.0] {
        let of = |rule| latents_of(&dit, &short(rule, PUBLISHED_SAMPLER, 2, scale));
        let plain = of(CacheRule::none());
        for cut in 1..dit.cells() {
            let rule = CacheRule::dit_propagation(cut, Refresh::EveryStep);
            assert_eq!(of(rule), plain, "cut {cut}");
        }
        let reusing = CacheRule::dit_propagation_proportional(Refresh::every(2));
        assert_ne!(of(reusing), plain, "the cache is not used");
    }
}

/// If labels or timesteps stood in another order than the tokens, these would differ.
#[test]
fn batched_propagation_is_the_sequential_one() {
    let dit = committed();
    let solver = r#"{"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "linear"}"#;
    let implicit =
        r#"{"_class_name": "DDIMScheduler", "beta_schedule": "linear", "clip_sample": false}"#;
    for sampler in [PUBLISHED_SAMPLER, implicit, solver] {
        for (pictures, scale) in [(1, 4.0), (2, 1.0), (3, 2.0)] {
            let of = |parallel| {
                let rule = CacheRule::dit_propagation_proportional(Refresh::At(vec![0, 1, 4]));
                let rule = rule.with_parallel(parallel);
                latents_of(&dit, &short(rule, sampler, pictures, scale))
            };
            let sequential = of(1);
            let reference = Reference {
                shape: vec![pictures, 4, 16, 16],
                values: sequential,
            };
            for parallel in [2, 3, 5] {
                let data = TensorData::new(of(parallel), [pictures, 4, 16, 16]);
                let found = Tensor::<4>::from_data(data, &tested::device());
                let outcome = reference.compare(found, tested::tolerance(F32_CPU));
                outcome.unwrap_or_else(|error| {
                    panic!("{pictures} pictures, parallel {parallel}: {error}\n{sampler}")
                });
            }
        }
    }
}

#[test]
fn propagated_steps_neither_read_latents_nor_embed_patches() {
    let dit = committed();
    let evaluations = [evaluation(0, 701.0), evaluation(1, 501.0)];
    let run = dit.start(&Conditioning::of_labels(vec![1]), &evaluations);
    let blueprint = dit.config().blueprint(16, 16);
    let rule = CacheRule::dit_propagation_proportional(Refresh::At(vec![0]));
    let plan = rule.plan(&Course::steps(2), &blueprint).unwrap();
    assert_eq!((plan.cut, plan.prefix), (4, 0));
    let rows = Rows::new(1, 1);
    let mut session = Session::new(&dit, &run, &plan, rows);
    session.predict(&plan.spans[0], &evaluations[..1], || {
        normals([1, 4, 16, 16], 1)
    });
    session.predict(&plan.spans[1], &evaluations[1..], || {
        panic!("the latents were read")
    });
}

/// On the real blueprint of `DiT-XL/2` at 256x256.
#[test]
fn forecasts_of_propagation_are_the_published_ones() {
    let config = DiTConfig::from_json(r#"{"out_channels":8}"#).unwrap();
    let blueprint = config.blueprint(32, 32);
    let rows = Rows::new(2, 1);
    for (list, share) in [("A", 0.648), ("A'", 0.707), ("B", 0.807), ("C", 0.784)] {
        let rule = CacheRule::dit_propagation_proportional(KeyList::named(list).unwrap());
        let plan = rule.plan(&Course::steps(250), &blueprint).unwrap();
        let ratio = plan.forecast(&blueprint, rows, 2).ratio();
        assert!((ratio - share).abs() < 0.001, "{list}: {ratio}");
    }
}

/// Names and shapes of a real checkpoint.
fn listed(list: &str) -> Option<BTreeMap<String, Vec<usize>>> {
    let path = shared(&format!("data/param-lists/{list}.tsv"))?;
    let parsed = text(path)
        .lines()
        .map(|line| {
            let (name, shape) = line.split_once('\t').unwrap();
            (name.to_owned(), serde_json::from_str(shape).unwrap())
        })
        .collect();
    Some(parsed)
}

fn parameters_of_xl() -> BTreeMap<String, Vec<usize>> {
    let config = DiTConfig::from_json(r#"{"out_channels":8}"#).unwrap();
    let model = DiTTransformer2DModel::new(&config, &tested::device());
    shapes(&model).into_iter().collect()
}

#[test]
fn every_parameter_of_xl_2_in_diffusers_layout_has_its_place() {
    let Some(mut listed) = listed("diffusers/dit-xl-2-256.transformer") else {
        return;
    };
    let repeated: BTreeSet<String> = listed
        .keys()
        .filter(|name| first_of(name).is_some())
        .cloned()
        .collect();
    assert_eq!(repeated.len(), 27 * 5);
    for name in repeated {
        let first = &listed[&first_of(&name).unwrap()];
        assert_eq!(&listed[&name], first, "{name}");
        listed.remove(&name);
    }
    assert_eq!(listed, parameters_of_xl());
}

#[test]
fn every_parameter_of_xl_2_in_the_original_layout_has_its_place() {
    for size in ["256", "512"] {
        let Some(listed) = listed(&format!("original/dit-xl-2-{size}.orig")) else {
            return;
        };
        let mut placed = BTreeMap::new();
        for (name, shape) in &listed {
            match place(name) {
                Placement::Part("transformer", pieces) => {
                    placed.extend(
                        pieces
                            .into_iter()
                            .map(|piece| (piece.name, piece.cut.shape(shape))),
                    );
                }
                Placement::Leftover => assert_eq!(name, "pos_embed"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(placed, parameters_of_xl());
    }
}
