//! Operations, the plain run, `DeepCache` and encoder propagation on a GPU, against the CPU.
//!
//! The networks are as small as they can be, with as few distinct shapes as possible: software rasterisers tune and compile kernels
//! for seconds a shape. `AFTERIMAGE_TEST_DEVICES` names the devices (`wgpu` where nothing is named); one that is absent is skipped,
//! and the skip is counted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use afterimage::cache::{Account, CacheRule, Course, Session};
use afterimage::conditioning::Conditioning;
use afterimage::denoise::{Denoise, Noise as _};
use afterimage::denoiser::{Rows, StagedDenoiser as _};
use afterimage::device::{self, OpenDevice};
use afterimage::doctor::{self, Fallback, Kernel, Quarantine};
use afterimage::guidance::Guidance;
use afterimage::models::clip::{ClipTextConfig, ClipTextModel};
use afterimage::models::unet::{Extent, UNet, UNet2DConditionModel, UNetConfig};
use afterimage::models::vae::{AutoencoderKl, Tiling, VaeConfig};
use afterimage::ops::quarantine;
use afterimage::pipeline::{SeededNoise, Seeds};
use afterimage::samplers::SamplerConfig;
use afterimage::text::TextEncoder as _;
use afterimage::weights::{WeightSource, load_strict, shapes};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, Tolerance};
use safetensors::tensor::TensorView;

use crate::fixture::Reference;
use crate::tolerance::F32_GPU;

const SIDE: usize = 4;
const TOKENS: usize = 4;
const WIDTH: usize = 8;

const UNET: &str = r#"{"block_out_channels": [8, 8], "layers_per_block": 1, "attention_head_dim": 2, "norm_num_groups": 4,
    "cross_attention_dim": 8, "sample_size": 4, "use_linear_projection": true,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}"#;

const VAE: &str = r#"{"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [8, 8], "layers_per_block": 1,
    "norm_num_groups": 4, "sample_size": 8, "scaling_factor": 0.5, "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;

const CLIP: &str = r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 4}"#;

const SCHEDULER: &str = r#"{"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1}"#;

/// Held by every test that works on a GPU, from before it is opened: while a step is recorded a device may refuse other work of the process,
/// and drivers of `OpenGL` fail where one thread opens a device and another works on one.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The GPUs to test, opened; how many of the named ones are absent.
fn gpus() -> (Vec<OpenDevice>, usize) {
    let default = if cfg!(feature = "wgpu") { "wgpu" } else { "" };
    let names = std::env::var("AFTERIMAGE_TEST_DEVICES").unwrap_or_else(|_| default.to_owned());
    let names = names.split(',').filter(|name| !name.is_empty());
    let (opened, absent): (Vec<_>, Vec<_>) = names
        .map(|name| device::open(name.parse().unwrap()))
        .partition(Result::is_ok);
    for error in absent.iter().filter_map(|absent| absent.as_ref().err()) {
        eprintln!("skipped: {error}");
    }
    (opened.into_iter().flatten().collect(), absent.len())
}

/// What `work` gives on the CPU and on every GPU, compared.
fn compare<M: Module, const D: usize>(
    name: &str,
    model: &M,
    work: impl Fn(&M, &Device) -> Tensor<D>,
) {
    let cpu = Device::flex();
    let golden = work(model, &cpu);
    let reference = Reference {
        shape: golden.dims().to_vec(),
        values: golden.into_data().iter::<f32>().collect(),
    };
    let _turn = turn();
    let (gpus, skipped) = gpus();
    for gpu in &gpus {
        let found = work(&model.clone().to_device(gpu.device()), gpu.device());
        let difference = reference
            .compare(found, F32_GPU)
            .unwrap_or_else(|error| panic!("{name} on {gpu}: {error}"));
        eprintln!("{name} on {gpu}: off by {difference:.1e} standard deviations");
    }
    eprintln!("{name}: {} devices, {skipped} skipped", gpus.len());
}

