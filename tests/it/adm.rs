//! The ADM family under its own names: a tiny network against diffusers' blocks, and the trained terrain network against onnxruntime
//! running its package's own file.

use std::path::PathBuf;

use afterimage::cache::{CacheRule, Course, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise};
use afterimage::denoiser::{Evaluation, Rows, StagedDenoiser as _};
use afterimage::guidance::Guidance;
use afterimage::models::unet::{Extent, UNet, UNet2DConditionModel, UNet2d, UNetConfig};
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use afterimage::weights::{WeightSource, adm, load_strict};
use burn::tensor::{Tensor, TensorData};

use crate::fixture::{Golden, fixture, shared, text};
use crate::laws::Subject;
use crate::tested;
use crate::tolerance::F32_CPU;

const PAIR: Rows = Rows::new(1, 2);

fn load(config: &str, weights: PathBuf) -> UNet2d {
    let config = UNetConfig::from_json_2d(&text(fixture(&format!("adm/{config}.json")))).unwrap();
    let source = WeightSource::open(weights).unwrap();
    let source = adm::renamed_unet(&source, config.levels[0].layers).unwrap();
    let model = UNet2DConditionModel::new(&config, &tested::device());
    let model = load_strict(model, &source, "unet", tested::dtype()).unwrap();
    UNet2d::new(UNet::new(config, model))
}

pub(crate) fn tiny() -> UNet2d {
    load("tiny", fixture("adm/tiny.safetensors"))
}

