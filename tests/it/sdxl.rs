//! SDXL: the hand-off to a refiner, costs, and what does not fit.

use afterimage::cache::CacheRule;
use afterimage::catalog::ModelFolder;
use afterimage::denoiser::Blueprint;
use afterimage::pipeline::{Added, ModelConfig, Numbers, Pipeline, Request, Stage, check_refiner};

use crate::fixture::{Fixture, Reference, values};
use crate::golden::{check_run, load};
use crate::parity::Tally;
use crate::tested;
use crate::tolerance::F32_CPU;
use crate::weights::folder;

/// Both stages of every hand-off, the refiner from the reference's latents.
#[test]
fn the_hand_off_agrees_with_diffusers() {
    let mut tally = Tally::default();
    let (bases, refiners) = (Fixture::both("sdxl"), Fixture::both("sdxl-refiner"));
    for (base, refiner) in bases.iter().zip(&refiners) {
        let mut models = [base, refiner].map(|fixture| load(fixture, &tested::device()));
        for (kind, model) in ["txt2img", "img2img_latents"].iter().zip(&mut models) {
            for case in refiner.of_kinds(&[kind]) {
                tally.add(refiner, case, check_run(refiner, case, model));
            }
        }
    }
    tally.finish(16);
}

/// From the prompt to the picture through both models, as the program does it.
#[test]
fn a_request_is_handed_over() {
    let device = tested::device();
    let base = load(&Fixture::committed("sdxl"), &device);
    let refiner = load(&Fixture::committed("sdxl-refiner"), &device);
    check_refiner(base.config(), refiner.config()).unwrap();
    let request = Request {
        steps: Some(5),
        batch: 2,
        cache: CacheRule::deepcache(2, 1),
        ..Request::new("a red fox")
    };
    let run = || {
        let [begin, finish] = request.handed_over(0.6, base.config()).unwrap();
        let begun = base.begin(&begin, &mut ()).unwrap();
        assert_eq!(begun.report.account.refreshes, 2);
        let finish = Request {
            initial_latents: Some(begun.latents),
            ..finish
        };
        // A plan and a store of its own: its first step computes everything.
        let made = refiner.generate(&finish, &mut ()).unwrap();
        let account = &made.report.account;
        assert_eq!(
            (account.refreshes, account.reuses, account.fallbacks),
            (1, 1, 0)
        );
        made.images
    };
    let images = run();
    assert_eq!(images.dims(), [2, 3, 64, 64]);
    assert_eq!(values(images), values(run()), "state leaks between runs");
}

/// Pooled text and numbers belong to every step of a batch of them.
#[test]
fn steps_decoded_in_one_batch_equal_single_ones() {
    let pipeline = load(&Fixture::committed("sdxl"), &tested::device());
    for (batch, guidance) in [(1, 5.0), (2, 5.0), (3, 1.0)] {
        let run = |parallel: usize| {
            let rule: CacheRule = "encoder-propagation:keys=0+1+3".parse().unwrap();
            let request = Request {
                steps: Some(6),
                batch,
                guidance_scale: Some(guidance),
                cache: rule.with_parallel(parallel),
                ..Request::new("a red fox")
            };
            pipeline.generate(&request, &mut ()).unwrap().latents
        };
        let sequential = run(1);
        let reference = Reference::from(sequential);
        let outcome = reference.compare(run(3), tested::tolerance(F32_CPU));
        outcome.unwrap_or_else(|error| panic!("{batch} pictures: {error}"));
    }
}

#[test]
fn sizes_and_second_prompts_change_the_picture() {
    let pipeline = load(&Fixture::committed("sdxl"), &tested::device());
    let run = |change: fn(&mut Added)| {
        let mut request = Request {
            steps: Some(1),
            ..Request::new("a red fox")
        };
        change(&mut request.added);
        values(pipeline.generate(&request, &mut ()).unwrap().latents)
    };
    let plain = run(|_| ());
    assert_eq!(
        run(|added| added.second_prompts = vec!["a red fox".into()]),
        plain
    );
    assert_eq!(run(|added| added.framing.original = Some([64, 64])), plain);
    assert_ne!(
        run(|added| added.second_prompts = vec!["a dog".into()]),
        plain
    );
    assert_ne!(run(|added| added.framing.original = Some([16, 64])), plain);
    assert_ne!(run(|added| added.framing.crop = [0, 32]), plain);
}

fn card(name: &str) -> ModelConfig {
    ModelConfig::read(&ModelFolder::open(name).unwrap()).unwrap()
}

/// Giga-multiply-accumulates of a whole evaluation, rounded.
fn giga(blueprint: &Blueprint) -> u64 {
    (blueprint.full_macs() as f64 / 1e9).round() as u64
}

const BASE: &str = "stable-diffusion-xl-base-1.0";
const REFINER: &str = "stable-diffusion-xl-refiner-1.0";

