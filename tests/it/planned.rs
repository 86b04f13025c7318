//! Calibrated plans: they come out the same twice, and what they pick runs as an ordinary rule.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use afterimage::cache::{Budget, CacheRule, Curve, PlanFile, Refresh};
use afterimage::catalog::ModelFolder;
use afterimage::image_io::Picture;
use afterimage::metrics::{float_error, float_psnr};
use afterimage::pipeline::{
    Calibration, Edit, Effort, ModelConfig, PLAN_FILE, Pipeline, Request, Seeds, Subject,
};
use afterimage::{Error, samplers::SamplerKind};
use burn::tensor::{DType, Device};

const STEPS: usize = 8;

fn bundled() -> Pipeline {
    Pipeline::load(
        &ModelFolder::bundled().unwrap(),
        &Device::flex(),
        DType::F32,
    )
    .unwrap()
}

fn request(cache: &str) -> Request {
    Request {
        subject: Subject::Prompts(vec!["a red circle above a blue square".into()]),
        seeds: Seeds::Each(vec![7]),
        steps: Some(STEPS),
        cache: cache.parse().unwrap(),
        ..Request::new("")
    }
}

fn calibrated(model: &Pipeline, gap: usize) -> PlanFile {
    of_rule(model, "deepcache:interval=2,branch=0,forecast=linear", gap)
}

fn of_rule(model: &Pipeline, rule: &str, gap: usize) -> PlanFile {
    model.plan(&asked(rule, gap), &mut ()).unwrap()
}

fn asked(rule: &str, gap: usize) -> Calibration {
    Calibration {
        model: ModelFolder::bundled().unwrap().weights_hash().unwrap(),
        rules: vec![rule.parse().unwrap()],
        requests: vec![request("none")],
        gap,
        effort: Effort::Thorough,
    }
}

/// One calibration for all tests of its file.
static PLAN: LazyLock<PlanFile> = LazyLock::new(|| calibrated(&bundled(), 4));

/// The plan as a file in `folder`.
fn written(folder: &Path, plan: &str) -> String {
    let path = folder.join("plan.json");
    fs::write(&path, plan).unwrap();
    path.display().to_string()
}

fn config() -> ModelConfig {
    ModelConfig::read(&ModelFolder::bundled().unwrap()).unwrap()
}

#[test]
fn calibrating_twice_gives_the_same_file() {
    let again = calibrated(&bundled(), 4);
    assert_eq!(again.to_json(), PLAN.to_json());
    let read = PlanFile::from_json(&again.to_json(), "plan").unwrap();
    assert_eq!(read, *PLAN);
    let points = &PLAN.curves[0].points;
    assert_eq!(points.first().unwrap().refreshes.len(), STEPS.div_ceil(4));
    let last = points.last().unwrap();
    assert_eq!(
        (last.refreshes.len(), last.speedup, last.error),
        (STEPS, 1.0, 0.0)
    );
    let errors: Vec<f64> = points.iter().map(|point| point.error).collect();
    assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
    let closest = points
        .iter()
        .filter_map(|point| point.psnr)
        .fold(0.0, f64::max);
    let farthest = points
        .iter()
        .filter_map(|point| point.psnr)
        .fold(70.0, f64::min);
    assert!(closest > farthest + 3.0, "{closest} {farthest}");
    assert!(
        PLAN.fewer_steps
            .iter()
            .any(|fewer| fewer.sampler == "dpmsolver++")
    );
}

/// Forecasts that look further back get the schedules of the line, as far as those reach their order, and are measured by themselves.
#[test]
fn higher_orders_are_measured_on_schedules_of_the_line() {
    let plan = of_rule(&bundled(), "deepcache:branch=0,forecast=taylor:2", 4);
    let [curve, line] = [&plan.curves[0], &PLAN.curves[0]];
    assert_eq!(curve.rule, "deepcache:branch=0,at=0,forecast=taylor:2");
    let lists = |curve: &Curve| -> Vec<Vec<usize>> {
        curve
            .points
            .iter()
            .map(|point| point.refreshes.clone())
            .collect()
    };
    assert_eq!(lists(curve), lists(line)[1..]);
    assert_eq!(lists(curve)[0].len(), 3);
    let found = |curve: &Curve| {
        curve
            .points
            .iter()
            .filter_map(|point| point.psnr)
            .collect::<Vec<f64>>()
    };
    assert_ne!(found(curve), found(line)[..found(curve).len()]);
    let chosen = plan.choose(Budget::Speedup(1.5)).unwrap();
    let mut asked = request("none");
    asked.cache = chosen.rule;
    assert!(asked.resolve(&config()).is_ok());
}