fn normals(shape: [usize; 4], device: &Device) -> Tensor<4> {
    SeededNoise::new(&Seeds::One(3), device).draw(shape)
}

#[test]
fn cache_rules_agree_with_the_cpu() {
    let config = UNetConfig::from_json(UNET).unwrap();
    let model = UNet2DConditionModel::new(&config, &Device::flex());
    for rule in [
        "none",
        "deepcache:interval=2,branch=1",
        "encoder-propagation:keys=0+2,parallel=2,noise=0.003,noise-from=0.9",
    ] {
        compare(rule, &model, |model, device| {
            let (rule, model) = (rule.parse().unwrap(), model.clone());
            denoise(&config, model, rule, &Course::steps(4), device, false).0
        });
    }
}

/// Full steps and steps that reuse, each recorded at the second and played from there on, and the rest of a run behind guidance.
#[test]
fn recorded_steps_are_the_steps() {
    let _turn = turn();
    let config = UNetConfig::from_json(UNET).unwrap();
    let model = UNet2DConditionModel::new(&config, &Device::flex());
    let (whole, half) = (Course::steps(12), Course::steps(12).guided_until(Some(0.5)));
    for (rule, course, plays) in [
        ("none", &whole, 11),
        ("none", &half, 10),
        ("deepcache:interval=2,branch=0", &whole, 10),
        ("encoder-propagation:keys=0+2+4+6+8+10", &whole, 10),
        // Behind batches the store is not where a recording would read it.
        (
            "encoder-propagation:keys=0+1+2+5+8+11,parallel=2",
            &whole,
            2,
        ),
    ] {
        for gpu in gpus().0 {
            let model = model.clone().to_device(gpu.device());
            let run = |graphs| {
                let rule = rule.parse().unwrap();
                denoise(&config, model.clone(), rule, course, gpu.device(), graphs)
            };
            let ((expected, plain), (found, account)) = (run(false), run(true));
            let expected = expected.into_data();
            found
                .into_data()
                .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
            assert_eq!(
                (plain.played, account.played),
                (0, plays),
                "{rule} on {gpu}"
            );
            assert_eq!(
                (plain.cells, plain.store_bytes),
                (account.cells, account.store_bytes)
            );
        }
    }
}

/// Guided steps from seeded noise, their launches recorded if `graphs` says so.
fn denoise(
    config: &UNetConfig,
    model: UNet2DConditionModel,
    rule: CacheRule,
    course: &Course,
    device: &Device,
    graphs: bool,
) -> (Tensor<4>, Account) {
    let unet = UNet::new(config.clone(), model);
    let context = normals([1, 2, TOKENS, WIDTH], device).squeeze_dim(0);
    let sampler = SamplerConfig::from_json(SCHEDULER, "test".as_ref())
        .unwrap()
        .build(course.evaluations(), 0.0)
        .unwrap();
    let run = unet.start(&Conditioning::of_context(context), sampler.evaluations());
    let blueprint = config.blueprint(Extent {
        height: SIDE,
        width: SIDE,
        tokens: TOKENS,
    });
    let plan = rule.plan(course, &blueprint).unwrap();
    let mut session = Session::new(&unet, &run, &plan, Rows::new(2, 1));
    if graphs {
        session = session.with_step_graphs();
    }
    let denoise = Denoise {
        sampler: sampler.as_ref(),
        plan: &plan,
        guidance: Guidance {
            scale: 4.0,
            rescale: 0.5,
            ..Guidance::default()
        },
        prior_noise: rule.noise,
        known: None,
    };
    let mut noise = SeededNoise::new(&Seeds::One(5), device);
    let latents = noise.draw([1, 4, SIDE, SIDE]);
    let latents = denoise.run(&mut session, latents, &mut noise, &mut ());
    (latents.unwrap(), session.account())
}

