//! Recipes: JSON of their own, and what pictures and films keep of how they were made.

use std::{
    path::{Component, Path},
    sync::LazyLock,
};

use afterimage::catalog::ModelFolder;
use afterimage::pipeline::{ModelConfig, Recipe, RecipePictures};

use super::{bounded, folder, models::model_files, shown, typed};

/// The model that recipes are asked of: what a small Stable Diffusion 1.5 says of itself.
static MODEL: LazyLock<ModelConfig> = LazyLock::new(|| {
    let said = include_bytes!("../../../fuzz/seeds/configs/sd15");
    let files = folder(&model_files(said));
    let model = ModelFolder::open(typed(files.path())).expect("a model");
    ModelConfig::read(&model).expect("a model's configuration")
});

/// What a recipe's pictures are.
const PICTURE: &[u8] = include_bytes!("../../../fuzz/seeds/pictures/png_RGB");

/// A recipe, or a file with one in it; how it ends says nothing, as its first bytes do. Beside it lie pictures that it may name.
pub(super) fn recipes(data: &[u8]) {
    let model = &*MODEL;
    let folder = folder(&[
        ("recipe", data),
        ("photo.png", PICTURE),
        ("frames/0.png", PICTURE),
    ]);
    bounded(data, || {
        if let Some(recipe) = shown(Recipe::read(&folder.path().join("recipe"))) {
            let pictures = pictures(&recipe).unwrap_or_default();
            followed(&recipe, model, pictures);
        }
    });
}

/// The pictures that lie beside a recipe; those that are elsewhere might never end, and a net may be one of the Hub's.
fn pictures(recipe: &Recipe) -> Option<RecipePictures> {
    let controls = recipe.controls.iter().map(|control| &control.image);
    let files = recipe.init_image.iter().chain(&recipe.mask).chain(controls);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let mut paths = files.map(|file| Path::new(&file.path));
    if !paths.all(|path| path.components().all(plain)) {
        return None;
    }
    let mut alone = recipe.clone();
    alone.controls.clear();
    alone.loras.clear();
    alone.embeddings.clear();
    alone.custom_diffusions.clear();
    (alone.initial_latents, alone.router) = (None, None);
    if shown(alone.check_files()).is_some() {
        shown(alone.hash_files());
    }
    shown(recipe.pictures(&mut |warning| assert!(!warning.is_empty())))
}

/// A recipe is written, read again, and asked of a model.
fn followed(recipe: &Recipe, model: &ModelConfig, pictures: RecipePictures) {
    let written = recipe.to_json();
    let again = shown(Recipe::from_json(&written)).expect("what was just written");
    assert_eq!(again.to_json(), written);
    assert!(recipe.nets().len() <= recipe.controls.len());
    let _ = (recipe.overrides(), recipe.seed_of(0));
    shown(recipe.adapters());
    if let Some(alone) = recipe.alone(1, 2) {
        shown(Recipe::from_json(&alone.to_json())).expect("a recipe's own picture");
    }
    let Some(mut request) = shown(recipe.request(model, pictures)) else {
        return;
    };
    // As many as are asked for cost their time, here as in a run.
    if request.steps.is_some_and(|steps| steps > 50) || request.subject.count() > 64 {
        return;
    }
    request.steps.get_or_insert(4);
    if let Some(resolved) = shown(request.resolve(model)) {
        let _ = resolved.forecast(4);
        let settled = recipe.clone().settled(&resolved, model).to_json();
        shown(Recipe::from_json(&settled)).expect("what a run came to");
    }
}