/// What a shorter bound on gaps costs: nothing where the best schedule keeps it, and never a gain.
#[test]
fn a_shorter_gap_is_never_better() {
    let tight = calibrated(&bundled(), 2);
    for point in &tight.curves[0].points {
        let wide = PLAN.curves[0].points.iter();
        let mut wide = wide.filter(|wide| wide.refreshes.len() == point.refreshes.len());
        let wide = wide.next().expect("the wider bound has it too");
        assert!(wide.error <= point.error * 1.001, "{wide:?} {point:?}");
    }
    assert!(tight.curves[0].points[0].speedup < PLAN.curves[0].points[0].speedup);
}

/// What measuring less costs: the schedules found so are as close to the plain run as the best ones, within a decibel.
#[test]
fn a_quick_calibration_finds_schedules_as_good() {
    let model = bundled();
    let asked = Calibration {
        effort: Effort::Quick,
        ..asked("deepcache:interval=2,branch=0,forecast=linear", 4)
    };
    let quick = model.plan(&asked, &mut ()).unwrap();
    assert!(
        quick.curves[0]
            .points
            .iter()
            .filter(|point| point.psnr.is_some())
            .count()
            >= 2
    );
    assert!(quick.fewer_steps.len() < PLAN.fewer_steps.len());
    let folder = tempfile::tempdir().unwrap();
    let plain = model.generate(&request("none"), &mut ()).unwrap();
    let plain = plain.values().unwrap();
    for speed in [1.3, 1.6, 2.0] {
        let psnr = [&*PLAN, &quick].map(|plan| {
            let file = written(folder.path(), &plan.to_json());
            let asked = request(&format!("auto:speedup={speed},plan={file}"));
            let made = model.generate(&asked, &mut ()).unwrap();
            float_psnr(float_error(&plain, &made.values().unwrap()))
        });
        assert!(psnr[1] > psnr[0] - 1.0, "{speed}: {psnr:?}");
    }
}

#[test]
fn what_is_picked_runs_as_it_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), &PLAN.to_json());
    let asked = request(&format!("auto:speedup=1.5,plan={file}"));
    let (settled, note) = asked.settled(&config()).unwrap();
    assert_eq!(
        settled.cache,
        asked.settled(&config()).unwrap().0.cache,
        "it is deterministic"
    );
    let note = note.unwrap();
    assert!(
        note.contains("dB from the plain run") && note.contains(&file),
        "{note}"
    );
    let Refresh::At(refreshes) = &settled.cache.refresh else {
        panic!("{}", settled.cache)
    };
    let resolved = settled.resolve(&config()).unwrap();
    assert_eq!(resolved.plan.refreshes().collect::<Vec<_>>(), *refreshes);
    let generated = bundled().generate(&asked, &mut ()).unwrap();
    assert_eq!(generated.report.account.cells, resolved.forecast(4).cells);
    let again = bundled().generate(&settled, &mut ()).unwrap();
    assert_eq!(generated.values().unwrap(), again.values().unwrap());
}

/// What is picked can be held to a bound, as any rule can: one that no forecast keeps refreshes wherever it may, a wide one changes nothing.
#[test]
fn what_is_picked_can_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), &PLAN.to_json());
    let model = bundled();
    let run = |options: &str| {
        let asked = request(&format!("auto:speedup=2,plan={file}{options}"));
        model.generate(&asked, &mut ()).unwrap()
    };
    let (planned, wide, strict) = (run(""), run(",verify=1e9"), run(",verify=1e-9"));
    assert_eq!(wide.values().unwrap(), planned.values().unwrap());
    assert_eq!(wide.report.account.cells, planned.report.account.cells);
    let plain = model.generate(&request("none"), &mut ()).unwrap();
    let cells =
        [&planned, &strict, &plain].map(|made| made.report.account.cells.iter().sum::<usize>());
    assert!(cells[0] < cells[1] && cells[1] <= cells[2], "{cells:?}");
    let beyond = request(&format!("auto:psnr=70,plan={file},verify=0.1"));
    assert!(beyond.resolve(&config()).is_ok(), "the plain run, verified");
}

