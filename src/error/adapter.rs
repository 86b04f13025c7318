//! Files that change a model: `LoRA`, embeddings, Custom Diffusion.

use super::list::listed;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdapterError {
    #[error(
        "this file is no {expected}: it holds {}\nhint: {hint}\nfile: {origin}",
        listed(found)
    )]
    Kind {
        expected: &'static str,
        found: Vec<String>,
        hint: &'static str,
        origin: String,
    },
    #[error(
        "tensor `{name}` belongs to {method}, which is not supported\nhint: LoRA, LoCon, LoHa, LoKr, DoRA and differences are merged; merge this one with its training program\nfile: {origin}"
    )]
    Method {
        name: String,
        method: &'static str,
        origin: String,
    },
    #[error("the configuration of the LoRA {reason}\nfile: {origin}")]
    Configuration { reason: String, origin: String },
    #[error("tensor `{name}` is missing beside `{present}`\nfile: {origin}")]
    Incomplete {
        name: String,
        present: String,
        origin: String,
    },
    #[error(
        "tensors `{left}` of shape {left_shape:?} and `{right}` of shape {right_shape:?} have no rank in common\nfile: {origin}"
    )]
    Rank {
        left: String,
        left_shape: Vec<usize>,
        right: String,
        right_shape: Vec<usize>,
        origin: String,
    },
    #[error("tensor `{name}` is {value}, a finite number is needed\nfile: {origin}")]
    Alpha {
        name: String,
        value: f64,
        origin: String,
    },
    #[error("the scale is {scale}, a finite number is needed\nfile: {origin}")]
    Scale { scale: f64, origin: String },
    #[error(
        "this file is for another model family: `{name}` reads text of width {found}{}, the model's text has width {expected}{}\nfile: {origin}",
        family(*found),
        family(*expected)
    )]
    Family {
        name: String,
        found: usize,
        expected: usize,
        origin: String,
    },
    #[error(
        "this file is for another model family: `{name}` changes `{part}`, and the model has none\nhint: {}\nfile: {origin}",
        has(part)
    )]
    Part {
        name: String,
        part: &'static str,
        origin: String,
    },
    #[error(
        "{} of {layers} layers of the file are not in the model: {}\nhint: is it for another model family?\nfile: {origin}",
        names.len(),
        listed(names)
    )]
    Unmatched {
        names: Vec<String>,
        layers: usize,
        origin: String,
    },
    #[error(
        "`{name}` changes a weight of shape {found:?}, the model's `{target}` has shape {expected:?}\nhint: {}\nfile: {origin}",
        shapes(target, found, expected)
    )]
    Shape {
        name: String,
        found: Vec<usize>,
        target: String,
        expected: Vec<usize>,
        origin: String,
    },
    #[error("two tensors change `{target}` in one file: `{first}` and `{second}`\nfile: {origin}")]
    Repeated {
        target: String,
        first: String,
        second: String,
        origin: String,
    },
    #[error(
        "two files replace `{target}`: `{first}` and `{second}`\nhint: give one Custom Diffusion; LoRAs can be added to it"
    )]
    Replaced {
        target: String,
        first: String,
        second: String,
    },
    #[error(
        "the embedding `{token}` has vectors of width {found}, `{part}` reads tokens of width {expected}\nhint: an embedding fits the model family that it was trained for\nfile: {origin}"
    )]
    Width {
        token: String,
        found: usize,
        part: &'static str,
        expected: usize,
        origin: String,
    },
    #[error(
        "the embedding `{token}` is for {found}, the model has {expected}\nhint: SDXL's embeddings hold `clip_l` and `clip_g`, others a single tensor\nfile: {origin}"
    )]
    Encoders {
        token: String,
        found: &'static str,
        expected: &'static str,
        origin: String,
    },
    #[error(
        "the token `{token}` exists already\nhint: give the embedding another one: `--embedding TOKEN=FILE`\nfile: {origin}"
    )]
    Token { token: String, origin: String },
    #[error("the token of an embedding is empty\nfile: {origin}")]
    EmptyToken { origin: String },
}

/// The model family by the width of its text.
fn family(width: usize) -> &'static str {
    match width {
        768 => " (Stable Diffusion 1.x)",
        1024 => " (Stable Diffusion 2.x)",
        1280 => " (the SDXL refiner)",
        2048 => " (SDXL)",
        _ => "",
    }
}

/// What it may be for, whose change does not fit.
fn shapes(target: &str, found: &[usize], expected: &[usize]) -> &'static str {
    let reads = ["x_embedder.weight", "conv_in.weight"].contains(&target);
    match (found.get(1), expected.get(1)) {
        (Some(found), Some(expected)) if reads && found > expected => {
            "it is for a model that reads a picture beside the latents, as those for inpainting and FLUX.1's Canny, Depth and Fill do"
        }
        _ => "is it for another model family?",
    }
}

/// What tells the families apart that have the part.
fn has(part: &str) -> &'static str {
    match part {
        "transformer" | "unet" => {
            "FLUX, SD3 and PixArt have a transformer, Stable Diffusion 1.x, 2.x and XL have a UNet"
        }
        "prior" | "prior_text_encoder" => "Stable Cascade has a prior, Stable Diffusion has none",
        _ => "SDXL has two text encoders, Stable Diffusion 1.x and 2.x have one",
    }
}