#[test]
fn plans_of_the_cards_count_the_published_costs() {
    let request = Request {
        cache: "deepcache:interval=3,branch=0".parse().unwrap(),
        ..Request::new("")
    };
    let base = card(BASE);
    assert_eq!(base.defaults.guidance_scale, 5.0);
    let resolved = request.resolve(&base).unwrap();
    assert_eq!(resolved.latent_shape, [1, 4, 128, 128]);
    assert_eq!(giga(&resolved.blueprint), 3381);
    // docs/methods.md counts the same way.
    let speedup = resolved.forecast(2).speedup();
    assert!((speedup - 2.86).abs() < 0.01, "{speedup}");
    let [begin, finish] = request.handed_over(0.8, &base).unwrap();
    let evaluations = |request: &Request, model: &ModelConfig| {
        let resolved = request.resolve(model).unwrap();
        (resolved.plan.evaluations(), giga(&resolved.blueprint))
    };
    assert_eq!(evaluations(&begin, &base), (40, 3381));
    assert_eq!(evaluations(&finish, &card(REFINER)), (10, 3643));
}

#[test]
fn the_numbers_follow_the_widths() {
    for (name, numbers, zeros) in [
        (BASE, Numbers::Sizes, true),
        (REFINER, Numbers::Score, false),
    ] {
        let added = card(name).texts().unwrap().added.unwrap();
        assert_eq!(
            (added.numbers, added.zeros_for_no_negative),
            (numbers, zeros)
        );
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let (base, refiner, first) = (card(BASE), card(REFINER), card("stable-diffusion-v1-5"));
    let request = Request::new("");
    let text = |error: afterimage::Error| error.to_string();
    let alone = text(request.resolve(&refiner).unwrap_err());
    assert!(alone.starts_with("this model is a refiner"), "{alone}");
    let wrong = text(check_refiner(&base, &first).unwrap_err());
    assert!(wrong.starts_with("the refiner is no SDXL model"), "{wrong}");
    let wrong = text(check_refiner(&first, &refiner).unwrap_err());
    assert!(
        wrong.starts_with("the base model is no SDXL model"),
        "{wrong}"
    );
    for share in [0.0, 1.0, -3.0, f64::NAN] {
        let error = request.handed_over(share, &base).unwrap_err();
        assert!(error.is_request());
        assert!(
            error.to_string().starts_with("`refiner_from` is"),
            "{error}"
        );
    }
    let few = Request {
        steps: Some(2),
        ..Request::new("")
    };
    let [_, finish] = few.handed_over(0.999, &base).unwrap();
    let none = text(finish.resolve(&refiner).unwrap_err());
    assert!(
        none.contains("leaves the refiner none of the 2 steps"),
        "{none}"
    );
    let mut second = Request::new("");
    second.added.second_prompts = vec![String::new()];
    assert!(text(second.resolve(&first).unwrap_err()).contains("one text encoder"));
    second.added.second_prompts.push(String::new());
    assert!(text(second.resolve(&base).unwrap_err()).contains("2 second prompts for 1"));
}

#[test]
fn a_refiner_without_latents_is_refused() {
    let refiner = load(&Fixture::committed("sdxl-refiner"), &tested::device());
    let request = Request {
        stage: Stage::Finish { from: 0.8 },
        steps: Some(10),
        ..Request::new("")
    };
    let error = refiner.generate(&request, &mut ()).unwrap_err();
    assert!(
        error.to_string().starts_with("a refiner goes on"),
        "{error}"
    );
}

/// Parts of one family under the configuration of another: names on both sides, before anything is read.
#[test]
fn weights_of_another_family_are_listed() {
    for (weights, config, words) in [
        (
            "sdxl",
            "sd15",
            ["unused: `add_embedding.linear_1.bias`", "has shape"],
        ),
        ("sd15", "sdxl", ["missing: `add_embedding", "has shape"]),
    ] {
        let mixed = folder();
        let from = |name: &str, file: &str| {
            let path = mixed.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(Fixture::committed(name).model().join(file), path).unwrap();
        };
        for entry in files(&Fixture::committed(config).model()) {
            from(config, &entry);
        }
        from(weights, "unet/diffusion_pytorch_model.safetensors");
        let model = ModelFolder::open(mixed.path().to_str().unwrap()).unwrap();
        let error = Pipeline::load(&model, &tested::device(), tested::dtype()).unwrap_err();
        assert!(error.is_weights(), "{error}");
        for words in words {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

/// Paths of the files in the folders of a model, and in itself.
fn files(model: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![model.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(model).unwrap();
                found.push(relative.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// One text encoder where the denoiser expects the states of two.
#[test]
fn a_text_encoder_too_few_is_said() {
    let folder = folder();
    for entry in files(&Fixture::committed("sdxl").model()) {
        let path = folder.path().join(&entry);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(Fixture::committed("sdxl").model().join(&entry), &path).unwrap();
    }
    std::fs::remove_dir_all(folder.path().join("text_encoder_2")).unwrap();
    let index = folder.path().join("model_index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("text_encoder_2", "other")).unwrap();
    let model = ModelFolder::open(folder.path().to_str().unwrap()).unwrap();
    let error = ModelConfig::read(&model).unwrap_err();
    assert!(error.is_config(), "{error}");
    let text = error.to_string();
    assert!(text.contains("`cross_attention_dim` is `20`"), "{text}");
    assert!(
        text.ends_with("the text encoder's `hidden_size` is 8"),
        "{text}"
    );
}
