//! The samplers of flow matching: diffusers' table, and which models they sample.

use afterimage::noise::Prediction;
use afterimage::sampler::Sampler;
use afterimage::samplers::SamplerConfig;
use serde_json::{Value, json};

use super::{
    TABLE, TRAJECTORY, assert_near, config, distance, kind, latent_diffusion, numbers, tables,
};

fn name(row: &Value) -> String {
    format!(
        "{} {} {} steps {}",
        row["class"], row["config"], row["steps"], row["set_timesteps"]
    )
}

/// The image tokens for which the pipelines' line gives `mu`, where that is a whole number of them.
fn tokens(table: &Value, mu: f64) -> usize {
    let listed = table["mu"].as_array().unwrap().iter();
    let mut near = listed.filter(|entry| {
        let same = (entry["mu"].as_f64().unwrap() - mu).abs() < 1e-9;
        same && entry["max_shift"] == 1.15
    });
    near.next().unwrap()["image_tokens"].as_u64().unwrap() as usize
}

/// The configuration of a row; `mu` comes from a size in its place where the table has one, and else from a base.
fn of_row(table: &Value, row: &Value) -> SamplerConfig {
    let mut keys = row["config"].clone();
    let mu = row["set_timesteps"]["mu"].as_f64();
    let listed = mu.filter(|mu| [0.5, 0.63, 1.15].contains(mu));
    if listed.is_none() && mu.is_some() {
        (keys["base_shift"], keys["max_shift"]) = (mu.into(), mu.into());
    }
    let mut made = config(row["class"].as_str().unwrap(), &keys);
    if row["set_timesteps"]["sigmas"] == "flux" {
        made = made.repaired_for("FluxPipeline");
    }
    match (mu, listed) {
        (None, _) => made,
        (Some(_), None) => made.with_tokens(64),
        (Some(_), Some(mu)) => made.with_tokens(tokens(table, mu)),
    }
}

fn check_schedule(name: &str, row: &Value, sampler: &dyn Sampler) {
    let timesteps = numbers(&row["timesteps"]);
    assert_eq!(sampler.evaluations().len(), timesteps.len(), "{name}");
    let whole = row["config"].get("use_flow_sigmas").is_some();
    for (evaluation, expected) in sampler.evaluations().iter().zip(&timesteps) {
        let tolerance = if whole { 0.0 } else { TABLE };
        assert_near(evaluation.timestep, *expected, tolerance, name);
    }
    let rises = row["config"]["invert_sigmas"] == true;
    for (index, expected) in numbers(&row["sigmas"])[..timesteps.len()]
        .iter()
        .enumerate()
    {
        let level = sampler.noise_level(index);
        let found = if rises { level.alpha } else { level.sigma };
        assert!(
            (found - expected).abs() < TABLE,
            "{name}: {found} is not {expected}"
        );
        assert!((level.alpha + level.sigma - 1.0).abs() < 1e-12, "{name}");
    }
    assert_eq!(sampler.initial_noise_scale(), 1.0, "{name}");
}

