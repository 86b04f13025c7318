//! `afterimage inspect`: what a model is made of, what an adapter is.

use super::{adapters, args, console, job::Model};
use crate::{
    catalog::{ModelFolder, PartSummary},
    error::Error,
    pipeline::{Canvas, ClassDenoiserConfig, ClassToImageConfig, Family, ModelConfig},
};

pub(super) fn run(arguments: &args::Inspect) -> Result<(), Error> {
    if let Some(name) = arguments.model.as_deref()
        && let Some(text) = adapters::described(name)?
    {
        console::data(&text)?;
        return Ok(());
    }
    let model = Model::open_configs(arguments.model.as_deref())?;
    let parts = model.folder.inspect()?;
    let mut sections = vec![console::pairs(&heading(&model))];
    if parts.is_empty() {
        sections.push("no weights here, configurations only".into());
    } else {
        sections.push(table(&parts));
    }
    sections.push(console::pairs(&defaults(&model)));
    console::data(&sections.join("\n\n"))?;
    Ok(())
}

fn heading(model: &Model) -> Vec<(&'static str, String)> {
    let folder = &model.folder;
    let mut lines = vec![
        ("model", folder.name().to_owned()),
        ("pipeline", folder.index().pipeline().to_owned()),
    ];
    lines.extend(
        folder
            .card()
            .map(|card| ("configs", format!("of the card `{card}`"))),
    );
    lines.extend(folder.card_note().map(|note| ("note", note.to_owned())));
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
    if leftovers > 0 {
        unread.push(format!("{leftovers} tensors that belong to no part"));
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
fn defaults(model: &Model) -> Vec<(&'static str, String)> {
    let ModelConfig {
        family,
        sampler,
        defaults,
        ..
    } = &model.config;
    let Canvas { side, factor, .. } = model.config.canvas();
    let (pixels, multiple) = (side * factor, model.config.multiple());
    let mut lines = vec![
        (
            "size",
            format!("{pixels}x{pixels}, latents {side}x{side}, in multiples of {multiple}"),
        ),
        ("sampler", sampler.name().to_owned()),
        ("steps", defaults.steps.to_string()),
        ("guidance", defaults.guidance_scale.to_string()),
    ];
    match family {
        Family::ClassToImage(parts) => lines.extend(classes(parts)),
        Family::TextToImage(parts) => {
            lines.push(("prompt", format!("{} tokens", parts.text.tokens())));
            lines.push(("unet", branches(parts.unet.skips())));
        }
        Family::Unconditional(parts) => lines.push(("unet", branches(parts.unet.skips()))),
    }
    lines
}

/// What a class-conditional model knows, and its line of cells.
fn classes(parts: &ClassToImageConfig) -> Vec<(&'static str, String)> {
    let classes = parts.classes();
    let denoiser = match &parts.denoiser {
        ClassDenoiserConfig::DiT(dit) => {
            let last = dit.layers - 1;
            ("dit", format!("{} cells, cut at 1 to {last}", dit.layers))
        }
        ClassDenoiserConfig::UNet(config) => ("unet", branches(config.unet.skips())),
    };
    let labels = format!("{classes}, labels 0 to {}", classes - 1);
    vec![("classes", labels), denoiser]
}

/// The cells of a `UNet` and the branches that `deepcache` can keep.
fn branches(skips: usize) -> String {
    let last = skips.saturating_sub(1);
    format!("{} cells, branches 0 to {last}", 2 * skips + 1)
}
