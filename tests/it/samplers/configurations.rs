//! Scheduler configurations: what is read, what is repaired, and what is refused.

use std::path::Path;

use afterimage::noise::Prediction;
use afterimage::sampler::History;
use afterimage::samplers::{SamplerConfig, SamplerKind};
use burn::tensor::Tensor;
use serde_json::{Value, json};

use super::{config, kind, latent_diffusion, tensor, values};

#[test]
fn a_pure_noise_start_cannot_be_read_by_its_noise() {
    let keys = serde_json::json!({"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"});
    let error = config("DDIMScheduler", &keys)
        .build(4, 0.0)
        .expect_err("must fail");
    assert!(
        error
            .to_string()
            .starts_with("`prediction_type` is `epsilon`"),
        "{error}"
    );
}

#[test]
fn infinities_are_read_bare_and_quoted() {
    for infinity in ["-Infinity", "\"-Infinity\"", "-5.1"] {
        let text = format!(
            r#"{{"_class_name": "DPMSolverMultistepScheduler", "flow_shift": NaN, "_note": "-Infinity NaN",
                "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": {infinity}, "sigma_data": Infinity}}"#
        );
        let config = SamplerConfig::from_json(&text, Path::new("scheduler_config.json")).unwrap();
        let first = config.build(10, 0.0).unwrap().evaluations()[0].timestep;
        let clipped = infinity == "-5.1";
        assert_eq!(first < 999.0, clipped, "{infinity}: starts at {first}");
    }
}

#[test]
fn a_learned_variance_is_dropped_or_used() {
    let keys = serde_json::json!({"clip_sample": false, "variance_type": "learned_range"});
    let mut samples = Vec::new();
    for variance in [-1.0, 1.0] {
        let sampler = config("DDPMScheduler", &keys).build(4, 0.0).unwrap();
        let mean = tensor(&[0.5; 4]);
        let both = Tensor::cat(vec![mean.clone(), mean.full_like(variance)], 1); // [1, 2, 2, 2]
        let sample = tensor(&[1.0; 4]);
        let noise = Some(tensor(&[1.0; 4]));
        samples.push(values(&sampler.step(&mut History::default(), both, 0, sample, noise))[0]);
    }
    let fixed = |kind: &str| {
        let keys = serde_json::json!({"clip_sample": false, "variance_type": kind});
        let sampler = config("DDPMScheduler", &keys).build(4, 0.0).unwrap();
        let (mean, sample, noise) = (
            tensor(&[0.5; 4]),
            tensor(&[1.0; 4]),
            Some(tensor(&[1.0; 4])),
        );
        values(&sampler.step(&mut History::default(), mean, 0, sample, noise))[0]
    };
    // The ends of the range are the two fixed variances.
    assert!((samples[0] - fixed("fixed_small")).abs() < 1e-6);
    assert!((samples[1] - fixed("fixed_large")).abs() < 1e-6);

    let ddim = config("DDIMScheduler", &serde_json::json!({}))
        .build(4, 0.0)
        .unwrap();
    let both = tensor(&[0.5; 4]).repeat_dim(1, 2);
    let next = ddim.step(&mut History::default(), both, 0, tensor(&[1.0; 4]), None);
    assert_eq!(next.dims(), [1, 1, 2, 2]);
}

#[test]
fn errors_name_the_key_and_the_choices() {
    let message = |class: &str, key: &str, value: Value| {
        let keys = serde_json::json!({ key: value });
        config(class, &keys)
            .build(10, 0.0)
            .expect_err(key)
            .to_string()
    };
    assert_eq!(
        message("DDIMScheduler", "prediction_type", "flow".into()),
        "`prediction_type` is `flow`, which is not supported\nhint: known are epsilon, v_prediction, sample, flow_prediction"
    );
    let noise = message(
        "DPMSolverMultistepScheduler",
        "algorithm_type",
        "dpmsolver".into(),
    );
    let said = "`final_sigmas_type` is `zero`, which is not supported\nhint: solvers of noise predictions need sigma_min; or choose \
                another sampler with `--sampler`: ddim, ddim-quad, pndm, ";
    assert!(noise.starts_with(said), "{noise}");
    assert!(
        message("UniPCMultistepScheduler", "use_flow_sigmas", true.into())
            .contains("`use_flow_sigmas`")
    );
    assert!(
        message(
            "EulerDiscreteScheduler",
            "interpolation_type",
            "log_linear".into()
        )
        .contains("`interpolation_type`")
    );
    assert!(message("DDIMScheduler", "beta_schedule", "cubic".into()).contains("`beta_schedule`"));
    for (steps, eta) in [(0, 0.0), (2000, 0.0), (10, 1.5), (10, f64::NAN)] {
        let error = latent_diffusion().build(steps, eta).expect_err("must fail");
        assert!(error.is_request(), "{steps} steps, eta {eta}: {error}");
    }
}

