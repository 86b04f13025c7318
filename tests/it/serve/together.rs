//! Requests of one kind as one run: the same pictures as alone, and nobody notices the others.

use serde_json::{Value, json};

use super::{Served, long};

fn small(prompt: &str, seed: u64) -> Value {
    json!({"prompts": [prompt], "seed": seed, "steps": 6, "size": [64, 64]})
}

/// A server that is busy, so that what comes next waits; and the job it is busy with.
fn busy() -> (Served, Value) {
    let served = Served::start(&["--together", "4"]);
    let first = served.job(&long());
    served.until(&first["id"], |job| job["step"].as_u64() > Some(0));
    (served, first)
}

fn stop(served: &Served, job: &Value) {
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(served.ask("DELETE", &path).answer().status, 200);
}

fn bytes(served: &Served, job: &Value) -> Vec<u8> {
    served.get(job["images"][0]["url"].as_str().unwrap()).bytes
}

#[test]
fn requests_of_one_kind_are_one_run_and_the_same_pictures() {
    let (served, first) = busy();
    let recipes = [
        small("a red circle", 7),
        small("a blue ring above a green cross", 8),
        small("", 9),
    ];
    let mut jobs = vec![served.job(&recipes[0])];
    let mut other = small("a red circle", 7);
    other["steps"] = 4.into();
    let other = served.job(&other);
    jobs.extend(recipes[1..].iter().map(|recipe| served.job(recipe)));
    stop(&served, &first);
    let together: Vec<_> = jobs.iter().map(|job| served.ended(&job["id"])).collect();
    let other = served.ended(&other["id"]);
    assert_eq!(
        (&other["state"], &other["work"]["together"]),
        (&json!("done"), &json!(1))
    );
    for (job, recipe) in together.iter().zip(&recipes) {
        assert_eq!(job["work"]["together"], 3, "{job}");
        assert_eq!(job["recipe"]["seed"], recipe["seed"]);
        let alone = served.ended(&served.job(recipe)["id"]);
        assert_eq!(alone["work"]["together"], 1);
        assert_eq!(job["recipe"], alone["recipe"]);
        assert!(bytes(&served, job) == bytes(&served, &alone), "{recipe}");
    }
}

#[test]
fn one_that_is_stopped_leaves_and_the_others_go_on() {
    let (served, first) = busy();
    let recipe = |seed: u64| {
        let mut recipe = small("a red circle", seed);
        recipe["steps"] = 60.into();
        recipe
    };
    let jobs = [1, 2, 3].map(|seed| served.job(&recipe(seed)));
    stop(&served, &first);
    served.until(&jobs[1]["id"], |job| job["step"].as_u64() > Some(0));
    stop(&served, &jobs[1]);
    assert_eq!(served.ended(&jobs[1]["id"])["state"], "cancelled");
    let [one, _, other] = jobs.map(|job| served.ended(&job["id"]));
    for job in [&one, &other] {
        assert_eq!(
            (&job["state"], &job["work"]["together"]),
            (&json!("done"), &json!(3))
        );
    }
    let alone = served.ended(&served.job(&recipe(3))["id"]);
    assert!(bytes(&served, &other) == bytes(&served, &alone));
}

#[test]
fn a_run_whose_clients_have_all_left_ends() {
    let (served, first) = busy();
    let mut recipe = long();
    recipe["size"] = json!([64, 64]);
    let jobs = [1, 2].map(|_| served.job(&recipe));
    stop(&served, &first);
    served.until(&jobs[0]["id"], |job| job["step"].as_u64() > Some(0));
    for job in &jobs {
        stop(&served, job);
        assert_eq!(served.ended(&job["id"])["state"], "cancelled");
    }
    let next = served.ended(&served.job(&small("a red circle", 7))["id"]);
    assert_eq!(next["state"], "done");
}

/// What a model says of a prompt is for whoever wrote the prompt.
#[test]
fn words_about_one_prompt_are_told_to_nobody_else() {
    let (served, first) = busy();
    let plain = served.job(&small("a red circle", 7));
    let strange = served.job(&small("a red zebra", 8));
    stop(&served, &first);
    let [plain, strange] = [plain, strange].map(|job| served.ended(&job["id"]));
    assert_eq!(plain["warnings"], json!([]));
    assert!(
        strange["warnings"].to_string().contains("zebra"),
        "{strange}"
    );
    for job in [plain, strange] {
        assert_eq!(
            (&job["state"], &job["work"]["together"]),
            (&json!("done"), &json!(1))
        );
    }
}
