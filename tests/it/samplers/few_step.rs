//! The samplers for few steps, and other sigmas: diffusers' table, and whole runs.

use afterimage::sampler::Sampler;
use serde_json::Value;

use super::{TABLE, TRAJECTORY, assert_near, config, distance, numbers, tables};
use crate::fixture::Fixture;
use crate::golden;
use crate::tested;

/// What no run of ours asks for: TCD's `original_inference_steps` and the consistency pipelines' `strength` as arguments of a call,
/// which mean another schedule than the configuration's; churn, which no configuration sets.
fn is_left_out(row: &Value) -> bool {
    let arguments = &row["set_timesteps"];
    let other_schedule =
        arguments.get("original_inference_steps").is_some() && row["class"] == "TCDScheduler";
    other_schedule
        || arguments.get("strength").is_some()
        || row["step_kwargs"].get("s_churn").is_some()
}

fn name(row: &Value) -> String {
    format!(
        "{} {} {} steps {} {}",
        row["class"], row["config"], row["steps"], row["set_timesteps"], row["step_kwargs"]
    )
}

fn sampler(row: &Value) -> Result<Box<dyn Sampler>, afterimage::Error> {
    let mut keys = row["config"].clone();
    if let Some(steps) = row["set_timesteps"].get("original_inference_steps") {
        keys["original_inference_steps"] = steps.clone();
    }
    if let Some(listed) = row["set_timesteps"].get("timesteps") {
        let usual = numbers(&row["timesteps"]);
        assert_eq!(numbers(listed), usual, "others than those of the steps");
    }
    // What the class takes where a call is silent; the pipelines of both sides give 0 then.
    let silent = if row["class"] == "TCDScheduler" {
        0.3
    } else {
        0.0
    };
    let eta = row["step_kwargs"]["eta"].as_f64().unwrap_or(silent);
    let steps = row["steps"].as_u64().unwrap() as usize;
    config(row["class"].as_str().unwrap(), &keys).build(steps, eta)
}

/// `LCMScheduler` with `timesteps=[800]`, as Hyper-SD's card has it; more steps are those of the schedule.
#[test]
fn a_run_of_one_step_begins_where_it_is_told() {
    let keys = serde_json::json!({"first_timestep": 800});
    let begins = |steps| {
        let sampler = config("LCMScheduler", &keys).build(steps, 0.0).unwrap();
        sampler.evaluations()[0].timestep
    };
    assert_eq!((begins(1), begins(2)), (800.0, 999.0));
    let beyond = serde_json::json!({"first_timestep": 1000});
    let error = config("LCMScheduler", &beyond).build(1, 0.0).unwrap_err();
    assert!(error.to_string().contains("`first_timestep`"), "{error}");
}

/// Two evaluations a step: the table lists the sigma of the step's end for the second, which lies in the middle.
fn evaluates_middles(row: &Value) -> bool {
    row["class"].as_str().unwrap().starts_with("KDPM2")
}

fn check_schedule(name: &str, row: &Value, sampler: &dyn Sampler) {
    let timesteps = numbers(&row["timesteps"]);
    assert_eq!(sampler.evaluations().len(), timesteps.len(), "{name}");
    for (evaluation, expected) in sampler.evaluations().iter().zip(&timesteps) {
        // Fractional ones come from logarithms of f32 sigmas, those of middles from f32 throughout; whole ones would be off by 1.
        let tolerance = if evaluates_middles(row) {
            5e-4
        } else {
            2e-6 * expected.abs().max(1.0)
        };
        let off = (evaluation.timestep - expected).abs();
        assert!(
            off <= tolerance,
            "{name}: {} is not {expected}",
            evaluation.timestep
        );
    }
    let scale = row["init_noise_sigma"].as_f64().unwrap();
    assert_near(sampler.initial_noise_scale(), scale, TABLE, name);
    let step = if evaluates_middles(row) { 2 } else { 1 };
    if let Some(sigmas) = row.get("sigmas").map(numbers) {
        for index in (0..timesteps.len()).step_by(step) {
            let level = sampler.noise_level(index);
            // Powers in f32 there.
            let powers = row["class"] == "EDMDPMSolverMultistepScheduler";
            let tolerance = if powers { 5.0 * TABLE } else { TABLE };
            assert_near(level.sigma / level.alpha, sigmas[index], tolerance, name);
        }
    }
    let drawn = row.get("draws_at").map(numbers).unwrap_or_default();
    for index in 0..timesteps.len() {
        let draws = drawn.contains(&(index as f64));
        assert_eq!(
            sampler.draws_noise(index),
            draws,
            "{name}: draws at {index}"
        );
    }
}

/// A step down from sigma 4096, which stands for pure noise, takes differences of such numbers in f32: measured are 5.6e-4.
fn tolerance(row: &Value) -> f64 {
    let exploding = row["class"].as_str().unwrap().starts_with("Euler");
    let from_pure_noise = exploding && row["config"]["rescale_betas_zero_snr"] == true;
    if from_pure_noise { 1e-3 } else { TRAJECTORY }
}

#[test]
fn the_table_is_that_of_diffusers() {
    let (mut checked, mut failures) = (0, Vec::new());
    for table in tables("few_step_schedulers.json") {
        let rows = table["rows"].as_array().unwrap().iter();
        for row in rows.filter(|row| !is_left_out(row)) {
            let name = name(row);
            let built = sampler(row);
            if row.get("error").is_some() {
                assert!(built.expect_err(&name).is_request(), "{name}");
                continue;
            }
            let sampler = built.unwrap_or_else(|error| panic!("{name}: {error}"));
            check_schedule(&name, row, sampler.as_ref());
            let worst = distance(sampler.as_ref(), row, &name);
            if worst > tolerance(row) {
                failures.push(format!("{name}: off by {worst:.2e} standard deviations"));
            }
            checked += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked >= 120, "only {checked} rows checked");
}

/// The committed runs, and with `DeepCache` and encoder propagation the complete ones where they are at hand.
#[test]
fn runs_agree_with_diffusers() {
    let (mut count, mut failures) = (0, Vec::new());
    for fixture in [Fixture::committed("few-step"), Fixture::best("few-step")] {
        let mut pipeline = golden::load(&fixture, &tested::device());
        for case in fixture.cases() {
            if let Err(error) = golden::check_run(&fixture, case, &mut pipeline) {
                failures.push(format!("{}: {error}", case["id"]));
            }
            count += 1;
        }
    }
    let all = failures.join("\n");
    assert!(
        failures.is_empty(),
        "{} of {count} runs\n{all}",
        failures.len()
    );
}
