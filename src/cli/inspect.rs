//! `afterimage inspect`: what a model is made of, what an adapter is.

use serde_json::Value;

use super::{adapters, args, console, job};
use crate::{
    catalog::{ModelFolder, PartSummary},
    engine::Model,
    error::Error,
    pipeline::{Canvas, Films, ModelConfig},
};

pub(super) fn run(arguments: &args::Inspect) -> Result<(), Error> {
    if let Some(name) = arguments.model.as_deref()
        && let Some(text) = adapters::described(name)?
    {
        console::data(&text)?;
        return Ok(());
    }
    let model = job::configs(arguments.model.as_deref(), arguments.said.overrides())?;
    let parts = model.folder.inspect()?;
    let mut sections = vec![console::pairs(&heading(&model))];
    if parts.is_empty() {
        sections.push("no weights here, configurations only".into());
    } else {
        sections.push(table(&parts));
    }
    sections.push(console::pairs(&defaults(&model)?));
    console::data(&sections.join("\n\n"))?;
    Ok(())
}

fn heading(model: &Model) -> Vec<(&'static str, String)> {
    let folder = &model.folder;
    let mut lines = vec![
        ("model", folder.name().to_owned()),
        ("pipeline", folder.index().pipeline().to_owned()),
    ];
    lines.extend(folder.title().map(|title| ("title", title.to_owned())));
    lines.extend(folder.card().map(|card| {
        let configs = format!("of the card `{card}`, by the shapes of the tensors");
        ("configs", configs)
    }));
    lines.extend(folder.other_vae().map(|vae| ("vae", vae.to_owned())));
    let warnings = folder.warnings().into_iter();
    lines.extend(warnings.map(|warning| ("note", warning.to_owned())));
    lines.extend(unread(folder).map(|parts| ("unread", parts)));
    lines
}

/// What is there and not used: whole parts, and tensors of a checkpoint that belong to none.
fn unread(folder: &ModelFolder) -> Option<String> {
    let mut unread: Vec<String> = folder
        .unread_parts()
        .iter()
        .map(ToString::to_string)
        .collect();
    let leftovers = folder.leftovers().len();
    match leftovers {
        0 => {}
        1 => unread.push("1 tensor that belongs to no part".to_owned()),
        more => unread.push(format!("{more} tensors that belong to no part")),
    }
    (!unread.is_empty()).then(|| unread.join(", "))
}

fn table(parts: &[PartSummary]) -> String {
    let head = ["PART", "CLASS", "TENSORS", "PARAMETERS", "TYPES", "SIZE"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(parts.iter().map(row));
    rows.push(total(parts));
    console::table(&rows, &[2, 3, 5])
}

fn row(part: &PartSummary) -> Vec<String> {
    let dtypes: Vec<_> = part.dtypes.keys().map(|name| name.to_lowercase()).collect();
    vec![
        part.part.clone(),
        part.class.clone().unwrap_or_default(),
        part.tensors.to_string(),
        console::count(part.parameters),
        dtypes.join(" "),
        console::bytes(part.bytes),
    ]
}

fn total(parts: &[PartSummary]) -> Vec<String> {
    let sum = |number: fn(&PartSummary) -> u64| parts.iter().map(number).sum::<u64>();
    vec![
        "in all".into(),
        String::new(),
        sum(|part| part.tensors as u64).to_string(),
        console::count(sum(|part| part.parameters)),
        String::new(),
        console::bytes(sum(|part| part.bytes)),
    ]
}

/// What a run does where the request is silent.
fn defaults(model: &Model) -> Result<Vec<(&'static str, String)>, Error> {
    let config = &model.config;
    let ModelConfig {
        sampler, defaults, ..
    } = config;
    let mut lines = vec![
        ("size", size(model)),
        ("prediction", prediction(model)?),
        ("sampler", sampler.name().to_owned()),
        ("steps", defaults.steps.to_string()),
        ("guidance", defaults.guidance_scale.to_string()),
    ];
    let prompt = config
        .texts()
        .map(|texts| format!("{} tokens", texts.tokens()));
    lines.extend(prompt.map(|tokens| ("prompt", tokens)));
    let classes = config.classes().map(|classes| classes.count);
    let labels = classes.map(|count| format!("{count}, labels 0 to {}", count - 1));
    lines.extend(labels.map(|labels| ("classes", labels)));
    if let Films::Trained { frames } = config.films() {
        lines.push(("frames", frames.to_string()));
    }
    lines.push(cells(config));
    Ok(lines)
}

/// `768x512, latents 96x64, in multiples of 8 (`modelspec.resolution` in the file)`
fn size(model: &Model) -> String {
    let Canvas { sides, factor, .. } = model.config.canvas();
    let [height, width] = sides;
    let pixels = format!("{}x{}", width * factor, height * factor);
    let (multiple, by) = (model.config.multiple(), model.config.trunk.file());
    let mut by = model.folder.says(by, "sample_size");
    if model.config.is_repaired() {
        by = format!("{by} of before diffusers 0.9, as its pipelines repair it");
    }
    format!("{pixels}, latents {width}x{height}, in multiples of {multiple} ({by})")
}

/// What the network predicts, on which schedule, and who says so.
fn prediction(model: &Model) -> Result<String, Error> {
    const FILE: &str = "scheduler/scheduler_config.json";
    let predicted = model.config.sampler.prediction()?;
    let by = model.folder.says(FILE, "prediction_type");
    let schedule: Value = model.folder.read_config(FILE)?;
    if schedule["rescale_betas_zero_snr"] != true {
        return Ok(format!("{predicted} ({by})"));
    }
    let also = model.folder.says(FILE, "rescale_betas_zero_snr");
    Ok(format!(
        "{predicted} ({by}), on a schedule rescaled to zero SNR ({also})"
    ))
}

/// The denoiser's line of cells, and where it can be cut: in front of a block, or at the branches of a `UNet` that `deepcache` keeps.
fn cells(config: &ModelConfig) -> (&'static str, String) {
    let blueprint = config.blueprint(config.canvas().sides);
    let cells = blueprint.cells.len();
    match blueprint.skips() {
        0 => (
            "dit",
            format!("{cells} cells, cut at 1 to {}", cells.saturating_sub(1)),
        ),
        skips => (
            "unet",
            format!("{cells} cells, branches 0 to {}", skips - 1),
        ),
    }
}
