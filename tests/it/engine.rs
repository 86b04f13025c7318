//! The engine: one model, many runs.

use std::{ops::ControlFlow, path::Path};

use afterimage::{
    ErrorKind,
    denoise::{Observer, Progress},
    device::{DeviceChoice, DtypeChoice},
    engine::{Cancel, Engine, EngineOptions, Finished, Watched, plan},
    image_io::save_item,
    pipeline::{Effort, Recipe},
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, fixture};

fn recipe(said: Value) -> Recipe {
    let mut whole = json!({"version": 1});
    let more = said.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(more);
    Recipe::from_json(&whole.to_string()).unwrap()
}

fn opened(said: Value) -> Engine {
    let options = EngineOptions {
        recipe: recipe(said),
        device: DeviceChoice::Cpu,
        ..EngineOptions::default()
    };
    Engine::open(&options, &mut ()).unwrap()
}

fn model() -> String {
    fixture("sd15/model").display().to_string()
}

fn tiny() -> Engine {
    opened(json!({"model": {"name": model()}}))
}

/// A run of the tiny model.
fn fox() -> Recipe {
    recipe(json!({"prompts": ["a fox"], "seed": 3, "steps": 3, "sampler": "ddim"}))
}

fn run(engine: &Engine, recipe: &Recipe) -> Finished {
    engine.run(recipe, &Cancel::default(), &mut ()).unwrap()
}

fn values(engine: &Engine, recipe: &Recipe) -> Vec<f32> {
    run(engine, recipe).generated.values().unwrap()
}

fn refused(engine: &Engine, said: Value) -> afterimage::Error {
    let refused = engine.run(&recipe(said), &Cancel::default(), &mut ());
    refused.expect_err("a refusal")
}

fn lora() -> String {
    let lora = Fixture::committed("sd15-lora").file("lora_diffusers.safetensors");
    lora.display().to_string()
}

#[test]
fn a_finished_run_says_what_makes_it_again() {
    let engine = tiny();
    let first = run(&engine, &fox());
    let settled = first.recipe;
    assert_eq!(settled.model.name.as_deref(), Some(engine.model()));
    assert!(settled.model.hash.is_some() && settled.size.is_some());
    assert_eq!(settled.dtype.map(DtypeChoice::name), Some("f32"));
    let again = run(&engine, &settled);
    assert_eq!(
        again.generated.values().unwrap(),
        first.generated.values().unwrap()
    );
    assert_eq!(again.recipe, settled);
    assert_eq!((first.reports.len(), first.generated.frames), (1, 1));
}

#[test]
fn silent_seeds_are_drawn_and_noted() {
    let engine = tiny();
    let recipe = recipe(json!({"prompts": ["a fox"], "steps": 2}));
    let one = run(&engine, &recipe);
    assert!(one.recipe.seed.is_some());
    assert_eq!(
        values(&engine, &one.recipe),
        one.generated.values().unwrap()
    );
    assert_ne!(run(&engine, &recipe).recipe.seed, one.recipe.seed);
}

#[test]
fn adapters_of_a_run_leave_nothing_behind() {
    let engine = tiny();
    let plain = values(&engine, &fox());
    let with = Recipe {
        loras: recipe(json!({"loras": [{"file": {"path": lora()}}]})).loras,
        ..fox()
    };
    let adapted = values(&engine, &with);
    assert_ne!(adapted, plain);
    assert_eq!(values(&engine, &fox()), plain);
    let loaded = opened(json!({
        "model": {"name": model()},
        "loras": [{"file": {"path": lora()}}],
    }));
    assert_eq!(values(&loaded, &fox()), adapted);
}