/// What is proposed for a flow samples flows.
#[test]
fn samplers_without_sigmas_of_a_flow_point_to_those_that_have_them() {
    let keys = json!({"shift": 3.0});
    let flow = config("FlowMatchEulerDiscreteScheduler", &keys);
    let message = |word: &str| {
        let refused = flow.clone().with_kind(kind(word)).build(4, 0.0);
        refused.expect_err(word).to_string()
    };
    let those =
        "models that predict a flow are sampled by flow-euler, flow-heun, dpmsolver++ and unipc";
    for word in [
        "deis",
        "dpmsolver-singlestep",
        "euler",
        "lcm",
        "unipc-karras",
        "dpmsolver++-beta",
    ] {
        let said = message(word);
        assert!(said.ends_with(those), "{word}: {said}");
    }
    assert!(message("unipc-karras").starts_with("`use_karras_sigmas` is `true`"));
    for word in ["unipc", "dpmsolver++", "flow-euler-karras"] {
        assert!(
            flow.clone().with_kind(kind(word)).build(4, 0.0).is_ok(),
            "{word}"
        );
    }
}

/// As in diffusers, which looks at them only where sigmas are laid out.
#[test]
fn ends_of_sigmas_that_are_not_laid_out_do_not_count() {
    for class in ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"] {
        let build = |keys: &Value| config(class, keys).build(1, 0.0);
        let plain = build(&json!({})).unwrap();
        let with_ends = build(&json!({"sigma_min": 0.0, "sigma_max": 1e-3})).unwrap();
        assert_eq!(format!("{plain:?}"), format!("{with_ends:?}"), "{class}");
        let laid_out = json!({"sigma_min": 0.0, "use_karras_sigmas": true});
        let said = build(&laid_out).expect_err(class).to_string();
        assert!(said.starts_with("`sigma_min` is `0`"), "{said}");
    }
}

#[test]
fn two_layouts_of_sigmas_are_told_of() {
    let notes = |keys: &Value| config("EulerDiscreteScheduler", keys).notes();
    let both = notes(&json!({"use_karras_sigmas": true, "use_beta_sigmas": true}));
    let [told] = &both[..] else {
        panic!("{both:?}");
    };
    assert!(
        told.ends_with("do not go together: `use_karras_sigmas` is taken"),
        "{told}"
    );
    assert!(told.contains("`use_beta_sigmas`"), "{told}");
    assert!(notes(&json!({"use_karras_sigmas": true, "use_beta_sigmas": false})).is_empty());
    let asked = json!({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true, "use_beta_sigmas": true});
    let asked = SamplerConfig::from_json(&asked.to_string(), Path::new("test")).unwrap();
    assert!(asked.with_kind(kind("euler-beta")).notes().is_empty());
}

/// Preconditioned networks and consistency models are sampled by their own kind alone.
#[test]
fn samplers_of_other_networks_are_told_of() {
    let notes = |class: &str, word: &str| config(class, &json!({})).with_kind(kind(word)).notes();
    for (class, word, told) in [
        ("EulerDiscreteScheduler", "edm-euler", true),
        ("EulerDiscreteScheduler", "consistency", true),
        ("EDMDPMSolverMultistepScheduler", "euler-karras", true),
        ("EDMDPMSolverMultistepScheduler", "edm-euler", false),
        ("EulerDiscreteScheduler", "dpmsolver++", false),
        ("EulerDiscreteScheduler", "lcm", false),
    ] {
        let notes = notes(class, word);
        let found = notes
            .iter()
            .any(|note| note.ends_with("pictures may be noise"));
        assert_eq!(found, told, "{class} by {word}: {notes:?}");
    }
}

#[test]
fn steps_beyond_those_of_distillation_are_told_as_such() {
    for class in ["LCMScheduler", "TCDScheduler"] {
        let said = config(class, &json!({})).build(60, 0.0).expect_err(class);
        assert_eq!(
            said.to_string(),
            "60 steps do not fit the 50 steps the model was distilled on\nhint: ask for at most 50"
        );
    }
}