fn sampler(keys: &str, steps: usize) -> Box<dyn Sampler> {
    let json = format!(r#"{{"_class_name":"CMStochasticIterativeScheduler"{keys}}}"#);
    let config = SamplerConfig::from_json(&json, "case".as_ref()).unwrap();
    config.build(steps, 0.0).unwrap()
}

/// Samples pictures with labels.
fn sample(
    unet: &UNet2d,
    label: Tensor<2>,
    sampler: &dyn Sampler,
    shape: [usize; 4],
    noise: &mut dyn Noise,
) -> Tensor<4> {
    let [items, _, height, width] = shape;
    let extent = Extent {
        height,
        width,
        tokens: 0,
    };
    let course = Course::steps(sampler.evaluations().len());
    let blueprint = unet.unet().config().blueprint(extent);
    let plan = CacheRule::none().plan(&course, &blueprint).unwrap();
    let rows = Rows::single(items);
    let condition = labelled(rows, label);
    let run = unet.start(&condition, sampler.evaluations());
    let mut session = Session::new(unet, &run, &plan, rows);
    let denoise = Denoise {
        sampler,
        plan: &plan,
        guidance: Guidance::default(),
        prior_noise: None,
        known: None,
    };
    let initial = noise.draw(shape) * sampler.initial_noise_scale();
    denoise.run(&mut session, initial, noise, &mut ()).unwrap()
}

fn labelled(rows: Rows, label: Tensor<2>) -> Conditioning {
    Conditioning {
        label_vectors: Some(label),
        ..Conditioning::none(rows)
    }
}

/// What the network says of an input that the sampler scaled.
fn call(unet: &UNet2d, label: Tensor<2>, timestep: f64, sample: Tensor<4>) -> Tensor<4> {
    let rows = Rows::single(sample.dims()[0]);
    let evaluations = [Evaluation { index: 0, timestep }];
    let run = unet.start(&labelled(rows, label), &evaluations);
    let prepared = unet.prepare(&run, &evaluations);
    unet.forward(sample, &prepared)
}

#[test]
fn a_tiny_network_agrees_with_diffusers() {
    let device = tested::device();
    let golden = Golden::open(fixture("adm/tiny_cases.safetensors"));
    let (unet, label) = (tiny(), || golden.tensor::<2>("label", &device));
    let output = call(&unet, label(), 345.0, golden.tensor("sample", &device));
    golden.assert_close("output", output, tested::tolerance(F32_CPU));
    let sampler = sampler("", 4);
    let timesteps = golden.reference("karras_timesteps").values;
    for (evaluation, expected) in sampler.evaluations().iter().zip(timesteps) {
        assert!((evaluation.timestep - f64::from(expected)).abs() < 1e-3);
    }
    let mut noise = SeededNoise::new(&Seeds::One(7), &device);
    let made = sample(&unet, label(), sampler.as_ref(), [2, 1, 16, 16], &mut noise);
    golden.assert_close("karras_sample", made, tested::tolerance(F32_CPU));
}

/// 32x48 is halved to 16x24, 8x12, 4x6, 2x3.
#[test]
fn laws_hold_for_residual_resamplers() {
    let unet = tiny();
    let extent = Extent {
        height: 32,
        width: 49,
        tokens: 0,
    };
    let label = Tensor::from_data([[0.5], [0.9]], &tested::device());
    let subject = Subject {
        trunk: &unet,
        condition: &labelled(PAIR, label),
        rows: PAIR,
        sample: &|seed| SeededNoise::new(&Seeds::One(seed), &tested::device()).draw([2, 1, 32, 49]),
        blueprint: &unet.unet().config().blueprint(extent),
    };
    subject.a_pass_can_pause_at_every_cut();
    subject.reuse_at_the_same_sample_and_time_changes_nothing();
    subject.batched_propagation_is_the_sequential_one(1e-5);
    // Three levels of two and three blocks, and the middle.
    assert_eq!(subject.branches_recalled_change_nothing(), 16);
}

#[test]
fn names_that_the_layout_does_not_have_are_listed() {
    let bytes = safetensors::serialize([("strange.weight", Numbers)], None).unwrap();
    let source = WeightSource::from_static(Box::leak(bytes.into_boxed_slice()), "memory").unwrap();
    let error = adm::renamed_unet(&source, 2).unwrap_err();
    assert!(
        error.is_weights() && error.to_string().contains("`strange.weight`"),
        "{error}"
    );
}

#[test]
fn levels_must_fall() {
    let refused = |keys: &str, steps: usize, part: &str| {
        let json = format!(r#"{{"_class_name":"CMStochasticIterativeScheduler"{keys}}}"#);
        let config = SamplerConfig::from_json(&json, "case".as_ref()).unwrap();
        let error = config.build(steps, 0.0).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(r#","sigmas":[1,5]"#, 1, "`sigmas`");
    refused(r#","sigmas":[80,5]"#, 3, "3 steps");
    refused(r#","rho":0"#, 1, "`rho`");
    refused(r#","sigma_max":0"#, 1, "`sigma_max`");
    refused(r#","sigma_min":90"#, 1, "`sigma_min`");
    refused("", 41, "41 steps");
}

/// Noise that Python and Rust make alike: sums of twelve uniform numbers of a linear congruential generator.
struct Congruential(u32);

impl Congruential {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }
}

impl Noise for Congruential {
    fn draw(&mut self, shape: [usize; 4]) -> Tensor<4> {
        let normal = |_| (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
        let values: Vec<f32> = (0..shape.iter().product())
            .map(normal)
            .map(|value| value as f32)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &tested::device())
    }
}

/// Ten million trained parameters; onnxruntime sums in another order and normalises groups in f32 as instances.
#[test]
fn the_terrain_network_agrees_with_onnxruntime() {
    let Some(weights) = shared("data/terrain-adm/terrain-adm-cd-0.4.1.safetensors") else {
        return;
    };
    let device = tested::device();
    let unet = load("terrain", weights);
    let golden = Golden::open(fixture("adm/terrain_cases.safetensors"));
    let label = |difficulty: f32| Tensor::from_data([[difficulty]], &device);
    let shape = [1, 1, 128, 128];
    for (name, sigma, difficulty, seed) in [("far", 80.0, 0.25, 1), ("near", 0.3, 1.0, 2)] {
        let keys = format!(r#","sigmas":[{sigma}]"#);
        let sampler = sampler(&keys, 1);
        let noisy = Congruential(seed).draw(shape) * sigma;
        let timestep = sampler.evaluations()[0].timestep;
        let output = call(
            &unet,
            label(difficulty),
            timestep,
            sampler.scale_input(noisy, 0),
        );
        golden.assert_close(name, output, tested::tolerance(F32_CPU));
    }
    let sampler = sampler(r#","sigmas":[80,5,1,0.3]"#, 4);
    let made = sample(
        &unet,
        label(0.5),
        sampler.as_ref(),
        shape,
        &mut Congruential(3),
    );
    golden.assert_close("multistep", made, tested::tolerance(F32_CPU));
}

/// One tensor of zeros.
struct Numbers;

impl safetensors::View for Numbers {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &[1]
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        vec![0; 4].into()
    }

    fn data_len(&self) -> usize {
        4
    }
}
