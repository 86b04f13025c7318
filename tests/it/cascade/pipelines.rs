//! The models of a cascade through pipelines and the command line's recipes, one alone and in a chain.

use afterimage::cache::CacheRule;
use afterimage::catalog::ModelFolder;
use afterimage::image_io::Picture;
use afterimage::models::control::ControlNetConfig;
use afterimage::pipeline::{
    Adapters, Cascade, Edit, Link, LowPicture, ModelConfig, Pipeline, Recipe, Report, Request,
    Seeds,
};
use afterimage::weights::adapt::Lora;
use serde_json::Value;

use crate::fixture::Fixture;
use crate::parity::{Comparison, Part, Tally, Way};
use crate::tested;

fn folder(fixture: &Fixture) -> ModelFolder {
    ModelFolder::open(fixture.model().to_str().unwrap()).unwrap()
}

fn load(fixture: &Fixture) -> Pipeline {
    Pipeline::load(&folder(fixture), &tested::device(), tested::dtype()).unwrap()
}

/// The request of a case whose sampler is the model's own.
fn request(fixture: &Fixture, case: &Value) -> Request {
    let call = &case["call"];
    let list = |key: &str| match &call[key] {
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap().into()).collect(),
        one => vec![one.as_str().unwrap_or_default().to_owned()],
    };
    let file = case["image_file"].as_str().unwrap_or("image.png");
    let picture = fixture.file(file);
    let low = picture
        .exists()
        .then(|| LowPicture::of(&Picture::read(&picture).unwrap()));
    let side = |key: &str| call[key].as_u64().map(|side| side as usize);
    Request {
        subject: afterimage::pipeline::Subject::Prompts(list("prompt")),
        negative_prompts: list("negative_prompt"),
        steps: side("num_inference_steps"),
        guidance_scale: call["guidance_scale"].as_f64(),
        seeds: Seeds::One(call["seed"].as_u64().unwrap()),
        size: side("width").zip(side("height")),
        low,
        noise_level: side("noise_level"),
        ..Request::new("")
    }
}

#[test]
fn pipelines_agree_with_diffusers() {
    let mut tally = Tally::default();
    for fixture in super::fixtures() {
        let pipeline = load(&fixture);
        let cases = fixture.of_kinds(&["if_stage1", "if_stage2", "upscale"]);
        let own = |case: &&Value| {
            let first = case["scheduler"].as_str().unwrap().ends_with(".0");
            first && case["cache"].is_null()
        };
        for case in cases.filter(own) {
            let generated = pipeline
                .generate(&request(&fixture, case), &mut ())
                .unwrap();
            let mut comparison = Comparison::new(&fixture, case, Way::Free);
            let golden = fixture.of(case, "final_latents").unwrap();
            let outcome = comparison
                .check(Part::Latents, "final", &golden, generated.latents)
                .map(|()| comparison.share());
            tally.add(&fixture, case, outcome);
        }
    }
    tally.finish(4);
}

fn asked(fixture: &Fixture) -> Request {
    let case = fixture.case(if fixture.name() == "sd-x4-upscaler" {
        "ddim"
    } else {
        "ddpm"
    });
    Request {
        steps: Some(2),
        ..request(fixture, case)
    }
}

/// What one model makes is what the next makes larger, whether a cascade hands it over or a caller does.
#[test]
fn a_chain_is_its_links_one_after_the_other() {
    let [_, second, third] = &super::fixtures();
    let configs = [second, third].map(|one| ModelConfig::read(&folder(one)).unwrap());
    let first = Request {
        cache: CacheRule::deepcache(2, 0),
        ..asked(second)
    };
    let made = load(second).generate(&first, &mut ()).unwrap();
    let [_, _, height, width] = made.images.dims();
    let then = |low| {
        let next = first
            .enlarged(&configs[1], (width, height), Some(30))
            .unwrap();
        Request {
            steps: Some(2),
            low,
            ..next
        }
    };
    let by_hand = then(Some(LowPicture::new(made.images).unwrap()));
    let by_hand = load(third).generate(&by_hand, &mut ()).unwrap();
    let link =
        |index: usize, fixture, request| Link::new(fixture, &configs[index], request).unwrap();
    let mut chain =
        Cascade::new(link(0, second, first.clone())).followed_by(link(1, third, then(None)));
    let chained = chain
        .generate(|fixture| Ok(load(fixture)), &mut ())
        .unwrap();
    let reused = |report: &Report| report.account.reuses;
    let reused: Vec<_> = chained.reports.iter().map(reused).collect();
    assert_eq!(reused, [1, 1], "the rule goes for every link");
    let [found, expected] =
        [chained.generated.images, by_hand.images].map(|images| images.into_data());
    assert_eq!(found.shape()[2..], [4 * height, 4 * width]);
    found.assert_eq(&expected, true);
}