/// What the command line says of a word it does not know, and of a model's sampler that is not built.
#[test]
fn unknown_samplers_point_to_known_ones() {
    let words = "ddim, ddim-quad, pndm, ddpm, dpmsolver, dpmsolver++, dpmsolver++-sde, dpmsolver-singlestep, euler, euler-a, heun, \
                 dpm2, dpm2-a, unipc, deis, lms, lcm, tcd, consistency, edm-euler, edm-dpmsolver++, flow-euler, flow-heun; dpmsolver, dpmsolver++, \
                 dpmsolver++-sde, dpmsolver-singlestep, euler, heun, dpm2, dpm2-a, unipc, deis, lms, flow-euler also end in -karras, \
                 -exponential, -beta";
    let unknown = |word: &str| word.parse::<SamplerKind>().expect_err(word).to_string();
    for word in ["dpm", "restart", "karras-euler", ""] {
        let expected = format!("there is no sampler `{word}`\nhint: choose one of {words}");
        assert_eq!(unknown(word), expected);
    }
    for (word, hint) in [
        (
            "ddim-karras",
            "the nearest is `ddim`, which has no `-karras`",
        ),
        ("euler_a", "it is `euler-a` here"),
        ("Euler", "it is `euler` here"),
    ] {
        let expected = format!("there is no sampler `{word}`\nhint: {hint}");
        assert_eq!(unknown(word), expected);
    }
    let other = config("SASolverScheduler", &json!({}));
    let refused = other.build(4, 0.0).expect_err("must fail").to_string();
    let expected = format!(
        "`_class_name` is `SASolverScheduler`, which is not supported\nhint: choose another sampler with `--sampler`: {words}"
    );
    assert_eq!(refused, expected);
    assert!(other.with_kind(kind("euler")).build(4, 0.0).is_ok());
}

