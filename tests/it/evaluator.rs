//! Evaluations on the model of an engine: shards that are made anywhere are the whole.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use afterimage::{
    device::DeviceChoice,
    engine::{Engine, EngineOptions},
    evaluation::{Evaluator, Instruments, Joined, Results, Sampling, Shard, measure},
    pipeline::Recipe,
};

use crate::fixture::fixture;

fn results(folders: &[PathBuf]) -> Results {
    let joined = Joined::open(folders).unwrap();
    measure(&joined, &Instruments::default(), |_, _| {}).unwrap()
}

/// Shards that two engines make into two folders are what one makes into one, but for the time they take.
#[test]
fn an_engine_makes_its_share() {
    let evaluator = || {
        let said = serde_json::json!({
            "version": 1, "steps": 2, "batch": 2, "sampler": "ddim",
            "model": {"name": fixture("sd15/model").display().to_string()},
        });
        let recipe = Recipe::from_json(&said.to_string()).unwrap();
        let options = EngineOptions {
            recipe: recipe.clone(),
            device: DeviceChoice::Cpu,
            ..EngineOptions::default()
        };
        let sampling = Sampling {
            recipe,
            rules: vec!["deepcache:interval=2,branch=0".parse().unwrap()],
            samples: 5,
            seed: 7,
            prompts: Some(vec!["a fox".into(), "a hen".into()]),
            ..Sampling::default()
        };
        let engine = Arc::new(Engine::open(&options, &mut ()).unwrap());
        Evaluator::new(engine, &sampling).unwrap()
    };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [one, other, whole] = folders.each_ref().map(|folder| folder.path().to_owned());
    let fill = |evaluator: &Evaluator, folder: &Path, shard| {
        evaluator.fill(folder, shard, &mut (), |_| {}).unwrap().done
    };
    let [first, second] = [1, 2].map(|number| Shard { number, of: 2 });
    assert_eq!(fill(&evaluator(), &one, first), 2);
    let last = evaluator();
    assert_eq!(fill(&last, &other, second), 1);
    assert_eq!(fill(&last, &whole, Shard::ALL), 3);
    assert_eq!(fill(&last, &whole, Shard::ALL), 3);
    let (shared, alone) = (results(&[one, other]), results(&[whole]));
    assert_eq!(shared.study, alone.study);
    let kept = |results: &Results| -> Vec<_> {
        let outcomes = results.outcomes.iter();
        outcomes
            .map(|it| (it.mean_squared_error, it.float_psnr, it.ssim))
            .collect()
    };
    assert_eq!(kept(&shared), kept(&alone));
    assert!(shared.outcomes.len() > 2 && shared.outcomes[1].mean_squared_error > 0.0);
}