/// A run from a picture makes the last steps alone, and its plan is the last part.
#[test]
fn a_plan_is_cut_to_the_steps_really_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), &PLAN.to_json());
    let rule = format!("auto:speedup=2,plan={file}");
    let whole = request(&rule);
    let (whole, _) = whole.settled(&config()).unwrap();
    let picture = Picture::from_fn(128, 128, |x, y| [x as u8, y as u8, 0]);
    let half = Request {
        edit: Some(Edit::new(picture).with_strength(0.5)),
        ..request(&rule)
    };
    let (half, _) = half.settled(&config()).unwrap();
    let (Refresh::At(whole), Refresh::At(half)) = (&whole.cache.refresh, &half.cache.refresh)
    else {
        panic!("{} {}", whole.cache, half.cache)
    };
    let skipped = STEPS / 2;
    let expected: Vec<usize> = whole
        .iter()
        .filter_map(|at| at.checked_sub(skipped))
        .collect();
    assert_eq!(*half, expected);
}

/// Nothing is left of the list where fewer evaluations are made than lie between its last refresh and the end: the first that is made is
/// computed in full, and the rule can be read again.
#[test]
fn a_plan_of_which_nothing_is_left_is_still_a_rule() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = PLAN.clone();
    for point in plan.curves.iter_mut().flat_map(|curve| &mut curve.points) {
        point.refreshes.retain(|&at| at < STEPS - 1);
    }
    let file = written(folder.path(), &plan.to_json());
    let picture = Picture::from_fn(128, 128, |x, y| [x as u8, y as u8, 0]);
    let last = Request {
        edit: Some(Edit::new(picture).with_strength(1.0 / STEPS as f64)),
        ..request(&format!("auto:speedup=2,plan={file}"))
    };
    let (last, _) = last.settled(&config()).unwrap();
    assert_eq!(last.cache.refresh, Refresh::At(vec![0]));
    let text = last.cache.to_string();
    let again: CacheRule = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again.refresh, last.cache.refresh);
}

#[test]
fn plans_of_other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let json = PLAN.to_json();
    let refused = |plan: &str, change: fn(&mut Request), words: &[&str]| {
        let file = written(folder.path(), plan);
        let mut request = request(&format!("auto:speedup=1.5,plan={file}"));
        change(&mut request);
        let error = request.resolve(&config()).unwrap_err();
        assert!(error.is_plan() || error.is_file(), "{error}");
        let found = error.to_string();
        for word in words {
            assert!(found.contains(word), "no `{word}` in {found}");
        }
    };
    let steps = |request: &mut Request| request.steps = Some(9);
    refused(
        &json,
        steps,
        &["is for 8 steps, and this is 9 steps", "--steps 8"],
    );
    let sampler = |request: &mut Request| request.sampler = "euler".parse::<SamplerKind>().ok();
    refused(&json, sampler, &["is for ddim, and this is euler"]);
    let other = json.replace(&PLAN.model, "0123456789abcdef");
    refused(&other, |_| {}, &["weights `0123456789abcdef`"]);
    refused(&json[..json.len() / 2], |_| {}, &["cut short"]);
    let broken = |from: &str, to: &str, words: &[&str]| {
        assert!(json.contains(from), "{from}");
        let named = [words, &["plan.json` is no plan"]].concat();
        refused(&json.replace(from, to), |_| {}, &named);
    };
    broken(
        "\"sampler\": \"ddim\"",
        "\"sampler\": \"dimm\"",
        &["there is no sampler `dimm`"],
    );
    broken(
        "\"evaluations\": 8",
        "\"evaluations\": 16",
        &["is called 16 times", "8 steps of ddim call it 8 times"],
    );
    broken("branch=0", "branch=99", &["branch 99 does not exist"]);
    let later = json.replace("\"afterimage_plan\": 1", "\"afterimage_plan\": 7");
    refused(&later, |_| {}, &["version 7", "later release"]);
    let fast = |request: &mut Request| {
        request.cache.auto.as_mut().unwrap().budget = Budget::Speedup(99.0);
    };
    refused(
        &json,
        fast,
        &[
            "nothing reaches `speedup=99`",
            "the nearest is `auto:speedup=",
        ],
    );
}