#[test]
fn threads_wait_for_their_turn() {
    let engine = tiny();
    let [one, other] = [3, 4].map(|seed| {
        let seed = recipe(json!({"seed": seed})).seed;
        Recipe { seed, ..fox() }
    });
    let expected = [values(&engine, &one), values(&engine, &other)];
    let made = std::thread::scope(|scope| {
        let threads = [&one, &other].map(|recipe| scope.spawn(|| values(&engine, recipe)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(made, expected);
}

/// Begins a run within the run.
struct Nesting<'a> {
    engine: &'a Engine,
    said: Vec<String>,
}

impl Observer for Nesting<'_> {
    fn progress(&mut self, _progress: &Progress<'_>) -> ControlFlow<()> {
        let within = self.engine.run(&fox(), &Cancel::default(), &mut ());
        self.said
            .extend(within.err().map(|error| error.to_string()));
        ControlFlow::Continue(())
    }
}

#[test]
fn a_run_within_a_run_is_refused() {
    let engine = &tiny();
    let plain = values(engine, &fox());
    let said = Vec::new();
    let mut observer = Nesting { engine, said };
    let made = engine.run(&fox(), &Cancel::default(), &mut observer);
    assert_eq!(made.unwrap().generated.values().unwrap(), plain);
    assert_eq!(observer.said.len(), 3);
    assert!(
        observer.said[0].contains("within another on its model\nhint: "),
        "{:?}",
        observer.said
    );
    assert_eq!(values(engine, &fox()), plain);
}

/// Cancels at a step.
struct Stopping<'a> {
    cancel: &'a Cancel,
    now: bool,
    steps: usize,
}

impl Observer for Stopping<'_> {
    fn progress(&mut self, _progress: &Progress<'_>) -> ControlFlow<()> {
        self.steps += 1;
        if self.now {
            self.cancel.now();
        } else {
            self.cancel.after_this();
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn runs_are_cancelled_now_or_afterwards() {
    let engine = tiny();
    let plain = values(&engine, &fox());
    let stopped = |now: bool| {
        let cancel = &Cancel::default();
        let mut observer = Stopping {
            cancel,
            now,
            steps: 0,
        };
        let ended = engine.run(&fox(), cancel, &mut observer);
        let next = engine.run(&fox(), cancel, &mut ());
        assert!(next.is_err_and(|error| error.is_cancelled()));
        (ended, observer.steps)
    };
    let (ended, steps) = stopped(true);
    assert!(ended.is_err_and(|error| error.kind() == ErrorKind::Cancelled));
    assert_eq!(steps, 1);
    let (ended, steps) = stopped(false);
    assert_eq!(ended.unwrap().generated.values().unwrap(), plain);
    assert_eq!(steps, 3);
    assert_eq!(values(&engine, &fox()), plain);
}

#[test]
fn an_engine_keeps_to_its_model() {
    let engine = tiny();
    for said in [
        json!({"model": {"name": "elsewhere"}}),
        json!({"model": {"vae": "another"}}),
        json!({"model": {"prediction": "v"}}),
    ] {
        let error = refused(&engine, said);
        assert!(error.is_request());
        let message = error.message();
        assert!(message.starts_with("the recipe asks for `"), "{message}");
        assert!(error.hint().is_some());
    }
    let error = refused(&engine, json!({"model": {"hash": "0000000000000000"}}));
    assert!(error.message().contains("other weights"), "{error}");
    let hash = run(&engine, &fox()).recipe.model.hash;
    let known =
        json!({"model": {"name": "elsewhere", "hash": hash}, "prompts": ["a fox"], "steps": 1});
    assert_eq!(
        run(&engine, &recipe(known)).recipe.model.name,
        Some(model())
    );
}

#[test]
fn what_does_not_fit_is_refused_and_harms_nothing() {
    let engine = tiny();
    let plain = values(&engine, &fox());
    assert!(refused(&engine, json!({"prompts": ["a fox"], "steps": 0})).is_request());
    // Refused before anything is made of that size.
    let error = refused(&engine, json!({"prompts": ["a fox"], "steps": usize::MAX}));
    assert!(error.is_request(), "{error}");
    assert!(refused(&engine, json!({"classes": [1]})).is_request());
    let absent = json!([{"file": {"path": "absent.safetensors"}}]);
    let absent = refused(&engine, json!({"prompts": ["a fox"], "loras": absent}));
    assert!(absent.is_file(), "{absent:?}");
    assert_eq!(values(&engine, &fox()), plain);
}

#[cfg(feature = "cli")]
#[test]
fn the_program_makes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (output, model) = (folder.path().join("fox.png"), model());
    let arguments = ["generate", "a fox", "--seed", "3", "--steps", "3"];
    let rest = ["--device", "cpu", "--model", &model];
    let output_option = ["--output", output.to_str().unwrap()];
    let all = arguments.iter().chain(&rest).chain(&output_option);
    let ending = crate::cli::afterimage(all);
    assert_eq!(ending.code, Some(0), "{}", ending.shown());
    let theirs = Recipe::read(Path::new(&output)).unwrap();
    let made = run(&tiny(), &theirs);
    assert_eq!(made.recipe, theirs);
    let written = afterimage::image_io::Picture::read(&output).unwrap();
    assert_eq!(made.generated.pictures().unwrap(), [written]);
}

#[cfg(feature = "cli")]
#[test]
fn plans_are_those_of_the_program() {
    let model = model();
    let rule = "deepcache:interval=2,branch=0";
    let mut asked = json!({"model": {"name": model}, "prompts": ["a fox"]});
    (asked["steps"], asked["sampler"], asked["cache"]) = (5.into(), "ddim".into(), rule.into());
    let text = plan(&recipe(asked), &mut ()).unwrap();
    let ours: Value = serde_json::from_str(&text).unwrap();
    let arguments = ["plan", "--model", &model, "--steps", "5"];
    let rest = ["--sampler", "ddim", "--cache", rule, "--json"];
    let ending = crate::cli::afterimage(arguments.iter().chain(&rest));
    let theirs: Value = serde_json::from_str(&ending.stdout).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(ours["spans"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_file_keeps_what_the_program_writes_into_its_own() {
    let engine = tiny();
    let made = run(&engine, &fox());
    let keys: Vec<_> = made.texts.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys[..3], ["Software", "prompt", "seed"]);
    let (last, text) = made.texts.last().unwrap();
    assert_eq!((last.as_str(), text), ("recipe", &made.recipe.to_json()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fox.png");
    save_item(
        &made.generated.pictures().unwrap(),
        made.fps,
        &path,
        &made.texts,
    )
    .unwrap();
    assert_eq!(Recipe::read(&path).unwrap(), made.recipe);
}

#[test]
fn a_plan_is_calibrated_on_the_model_in_memory() {
    let engine = tiny();
    let watched = Watched {
        recipe: recipe(json!({"steps": 2, "sampler": "ddim"})),
        prompts: vec!["a fox".into()],
        seeds: vec![1, 2],
        ..Watched::default()
    };
    let rules = || vec!["deepcache:branch=0".parse().unwrap()];
    let go = Cancel::default();
    let calibrate = |cancel: &Cancel| engine.calibrate(&watched, (rules(), 2), cancel, &mut ());
    let plan = calibrate(&go).unwrap();
    assert_eq!((plan.steps, plan.pictures, plan.gap), (2, 2, 2));
    assert_eq!(plan.curves.len(), 1);
    let quick = Watched {
        effort: Effort::Quick,
        ..watched.clone()
    };
    let quick = engine.calibrate(&quick, (rules(), 2), &go, &mut ());
    let quick = quick.unwrap();
    assert_eq!((plan.compared, quick.compared), (None, Some(1)));
    assert_eq!(quick.pictures, 2);
    go.now();
    assert!(calibrate(&go).is_err_and(|error| error.is_cancelled()));
    let nothing = Watched {
        seeds: Vec::new(),
        ..watched.clone()
    };
    let none = engine.calibrate(&nothing, (rules(), 2), &Cancel::default(), &mut ());
    assert!(none.is_err_and(|error| error.is_request()));
    assert_eq!(values(&engine, &fox()), values(&tiny(), &fox()));
}
