//! Scheduler configurations inside model folders: what a pipeline makes of them.

use std::fs;
use std::path::Path;

use afterimage::catalog::ModelFolder;
use afterimage::denoise::Observer;
use afterimage::pipeline::{Pipeline, Request};
use afterimage::samplers::SamplerConfig;
use burn::tensor::{DType, Device};
use serde_json::{Value, json};

use super::read;
use crate::fixture::{fixture, values};

/// A copy of the Stable Diffusion fixture's model whose scheduler has these keys; `null` takes one out.
fn model(keys: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("sd15/model"), folder.path());
    let path = folder.path().join("scheduler/scheduler_config.json");
    let mut config = read(&path);
    let entries = config.as_object_mut().unwrap();
    for (key, value) in keys.as_object().unwrap() {
        match value {
            Value::Null => entries.remove(key),
            value => entries.insert(key.clone(), value.clone()),
        };
    }
    fs::write(path, config.to_string()).unwrap();
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Keeps what it is warned of.
#[derive(Default)]
struct Listener(Vec<String>);

impl Observer for Listener {
    fn warn(&mut self, message: &str) {
        self.0.push(message.to_owned());
    }
}

/// The picture of a short run, and what the run said.
fn run(folder: &Path, sampler: Option<&str>) -> (Vec<f32>, Vec<String>) {
    let folder = ModelFolder::open(folder.to_str().unwrap()).unwrap();
    let pipeline = Pipeline::load(&folder, &Device::flex(), DType::F32).unwrap();
    let request = Request {
        steps: Some(3),
        sampler: sampler.map(|word| word.parse().unwrap()),
        ..Request::new("a fox")
    };
    let mut listener = Listener::default();
    let generated = pipeline.generate(&request, &mut listener).unwrap();
    (values(generated.images), listener.0)
}

/// Source: kohya-ss/sd-scripts#1432, huggingface/diffusers#1545.
#[test]
fn a_folder_that_is_silent_makes_the_picture_of_one_that_is_not() {
    let ddim =
        json!({"_class_name": "DDIMScheduler", "skip_prk_steps": null, "clip_sample": false});
    let mut silent = ddim.clone();
    (silent["clip_sample"], silent["steps_offset"]) = (Value::Null, Value::Null);
    let (plain, silent) = (model(&ddim), model(&silent));
    let (expected, _) = run(plain.path(), None);
    let (found, said) = run(silent.path(), None);
    assert!(found == expected);
    let told = |key: &str| said.iter().filter(|line| line.contains(key)).count();
    assert_eq!(
        (told("`clip_sample`"), told("`steps_offset`")),
        (1, 1),
        "{said:?}"
    );
    // Under another sampler too.
    let (expected, _) = run(plain.path(), Some("heun"));
    assert!(run(silent.path(), Some("heun")).0 == expected);
}

/// Source: huggingface/diffusers#5448, leejet/stable-diffusion.cpp#36.
#[test]
fn folders_ask_for_samplers_of_distilled_models() {
    for (class, word) in [("LCMScheduler", "lcm"), ("TCDScheduler", "tcd")] {
        let folder = model(&json!({"_class_name": class}));
        let (own, said) = run(folder.path(), None);
        let (asked, quiet) = run(folder.path(), Some(word));
        assert!(own == asked, "{class}");
        // The index names PNDM still.
        let other = |lines: &[String]| {
            lines
                .iter()
                .any(|line| line.contains("`model_index.json` names"))
        };
        assert!(other(&said), "{said:?}");
        assert!(!other(&quiet), "{quiet:?}");
    }
}

/// Betas are held to what a schedule can be made of; all that were published are.
#[test]
fn published_schedules_are_read() {
    let mut count = 0;
    for folder in ["models", "tests/fixtures"] {
        schedules(Path::new(folder), &mut count);
    }
    assert!(count > 40, "{count} schedules");
}

fn schedules(folder: &Path, count: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            schedules(&path, count);
        } else if path.ends_with("scheduler_config.json") {
            let config = SamplerConfig::read(&path).unwrap();
            let schedule = config.schedule();
            schedule.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            *count += 1;
        }
    }
}