/// The kernels of a step are what one more of them adds to cubecl's log: `docs/records/kernels-unet.md`.
#[test]
#[ignore = "for the log of kernels; `AFTERIMAGE_STEPS` says how many steps"]
fn steps_for_the_log_of_kernels() {
    let steps = std::env::var("AFTERIMAGE_STEPS").unwrap().parse().unwrap();
    let config = UNetConfig::from_json(UNET).unwrap();
    let source = weights_like(&UNet2DConditionModel::new(&config, &Device::flex()));
    for gpu in gpus().0 {
        let model = UNet2DConditionModel::new(&config, gpu.device());
        let model = load_strict(model, &source, "unet", DType::F32).unwrap();
        let rule = CacheRule::none();
        let graphs = std::env::var_os("AFTERIMAGE_STEP_GRAPHS").is_some();
        let course = Course::steps(steps);
        let (latents, _) = denoise(&config, model, rule, &course, gpu.device(), graphs);
        latents.into_data();
    }
}

/// A file with small values for the parameters of `model`.
fn weights_like(model: &UNet2DConditionModel) -> WeightSource {
    let wave = |count: usize| (0..count).flat_map(|i| ((i as f32).sin() * 0.1).to_le_bytes());
    let tensors = shapes(model).into_iter().map(|(name, shape)| {
        let bytes = wave(shape.iter().product()).collect::<Vec<u8>>();
        (name, shape, bytes)
    });
    let tensors = tensors.collect::<Vec<_>>();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    WeightSource::from_static(bytes.leak(), "test").unwrap()
}

#[test]
fn decoding_agrees_with_the_cpu() {
    let config = VaeConfig::new(serde_json::from_str(VAE).unwrap()).unwrap();
    let vae = AutoencoderKl::new(config, &Device::flex());
    compare("decode", &vae, |vae, device| {
        vae.decode(normals([1, 4, SIDE, SIDE], device), Tiling::Never)
    });
}

#[test]
fn text_encoding_agrees_with_the_cpu() {
    let config = ClipTextConfig::new(&serde_json::from_str(CLIP).unwrap()).unwrap();
    let encoder = ClipTextModel::new(&config, &Device::flex());
    compare("text", &encoder, |encoder, _| {
        encoder.states(&[vec![1, 2, 3, 15]], 0)
    });
}

/// One shape a kernel; the kernels that are tuned for half a minute a shape are left to `afterimage doctor`.
#[test]
fn the_doctor_finds_nothing() {
    const QUICK: [Kernel; 4] = [
        Kernel::Convolution,
        Kernel::Geglu,
        Kernel::GroupNorm,
        Kernel::LayerNorm,
    ];
    let _turn = turn();
    for gpu in gpus().0 {
        let mut checks = doctor::checks(&gpu, &[]);
        checks.retain(|check| QUICK.contains(&check.kernel()));
        let dtypes = doctor::dtypes(gpu.dtype(None).unwrap());
        let examination = doctor::examine(&gpu, &dtypes, &checks, |_| {});
        assert!(!examination.findings.is_empty());
        for finding in &examination.findings {
            assert!(finding.is_right(), "{gpu}: {finding:?}");
        }
    }
}

/// Tensors name the device as it was opened, so that what is quarantined there is replaced.
#[test]
fn quarantines_reach_tensors() {
    let _turn = turn();
    for gpu in gpus().0 {
        let tensor = Tensor::<1>::zeros([4], gpu.device());
        let asked = || quarantine::fallback(&tensor.device(), DType::BF16, Kernel::Column);
        let mut quarantine = Quarantine::default();
        quarantine.insert(Kernel::Column, DType::BF16, Fallback::Widened);
        quarantine::set(gpu.device(), quarantine);
        assert_eq!(asked(), Some(Fallback::Widened));
        quarantine::set(gpu.device(), Quarantine::default());
        assert_eq!(asked(), None);
    }
}
