//! What holds of every sampler.

use afterimage::samplers::{SamplerKind, Steps};

use super::{config, draws_wanted, kind, latent_diffusion, run, taken_over, to_f32};

const CLASSES: [&str; 17] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "DEISMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "EDMEulerScheduler",
    "EDMDPMSolverMultistepScheduler",
];

#[test]
fn few_steps_and_odd_ends_stay_finite() {
    let options = [
        serde_json::json!({}),
        serde_json::json!({"use_karras_sigmas": true}),
        serde_json::json!({"use_karras_sigmas": true, "final_sigmas_type": "sigma_min"}),
        serde_json::json!({"use_exponential_sigmas": true, "solver_order": 3, "final_sigmas_type": "sigma_min"}),
        serde_json::json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"}),
        serde_json::json!({"use_beta_sigmas": true}),
        serde_json::json!({"solver_order": 3, "solver_type": "heun", "lower_order_final": true}),
    ];
    let draws = vec![vec![0.5; 4]; 40];
    for class in CLASSES {
        for (keys, spacing) in options
            .iter()
            .flat_map(|keys| ["leading", "trailing", "linspace"].map(|spacing| (keys, spacing)))
        {
            for steps in [1, 2, 3, 4, 16] {
                let mut keys = keys.clone();
                keys["timestep_spacing"] = spacing.into();
                keys["skip_prk_steps"] = true.into();
                let sampler = config(class, &keys).build(steps, 0.5).unwrap();
                let wanted = draws_wanted(sampler.as_ref());
                let samples = run(sampler.as_ref(), &[0.3, -1.0, 0.2, 2.0], &draws[..wanted]);
                let finite = samples.iter().flatten().all(|value| value.is_finite());
                assert!(finite, "{class} {keys} {steps} steps: {samples:?}");
            }
        }
    }
}

#[test]
fn a_batch_steps_as_its_items_do() {
    for kind in SamplerKind::all() {
        let sampler = taken_over(kind).build(7, 0.5).unwrap();
        let items = [
            to_f32(&[0.3, -1.0, 0.2, 2.0]),
            to_f32(&[-0.7, 0.1, 1.1, -0.4]),
        ];
        let draws: Vec<Vec<f32>> = (0..13).map(|index| vec![0.1 * index as f32; 4]).collect();
        let doubled: Vec<Vec<f32>> = draws.iter().map(|draw| draw.repeat(2)).collect();
        let wanted = draws_wanted(sampler.as_ref());
        let together = run(sampler.as_ref(), &items.concat(), &doubled[..wanted]);
        let apart = items.map(|item| run(sampler.as_ref(), &item, &draws[..wanted]));
        let apart = [
            apart[0].last().unwrap().clone(),
            apart[1].last().unwrap().clone(),
        ]
        .concat();
        assert_eq!(together.last().unwrap(), &apart, "{kind}");
    }
}

#[test]
fn every_kind_takes_over_a_model() {
    for kind in SamplerKind::all() {
        assert_eq!(kind.name().parse::<SamplerKind>().unwrap(), kind);
        let sampler = taken_over(kind).build(10, 0.0).unwrap();
        let count = sampler.evaluations().len();
        let expected = match kind.name() {
            "heun" | "dpm2" | "dpm2-a" | "flow-heun" => 19,
            "pndm" => 11,
            _ => 10,
        };
        assert_eq!(count, expected, "{kind}");
        let steps: Vec<usize> = (0..count).map(|index| sampler.solver_step(index)).collect();
        let last = if kind.name() == "pndm" { 10 } else { 9 };
        assert_eq!((steps[0], steps[count - 1]), (0, last), "{kind}");
    }
}

#[test]
fn samplers_of_two_evaluations_pair_them() {
    for word in ["heun", "dpm2", "dpm2-a-karras"] {
        let sampler = latent_diffusion()
            .with_kind(kind(word))
            .build(3, 0.0)
            .unwrap();
        let steps: Vec<usize> = (0..5).map(|index| sampler.solver_step(index)).collect();
        assert_eq!(steps, [0, 0, 1, 1, 2], "{word}");
    }
}

/// Evaluations of a whole run whose first steps are left out are its last, at the same noise.
#[test]
fn a_late_start_joins_the_schedule() {
    for kind in SamplerKind::all().filter(|kind| kind.name() != "pndm") {
        let model = taken_over(kind);
        let whole = model.build(10, 0.0).unwrap();
        let late = model
            .build(
                Steps {
                    total: 10,
                    skipped: 4,
                },
                0.0,
            )
            .unwrap();
        let skipped = whole.evaluations().len() - late.evaluations().len();
        assert_eq!(whole.solver_step(skipped), 4, "{kind}");
        for evaluation in late.evaluations() {
            let before = skipped + evaluation.index;
            assert_eq!(
                evaluation.timestep,
                whole.evaluations()[before].timestep,
                "{kind}"
            );
            assert_eq!(
                late.noise_level(evaluation.index),
                whole.noise_level(before),
                "{kind}"
            );
            assert_eq!(
                late.draws_noise(evaluation.index),
                whole.draws_noise(before),
                "{kind}"
            );
        }
        let draws = vec![vec![0.5; 4]; draws_wanted(late.as_ref())];
        let samples = run(late.as_ref(), &[0.3, -1.0, 0.2, 2.0], &draws);
        assert!(
            samples.iter().flatten().all(|value| value.is_finite()),
            "{kind}"
        );
    }
}

#[test]
fn plms_visits_its_second_timestep_twice() {
    let sampler = latent_diffusion().build(50, 0.0).unwrap();
    let timesteps: Vec<f64> = sampler
        .evaluations()
        .iter()
        .take(4)
        .map(|e| e.timestep)
        .collect();
    assert_eq!(timesteps, [981.0, 961.0, 961.0, 941.0]);
    let steps: Vec<usize> = (0..4).map(|index| sampler.solver_step(index)).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
}

#[test]
fn full_pndm_warms_up_in_steps_of_four_evaluations() {
    let full = |steps| config("PNDMScheduler", &serde_json::json!({})).build(steps, 0.0);
    let sampler = full(5).unwrap();
    let steps: Vec<usize> = (0..14).map(|index| sampler.solver_step(index)).collect();
    assert_eq!(steps, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 4]);
    let error = full(3).expect_err("must fail").to_string();
    assert!(error.starts_with("`skip_prk_steps` is `false`"), "{error}");
}