#[test]
fn the_table_is_that_of_diffusers() {
    let (mut checked, mut failures) = (0, Vec::new());
    for table in tables("flow_schedulers.json") {
        // Churn is an argument of diffusers' Heun step that no configuration and no pipeline sets.
        let churned = |row: &&Value| row["step_kwargs"].get("s_churn").is_some();
        let rows = table["rows"].as_array().unwrap().iter();
        for row in rows.filter(|row| !churned(row)) {
            let name = name(row);
            let steps = row["steps"].as_u64().unwrap() as usize;
            let built = of_row(&table, row).build(steps, 0.0);
            let sampler = built.unwrap_or_else(|error| panic!("{name}: {error}"));
            if row.get("error").is_some() {
                // One step cannot end at a noise level above 0 and at 0: it goes from pure noise to none.
                assert_eq!((steps, sampler.noise_level(0).sigma), (1, 1.0), "{name}");
                continue;
            }
            check_schedule(&name, row, sampler.as_ref());
            if row.get("samples").is_some() {
                let worst = distance(sampler.as_ref(), row, &name);
                if worst > TRAJECTORY {
                    failures.push(format!("{name}: off by {worst:.2e} standard deviations"));
                }
            }
            checked += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked >= 40, "only {checked} rows checked");
}

/// The line of the published pipelines, through the shift that it makes of the second of two steps.
#[test]
fn a_shift_grows_with_the_size() {
    for table in tables("flow_schedulers.json") {
        for entry in table["mu"].as_array().unwrap() {
            let keys = json!({"use_dynamic_shifting": true, "max_shift": entry["max_shift"], "num_train_timesteps": 4});
            let tokens = entry["image_tokens"].as_u64().unwrap() as usize;
            let model = config("FlowMatchEulerDiscreteScheduler", &keys).with_tokens(tokens);
            let sigma = model.build(2, 0.0).unwrap().noise_level(1).sigma;
            let shift = entry["mu"].as_f64().unwrap().exp();
            assert_near(sigma, shift / (shift + 3.0), 1e-8, &entry.to_string());
        }
    }
}

fn flow_model() -> SamplerConfig {
    config("FlowMatchEulerDiscreteScheduler", &json!({"shift": 3.0}))
}

#[test]
fn a_flow_keeps_its_shift_under_other_samplers() {
    let model = flow_model();
    assert_eq!(model.prediction().unwrap(), Prediction::Flow);
    for word in ["flow-heun", "unipc", "dpmsolver++", "dpmsolver++-sde"] {
        let taken = model.clone().with_kind(kind(word));
        let sigma = |config: &SamplerConfig| config.build(2, 0.0).unwrap().noise_level(1).sigma;
        let parts = match word {
            "flow-heun" => 0.001 * 3.0 / 1.002,
            "unipc" => 0.5005,
            _ => 0.4995,
        };
        let shifted = 3.0 * parts / (1.0 + 2.0 * parts);
        assert_near(sigma(&taken), shifted, 1e-6, word);
        // There and back.
        let back = taken.with_kind(kind("flow-euler"));
        assert_eq!(sigma(&back), sigma(&model), "{word}");
    }
}

#[test]
fn samplers_and_models_of_other_kinds_are_refused() {
    let refused = |config: SamplerConfig, word: &str| {
        let error = config.with_kind(kind(word)).build(4, 0.0).expect_err(word);
        assert!(error.is_config(), "{word}: {error}");
        error.to_string()
    };
    for word in ["ddim", "euler", "pndm", "lcm", "ddpm"] {
        assert_eq!(
            refused(flow_model(), word),
            "`prediction_type` is `flow_prediction`, which is not supported\nhint: models that predict a flow are sampled by \
             flow-euler, flow-heun, dpmsolver++ and unipc"
        );
    }
    for (word, key) in [
        ("unipc-karras", "use_karras_sigmas"),
        ("dpmsolver++-beta", "use_beta_sigmas"),
        ("deis", "use_flow_sigmas"),
    ] {
        let said = refused(flow_model(), word);
        assert!(said.starts_with(&format!("`{key}` is `true`")), "{said}");
    }
    for word in ["flow-euler", "flow-heun", "flow-euler-karras"] {
        assert_eq!(
            refused(latent_diffusion(), word),
            "`prediction_type` is `epsilon`, which is not supported\nhint: flow-euler and flow-heun sample models that predict a \
             flow: flow_prediction"
        );
    }
}

#[test]
fn shifts_that_are_none_are_refused() {
    let message = |keys: Value| {
        let model = config("FlowMatchEulerDiscreteScheduler", &keys);
        model.build(4, 0.0).expect_err("refused").to_string()
    };
    for (keys, expected) in [
        (json!({"shift": 0.0}), "`shift` is `0`"),
        (json!({"shift": -2.5}), "`shift` is `-2.5`"),
        (json!({"shift_terminal": 1.0}), "`shift_terminal` is `1`"),
        (
            json!({"use_dynamic_shifting": true}),
            "`use_dynamic_shifting` is `true`",
        ),
        (
            json!({"stochastic_sampling": true, "invert_sigmas": true}),
            "`stochastic_sampling` is `true`",
        ),
    ] {
        let said = message(keys);
        assert!(said.starts_with(expected), "{said}");
    }
    let keys =
        json!({"use_dynamic_shifting": true, "base_image_seq_len": 64, "max_image_seq_len": 64});
    let equal = config("FlowMatchEulerDiscreteScheduler", &keys).with_tokens(128);
    assert!(equal.build(4, 0.0).is_err());
}
