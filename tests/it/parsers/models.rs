//! Models: single files, folders' configurations, schedulers.

use std::path::{Component, Path};

use afterimage::catalog::ModelFolder;
use afterimage::denoiser::Blueprint;
use afterimage::models::control::ControlNetConfig;
use afterimage::models::unet::Extent;
use afterimage::noise::Prediction;
use afterimage::pipeline::{ModelConfig, Request};
use afterimage::samplers::{SamplerConfig, SamplerKind};
use afterimage::weights::WeightSource;
use afterimage::weights::original::{
    autoencoder_alone, is_tiny_autoencoder, tiny_autoencoder, tiny_config,
};

use super::{bounded, folder, is_torch, pieces, shown, typed};

/// A checkpoint in one file.
pub(super) fn checkpoints(data: &[u8]) {
    let name = if is_torch(data) {
        "model.ckpt"
    } else {
        "model.safetensors"
    };
    let folder = folder(&[(name, data)]);
    let path = folder.path().join(name);
    bounded(data, || {
        if let Some(model) = shown(ModelFolder::open(typed(&path))) {
            asked(&model);
        }
        let chosen = ModelFolder::open_checkpoint(&path, "stable-diffusion-2-1-base");
        if let Some(model) = shown(chosen) {
            asked(&model);
        }
        if let Some(source) = shown(WeightSource::open(&path)) {
            autoencoders(source);
        }
    });
}

/// A file given as an autoencoder, of either kind.
fn autoencoders(source: WeightSource) {
    if let Some(tiny) = shown(tiny_autoencoder(std::slice::from_ref(&source))) {
        assert!(tiny.len() <= source.len(), "no tensor is made twice");
        let _ = (is_tiny_autoencoder(&tiny), tiny_config(&tiny));
    }
    shown(autoencoder_alone(&source, 2));
}

/// A model's folder: files, each a line with its path and its contents.
pub(super) fn configs(data: &[u8]) {
    let folder = folder(&model_files(data));
    bounded(data, || {
        if let Some(model) = shown(ModelFolder::open(typed(folder.path()))) {
            asked(&model);
        }
    });
}

/// The paths and contents of such a folder's files, but for those that no folder has room for.
pub(super) fn model_files(data: &[u8]) -> Vec<(&str, &[u8])> {
    let named = pieces(data).into_iter().filter_map(|piece| {
        let end = piece.iter().position(|&byte| byte == b'\n')?;
        let path = std::str::from_utf8(&piece[..end]).ok()?;
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let inside = !path.is_empty() && path.len() < 64 && !path.contains('\0');
        let inside = inside && Path::new(path).components().all(plain);
        inside.then_some((path, &piece[end + 1..]))
    });
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    for (path, contents) in named {
        let fits = |other: &str| {
            !Path::new(path).starts_with(other) && !Path::new(other).starts_with(path)
        };
        if files.len() < 10 && files.iter().all(|(other, _)| fits(other)) {
            files.push((path, contents));
        }
    }
    files
}

/// Asks a model what the program asks before it reads weights.
fn asked(model: &ModelFolder) {
    let index = model.index();
    let _ = (index.pipeline(), index.label(0), model.unread_parts());
    let _ = (model.card(), model.card_note(), model.leftovers());
    for part in model.parts() {
        let _ = (index.class(part), model.has_weights(part));
    }
    shown(model.inspect());
    shown(model.weights_hash());
    let Some(config) = shown(ModelConfig::read(model)) else {
        return;
    };
    let canvas = config.canvas();
    assert!(canvas.factor > 0 && canvas.patch > 0);
    let few = |request: Request| Request {
        steps: Some(4),
        ..request
    };
    for request in [Request::new("a word"), Request::of_classes([1])] {
        if let Some(resolved) = shown(few(request).resolve(&config)) {
            let _ = resolved.forecast(4);
        }
    }
}

/// The smallest latents, and a word.
const EXTENT: Extent = Extent {
    height: 8,
    width: 8,
    tokens: 1,
};

/// The configuration of a `ControlNet`.
pub(super) fn controls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    bounded(data, || {
        let Some(net) = shown(ControlNetConfig::from_json(text)) else {
            return;
        };
        let own = shown(net.check_fits(&net.unet));
        assert!(own.is_some(), "it fits itself");
        let mut other = net.unet.clone();
        other.context_width += 1;
        assert!(shown(net.check_fits(&other)).is_none(), "another text");
        other.levels.pop();
        assert!(shown(net.check_fits(&other)).is_none(), "another depth");
        let own = net.unet.blueprint(EXTENT);
        let mut joined = own.clone();
        net.add_to(&mut joined, &own, EXTENT, (1, 2));
        let first = |trunk: &Blueprint| trunk.cells[0].macs;
        assert!(first(&joined) > first(&own), "it costs something");
    });
}

/// Pipelines that repair their schedulers, each in its own way, and one that does not.
const PIPELINES: [&str; 4] = [
    "StableDiffusionPipeline",
    "StableDiffusionInpaintPipeline",
    "FluxPipeline",
    "DiTPipeline",
];

/// The number of steps, and a scheduler's configuration: every sampler's tables.
pub(super) fn schedulers(data: &[u8]) {
    let Some((steps, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let steps = usize::from(*steps).max(1);
    bounded(data, || {
        let Some(config) = shown(SamplerConfig::from_json(
            text,
            "scheduler_config.json".as_ref(),
        )) else {
            return;
        };
        let _ = (config.name(), config.train_timesteps(), config.notes());
        shown(config.schedule());
        shown(config.prediction());
        shown(config.build(steps, 0.0));
        for pipeline in PIPELINES {
            let repaired = config.clone().repaired_for(pipeline).with_tokens(1024);
            let _ = repaired.notes();
            shown(repaired.build(steps, 1.0));
        }
        for prediction in [Prediction::Epsilon, Prediction::Velocity] {
            let read = config.clone().with_prediction(prediction);
            shown(read.with_learned_variance().build(steps, 0.5));
        }
        shown(config.clone().with_zero_terminal_snr().schedule());
        for kind in SamplerKind::all() {
            let sampler = config.clone().with_kind(kind).build(steps, 1.0);
            if let Some(sampler) = shown(sampler) {
                assert!(!sampler.evaluations().is_empty(), "{}", kind.name());
            }
        }
    });
}