#[test]
fn every_sampler_is_in_the_documentation() {
    let page = crate::fixture::text(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/samplers.md"));
    for kind in SamplerKind::all() {
        assert!(page.contains(&format!("\n| `{kind}` | ")), "{kind}");
    }
}

#[test]
fn words_lay_out_sigmas() {
    let first_two = |word: &str| {
        let sampler = latent_diffusion()
            .with_kind(kind(word))
            .build(8, 0.0)
            .unwrap();
        (sampler.noise_level(0).sigma, sampler.noise_level(1).sigma)
    };
    let (max, usual) = first_two("euler");
    let laid_out = ["euler-karras", "euler-exponential", "euler-beta"].map(first_two);
    assert!(laid_out.iter().all(|(first, _)| (first - max).abs() < 1e-9));
    let [karras, exponential, beta] = laid_out.map(|(_, second)| second);
    assert!(exponential < karras && karras < beta && usual < beta);
    assert!(usual != karras && usual != exponential);
    // The last word counts.
    let again = latent_diffusion()
        .with_kind(kind("heun-beta"))
        .with_kind(kind("lms-karras"));
    assert_eq!(again.name(), "lms-karras");
}

/// diffusers' `StableDiffusionPipeline` and its kin mend configurations that were written before a key was.
#[test]
fn old_configurations_are_repaired_as_pipelines_do() {
    let old = |class: &str, pipeline: &str| {
        let keys =
            json!({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012});
        config(class, &keys).repaired_for(pipeline)
    };
    let clips = |config: &SamplerConfig| {
        let sampler = config.build(4, 0.0).unwrap();
        let far = tensor(&[9.0; 4]);
        let next = sampler.step(&mut History::default(), tensor(&[-9.0; 4]), 3, far, None);
        values(&next)[0] < 2.0
    };
    let first = |config: &SamplerConfig| config.build(4, 0.0).unwrap().evaluations()[0].timestep;
    for (pipeline, offset, clipped, notes) in [
        ("StableDiffusionPipeline", 751.0, false, 2),
        ("StableDiffusionImg2ImgPipeline", 751.0, false, 2),
        ("StableDiffusionInpaintPipeline", 751.0, true, 1),
        ("StableDiffusionControlNetPipeline", 750.0, true, 0),
        ("StableDiffusionXLPipeline", 750.0, true, 0),
        ("DiTPipeline", 750.0, true, 0),
        ("DDPMPipeline", 750.0, true, 0),
    ] {
        let config = old("DDIMScheduler", pipeline);
        assert_eq!(first(&config), offset, "{pipeline}");
        assert_eq!(clips(&config), clipped, "{pipeline}");
        assert_eq!(
            config.notes().len(),
            notes,
            "{pipeline}: {:?}",
            config.notes()
        );
    }
    // The keys go to another sampler with the model, and are told where the file's own class has them: of a PNDM, which does not clip,
    // silence tells nothing.
    let mended = old("PNDMScheduler", "StableDiffusionPipeline");
    assert_eq!(mended.notes().len(), 1, "{:?}", mended.notes());
    let ddim = mended.clone().with_kind(kind("ddim"));
    assert!(!clips(&ddim));
    assert_eq!(ddim.notes(), mended.notes());
    let parallel = old("DDIMParallelScheduler", "StableDiffusionPipeline").with_kind(kind("ddim"));
    assert_eq!(parallel.notes().len(), 2);
    assert_eq!(
        parallel.notes()[1],
        "`clip_sample` is missing in the scheduler's configuration, as in old models; it is taken as `false`"
    );
    let trailing = config(
        "EulerDiscreteScheduler",
        &json!({"timestep_spacing": "trailing"}),
    );
    assert!(
        trailing
            .repaired_for("StableDiffusionPipeline")
            .notes()
            .is_empty()
    );
    // An inpainting pipeline cannot start full PNDM late.
    let pndm = old("PNDMScheduler", "StableDiffusionInpaintPipeline");
    assert_eq!(pndm.build(10, 0.0).unwrap().evaluations().len(), 11);
    assert_eq!(pndm.notes().len(), 2, "{:?}", pndm.notes());
}

#[test]
fn the_class_may_stand_in_the_index_alone() {
    let path = Path::new("scheduler_config.json");
    let read = |class: Option<&str>, text: &str| SamplerConfig::of_class(class, text, path);
    let euler = read(Some("EulerDiscreteScheduler"), "{}").unwrap();
    assert_eq!((euler.name(), euler.notes().len()), ("euler", 0));
    let missing = read(None, "{}").unwrap_err().to_string();
    assert_eq!(
        missing,
        "`_class_name` is missing from the scheduler configuration"
    );
    let both = read(Some("PNDMScheduler"), r#"{"_class_name": "LCMScheduler"}"#).unwrap();
    assert_eq!(both.name(), "lcm");
    assert_eq!(
        both.notes(),
        [
            "the scheduler's configuration is of `LCMScheduler`, which is taken, and `model_index.json` names `PNDMScheduler`"
        ]
    );
    assert!(both.with_kind(kind("euler")).notes().is_empty());
    for (class, word) in [
        ("FlaxPNDMScheduler", "pndm"),
        ("DDIMParallelScheduler", "ddim"),
        ("DDPMParallelScheduler", "ddpm"),
        ("KarrasVeScheduler", "KarrasVeScheduler"),
    ] {
        assert_eq!(config(class, &json!({})).name(), word);
    }
}

#[test]
fn an_old_key_that_is_not_read_is_told() {
    let old = config("DDPMScheduler", &json!({"predict_epsilon": false}));
    assert_eq!(old.prediction().unwrap(), Prediction::Epsilon);
    assert!(
        old.notes()[0].contains("`predict_epsilon`"),
        "{:?}",
        old.notes()
    );
    let both = config(
        "DDPMScheduler",
        &json!({"predict_epsilon": false, "prediction_type": "sample"}),
    );
    assert!(both.notes().is_empty());
}

#[test]
fn what_a_file_says_of_its_model_counts_more() {
    let model = latent_diffusion().with_kind(kind("euler"));
    for prediction in [
        Prediction::Epsilon,
        Prediction::Velocity,
        Prediction::Sample,
    ] {
        let said = model.clone().with_prediction(prediction);
        assert_eq!(said.prediction().unwrap(), prediction);
        assert_eq!(
            said.with_kind(kind("ddim")).prediction().unwrap(),
            prediction
        );
    }
    let zero = model
        .with_prediction(Prediction::Velocity)
        .with_zero_terminal_snr();
    assert_eq!(zero.schedule().unwrap().alpha_bars()[999], 0.0);
    assert_eq!(
        zero.with_kind(kind("ddim"))
            .schedule()
            .unwrap()
            .alpha_bars()[999],
        0.0
    );
}