/// A model without a plan for a run takes the default of its family, and says so; a closeness needs a measurement.
#[test]
fn without_a_calibration_the_family_has_a_default() {
    let folder = ModelFolder::open_configs("DiT-XL-2-256").unwrap();
    let model = ModelConfig::read(&folder).unwrap();
    let mut request = Request::of_classes([207]);
    request.cache = "auto:speedup=1.7".parse().unwrap();
    let (settled, note) = request.settled(&model).unwrap();
    assert_eq!(
        settled.cache.to_string(),
        "dit-propagation:cut=27,every=2,forecast=linear"
    );
    assert!(note.unwrap().contains("the default of the family"));
    let speedup = settled.resolve(&model).unwrap().forecast(1).speedup();
    assert!(speedup >= 1.7, "{speedup}");
    request.cache = "auto:psnr=40".parse().unwrap();
    let error: Error = request.settled(&model).unwrap_err();
    assert!(
        error.to_string().contains("needs a calibrated plan"),
        "{error}"
    );
    request.cache = "auto:speedup=50".parse().unwrap();
    let error = request.settled(&model).unwrap_err().to_string();
    assert!(error.contains("the nearest is `auto:speedup="), "{error}");
}

/// The bundled model brings its plan; other steps than it is for are no failure.
#[test]
fn the_bundled_model_has_a_plan() {
    let mut request = request("auto:speedup=2.4");
    request.steps = None;
    assert!(ModelFolder::bundled().unwrap().has(PLAN_FILE));
    let (name, plan) = request.calibrated(&config()).unwrap().expect("a plan");
    assert!(name.ends_with(PLAN_FILE));
    let (settled, _) = request.settled(&config()).unwrap();
    assert_ne!(settled.cache, CacheRule::none());
    assert!(plan.steps == 30 && settled.resolve(&config()).unwrap().steps == 30);
    request.steps = Some(20);
    let (settled, note) = request.settled(&config()).unwrap();
    let note = note.unwrap();
    assert!(
        note.contains("its own is for 30 steps, and this is 20 steps"),
        "{note}"
    );
    assert_eq!(
        settled.cache.to_string(),
        "deepcache:branch=0,interval=4,forecast=linear"
    );
}

/// Plans lie beside the weights that they were measured with.
#[test]
fn models_beside_the_code_have_plans_of_their_own() {
    for name in ["scenes", "scenes-dit", "fashion-ddpm", "scenes-film"] {
        let folder = ModelFolder::open(&crate::fixture::shipped(name).to_string_lossy()).unwrap();
        let plan = folder.read_json(PLAN_FILE).unwrap();
        let plan = PlanFile::from_json(&plan, name).unwrap();
        assert_eq!(plan.model, folder.weights_hash().unwrap(), "{name}");
        let fastest = plan.curves.iter().flat_map(|curve| &curve.points);
        let fastest = fastest.map(|point| point.speedup).fold(1.0, f64::max);
        assert!(fastest > 2.0, "{name}: {fastest}");
    }
}

#[test]
fn rules_that_pick_read_as_they_are_written() {
    for text in [
        "auto:speedup=2",
        "auto:psnr=41.5",
        "auto:seconds=20",
        "auto:speedup=2,plan=a.json",
    ] {
        let rule: CacheRule = text.parse().unwrap();
        assert_eq!(rule.to_string(), text);
    }
    for (text, words) in [
        ("auto", "needs `speedup`"),
        ("auto:speedup=0.5", "at least 1"),
        ("auto:psnr=80", "at most 70"),
        ("auto:seconds=0", "above 0"),
        ("auto:seconds=9,psnr=40", "exclude each other"),
        ("auto:speedup=2,psnr=40", "exclude each other"),
        (
            "auto:speedup=2,forecast=linear",
            "picks the forecast itself",
        ),
        (
            "auto:speedup=2;deepcache",
            "`deepcache:branch=0,interval=3` and a rule that is picked (`auto`, `--budget`, `--psnr`) do not go together",
        ),
    ] {
        let error = text.parse::<CacheRule>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}