#[test]
fn what_does_not_fit_an_upscaler_is_refused() {
    for fixture in &super::fixtures()[1..] {
        let config = ModelConfig::read(&folder(fixture)).unwrap();
        let refused = |request: Request, words: &str| {
            let error = request.resolve(&config).unwrap_err();
            assert!(
                error.is_request() && error.to_string().contains(words),
                "{error}"
            );
        };
        let plain = asked(fixture);
        refused(
            Request {
                noise_level: Some(2000),
                ..plain.clone()
            },
            "the noise level is 2000",
        );
        refused(
            Request {
                batch: 3,
                low: plain
                    .low
                    .clone()
                    .map(|_| LowPicture::new(tested::normals([2, 3, 8, 8], 1)).unwrap()),
                ..plain.clone()
            },
            "2 small pictures for 3 pictures",
        );
        let alone = Request {
            low: None,
            ..plain.clone()
        };
        let error = load(fixture).generate(&alone, &mut ()).unwrap_err();
        assert!(error.to_string().contains("there is none"), "{error}");
    }
}

/// Nets, adapters, and a picture to start from beside the small one.
#[test]
fn what_does_not_go_with_a_cascade_is_refused() {
    let net = crate::fixture::fixture("sd15-controlnet").join("model/controlnet/config.json");
    let net = ControlNetConfig::from_json(&crate::fixture::text(net)).unwrap();
    let lora = crate::fixture::fixture("sd15-lora/lora_diffusers.safetensors");
    let adapters = Adapters {
        loras: vec![Lora::open(lora).unwrap()],
        ..Adapters::default()
    };
    for fixture in &super::fixtures() {
        let model = folder(fixture);
        let mut config = ModelConfig::read(&model).unwrap();
        let error = config.add_control(net.clone()).unwrap_err().to_string();
        assert!(error.contains("no skips that a ControlNet"), "{error}");
        let loaded = Pipeline::load_with(&model, &tested::device(), tested::dtype(), &adapters);
        let words = match fixture.name() {
            "sd-x4-upscaler" => "for another model family",
            _ => "takes no adapters",
        };
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let latents = &super::fixtures()[2];
    let config = ModelConfig::read(&folder(latents)).unwrap();
    let edited = Request {
        edit: Some(Edit::new(Picture::filled(64, 64, [7; 3]))),
        ..asked(latents)
    };
    let error = edited.resolve(&config).unwrap_err().to_string();
    assert!(error.contains("cannot start from a picture"), "{error}");
}

/// The picture that a recipe starts from is made larger by a model that does.
#[test]
fn recipes_name_the_small_picture() {
    let fixture = Fixture::best("sd-x4-upscaler");
    let config = ModelConfig::read(&folder(&fixture)).unwrap();
    let path = fixture.file("image.png");
    let text = serde_json::json!({"version": 1, "init_image": {"path": path}, "noise_level": 7});
    let recipe = Recipe::from_json(&text.to_string()).unwrap();
    let pictures = recipe.pictures(&mut |_| {}).unwrap();
    let request = recipe.request(&config, pictures).unwrap();
    let resolved = request.resolve(&config).unwrap();
    assert_eq!(
        (request.noise_level, resolved.latent_shape),
        (Some(7), [1, 4, 16, 16])
    );
    let partly = Recipe {
        strength: Some(0.5),
        ..recipe
    };
    let pictures = partly.pictures(&mut |_| {}).unwrap();
    let error = partly.request(&config, pictures).unwrap_err().to_string();
    assert!(error.contains("`strength`"), "{error}");
}
