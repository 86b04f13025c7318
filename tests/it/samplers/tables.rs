//! The samplers of long runs against diffusers' tables.

use afterimage::noise::{BetaSchedule, NoiseSchedule};
use afterimage::sampler::Sampler;
use serde_json::Value;

use super::{TABLE, TRAJECTORY, assert_near, config, distance, numbers, tables};

const CLASSES: [&str; 9] = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
];

/// The rows of the classes there are here, with a name for messages.
fn rows(table: &Value) -> Vec<(String, &Value)> {
    let rows = table["rows"].as_array().unwrap().iter();
    let ours = rows.filter(|row| CLASSES.contains(&row["class"].as_str().unwrap()));
    ours.map(|row| {
        let name = format!(
            "{} {} {} steps {}",
            row["class"], row["config"], row["steps"], row["step_kwargs"]
        );
        (name, row)
    })
    .collect()
}

/// The key of a row that is refused on purpose.
fn refused_key(row: &Value) -> Option<&'static str> {
    let keys = &row["config"];
    // diffusers takes the root of a logarithm here: NaN from the first step on.
    let nan = keys["variance_type"] == "fixed_large_log";
    nan.then_some("variance_type")
}

/// The sampler of a row, or `None` after checking that it is refused as it should be.
fn sampler(name: &str, row: &Value) -> Option<Box<dyn Sampler>> {
    let steps = row["steps"].as_u64().unwrap() as usize;
    let eta = row["step_kwargs"]["eta"].as_f64().unwrap_or(0.0);
    let built = config(row["class"].as_str().unwrap(), &row["config"]).build(steps, eta);
    let Some(key) = refused_key(row) else {
        return Some(built.unwrap_or_else(|error| panic!("{name}: {error}")));
    };
    let error = built.expect_err(name);
    assert!(
        error.is_config() && error.to_string().contains(&format!("`{key}`")),
        "{name}: {error}"
    );
    None
}

#[test]
fn schedules_are_those_of_diffusers() {
    for table in tables("schedulers.json") {
        for (name, entry) in table["alphas"].as_object().unwrap() {
            let (start, end) = (
                entry["beta_start"].as_f64().unwrap(),
                entry["beta_end"].as_f64().unwrap(),
            );
            let schedule = match name.as_str() {
                "linear" => BetaSchedule::Linear { start, end },
                "scaled_linear" => BetaSchedule::ScaledLinear { start, end },
                _ => BetaSchedule::SquaredCosine,
            };
            let schedule = NoiseSchedule::new(&schedule, 1000);
            let betas: Vec<f64> = schedule.betas().collect();
            let zero = schedule.with_zero_terminal_snr();
            let columns = [
                ("betas", betas.as_slice()),
                ("alphas_cumprod", schedule.alpha_bars()),
                ("alphas_cumprod_zero_snr", zero.alpha_bars()),
            ];
            for (column, values) in columns {
                let expected = numbers(&entry[column]);
                for (index, expected) in numbers(&entry["index"]).into_iter().zip(expected) {
                    let tolerance = if column.ends_with("snr") { 2e-5 } else { TABLE };
                    assert_near(
                        values[index as usize],
                        expected,
                        tolerance,
                        &format!("{name} {column} {index}"),
                    );
                }
            }
        }
    }
}

#[test]
fn timesteps_and_sigmas_are_those_of_diffusers() {
    for table in tables("schedulers.json") {
        for (name, row) in rows(&table) {
            let Some(sampler) = sampler(&name, row) else {
                continue;
            };
            let timesteps = numbers(&row["timesteps"]);
            assert_eq!(sampler.evaluations().len(), timesteps.len(), "{name}");
            // Fractional ones come from logarithms of f32 sigmas; whole ones are exact.
            let whole = timesteps.iter().all(|timestep| timestep.fract() == 0.0);
            let tolerance = if whole { 0.0 } else { 2e-6 };
            for (evaluation, expected) in sampler.evaluations().iter().zip(&timesteps) {
                assert_near(evaluation.timestep, *expected, tolerance, &name);
            }
            assert_near(
                sampler.initial_noise_scale(),
                row["init_noise_sigma"].as_f64().unwrap(),
                TABLE,
                &name,
            );
            if row.get("sigmas").is_some() {
                let sigmas = numbers(&row["sigmas"]);
                for (index, expected) in sigmas.iter().take(timesteps.len()).enumerate() {
                    let level = sampler.noise_level(index);
                    assert_near(level.sigma / level.alpha, *expected, TABLE, &name);
                }
            }
        }
    }
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let mut checked = 0;
    for table in tables("scheduler_steps.json") {
        for (name, row) in rows(&table) {
            // Churn is an argument of diffusers' Euler step that no configuration sets.
            let churned = row["step_kwargs"].get("s_churn").is_some();
            if churned || row.get("error").is_some() {
                continue;
            }
            let Some(sampler) = sampler(&name, row) else {
                continue;
            };
            let worst = distance(sampler.as_ref(), row, &name);
            assert!(
                worst < TRAJECTORY,
                "{name}: off by {worst:.2e} standard deviations"
            );
            checked += 1;
        }
    }
    assert!(checked >= 80, "only {checked} rows checked");
}
