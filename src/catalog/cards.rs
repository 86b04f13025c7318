//! What is compiled in: the cards of the public families, and the bundled model.

use std::collections::BTreeMap;

type StaticFiles = &'static [(&'static str, &'static [u8])];

/// The configs of a public family: a model folder without weights.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) name: &'static str,
    pub(super) files: StaticFiles,
}

/// Files of a folder of `models`, each under its path within the folder.
#[cfg(any(test, feature = "bundled"))]
macro_rules! folder {
    ($folder:literal: $($file:literal),* $(,)?) => {
        &[$((
            $file,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $folder, "/", $file)),
        )),*]
    };
}

/// One file of a card.
macro_rules! file {
    ($card:literal, $file:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/models/cards/",
            $card,
            "/",
            $file
        ))
    };
}

/// A card of these files; the merges, which all of them share, are compiled in once.
macro_rules! card {
    ($name:literal: $($file:literal),*; $($tokenizer:literal),*) => {
        Card {
            name: $name,
            files: &[
                ("model_index.json", file!($name, "model_index.json")),
                ("unet/config.json", file!($name, "unet/config.json")),
                (
                    "scheduler/scheduler_config.json",
                    file!($name, "scheduler/scheduler_config.json"),
                ),
                $(($file, file!($name, $file)),)*
                $((concat!($tokenizer, "/merges.txt"), MERGES),)*
            ],
        }
    };
}

/// A card of Stable Diffusion 1.x or 2.x: one text encoder.
macro_rules! stable_diffusion {
    ($name:literal) => {
        card!($name: "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json"; "tokenizer")
    };
}

/// A card of SDXL: two text encoders.
macro_rules! sdxl {
    ($name:literal) => {
        card!($name: "vae/config.json", "text_encoder/config.json", "text_encoder_2/config.json", "tokenizer/tokenizer_config.json",
            "tokenizer_2/tokenizer_config.json"; "tokenizer", "tokenizer_2")
    };
}

/// A card of SDXL's refiner: the second text encoder alone.
macro_rules! refiner {
    ($name:literal) => {
        card!($name: "vae/config.json", "text_encoder_2/config.json", "tokenizer_2/tokenizer_config.json"; "tokenizer_2")
    };
}

/// A card of a model without text and autoencoder.
macro_rules! pixels {
    ($name:literal) => {
        card!($name: ;)
    };
}

/// A card of class-conditional latent diffusion: a class embedder, and defaults of its own.
macro_rules! latent_diffusion {
    ($name:literal) => {
        card!($name: "vae/config.json", "class_embedder/config.json", "afterimage.json";)
    };
}

/// A card of a model that makes films of pictures.
macro_rules! film_of_picture {
    ($name:literal) => {
        card!($name: "vae/config.json", "image_encoder/config.json";)
    };
}

/// A card of a model that makes films of texts.
macro_rules! film_of_text {
    ($name:literal) => {
        card!($name: "vae/config.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"; "tokenizer")
    };
}

/// A card of a stage of `DeepFloyd` IF: T5 and no autoencoder; the stages after the first have a schedule for the small picture's noise.
macro_rules! deep_floyd {
    ($name:literal $(, $noising:literal)?) => {
        card!($name: "text_encoder/config.json" $(, $noising)?;)
    };
}

/// A card of an upscaler of latents.
macro_rules! upscaler {
    ($name:literal) => {
        card!($name: "vae/config.json", "text_encoder/config.json", "low_res_scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"; "tokenizer")
    };
}

const MERGES: &[u8] = file!("clip", "merges.txt");

/// The `vocab.json` beside CLIP's own merges, and none beside others: the merges number its tokens, after those of single bytes, within words
/// and at their ends (Radford et al., `simple_tokenizer.py` of openai/CLIP). It would be another megabyte of the program.
pub(super) fn vocabulary(merges: &str) -> Option<String> {
    if merges.as_bytes() != MERGES {
        return None;
    }
    let plain = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let shown = (0..=u8::MAX).filter(plain).map(char::from);
    let hidden = (0..=u8::MAX).filter(|byte| !plain(byte)).zip('\u{100}'..);
    let bytes: Vec<char> = shown.chain(hidden.map(|(_, letter)| letter)).collect();
    let inner = bytes.iter().map(char::to_string);
    let last = bytes.iter().map(|letter| format!("{letter}</w>"));
    let merged = merges.lines().skip(1).map(|pair| pair.replace(' ', ""));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let tokens = inner.chain(last).chain(merged).chain(special);
    let numbered: BTreeMap<String, usize> = tokens.zip(0..).collect();
    serde_json::to_string(&numbered).ok()
}

/// A card of a `DiT`: no text.
macro_rules! dit {
    ($name:literal) => {
        Card {
            name: $name,
            files: &[
                ("model_index.json", file!($name, "model_index.json")),
                (
                    "transformer/config.json",
                    file!($name, "transformer/config.json"),
                ),
                ("vae/config.json", file!($name, "vae/config.json")),
                (
                    "scheduler/scheduler_config.json",
                    file!($name, "scheduler/scheduler_config.json"),
                ),
                ("afterimage.json", file!($name, "afterimage.json")),
            ],
        }
    };
}

/// A card of FLUX.1: CLIP, and T5 without its vocabulary.
macro_rules! flux {
    ($name:literal) => {
        transformer!($name: "text_encoder/config.json", "text_encoder_2/config.json", "tokenizer/tokenizer_config.json"; "tokenizer")
    };
}

/// A card of Stable Diffusion 3: both encoders of CLIP, and T5 without its vocabulary.
macro_rules! stable_diffusion_3 {
    ($name:literal) => {
        transformer!($name: "text_encoder/config.json", "text_encoder_2/config.json", "text_encoder_3/config.json",
            "tokenizer/tokenizer_config.json", "tokenizer_2/tokenizer_config.json"; "tokenizer", "tokenizer_2")
    };
}

/// A card of `PixArt`: T5 without its vocabulary.
macro_rules! pixart {
    ($name:literal) => {
        transformer!($name: "text_encoder/config.json";)
    };
}

/// A card of a transformer under texts.
macro_rules! transformer {
    ($name:literal: $($file:literal),*; $($tokenizer:literal),*) => {
        Card {
            name: $name,
            files: &[
                ("model_index.json", file!($name, "model_index.json")),
                (
                    "transformer/config.json",
                    file!($name, "transformer/config.json"),
                ),
                ("vae/config.json", file!($name, "vae/config.json")),
                (
                    "scheduler/scheduler_config.json",
                    file!($name, "scheduler/scheduler_config.json"),
                ),
                $(($file, file!($name, $file)),)*
                $((concat!($tokenizer, "/merges.txt"), MERGES),)*
            ],
        }
    };
}

static CARDS: [Card; 26] = [
    stable_diffusion!("stable-diffusion-v1-5"),
    stable_diffusion!("stable-diffusion-v1-5-inpainting"),
    stable_diffusion!("stable-diffusion-2-1-base"),
    stable_diffusion!("stable-diffusion-2-1"),
    stable_diffusion!("stable-diffusion-2-inpainting"),
    sdxl!("stable-diffusion-xl-base-1.0"),
    sdxl!("stable-diffusion-xl-1.0-inpainting-0.1"),
    refiner!("stable-diffusion-xl-refiner-1.0"),
    latent_diffusion!("ldm-4-g"),
    dit!("DiT-XL-2-256"),
    dit!("DiT-XL-2-512"),
    dit!("DiT-XL-2-256x256"),
    dit!("DiT-XL-2-512x512"),
    pixels!("ddpm-cifar10-32"),
    pixels!("ddpm-church-256"),
    film_of_picture!("stable-video-diffusion-img2vid-xt"),
    film_of_text!("text-to-video-ms-1.7b"),
    deep_floyd!("IF-I-XL-v1.0"),
    deep_floyd!(
        "IF-II-L-v1.0",
        "image_noising_scheduler/scheduler_config.json"
    ),
    upscaler!("stable-diffusion-x4-upscaler"),
    pixart!("PixArt-Sigma-XL-2-1024-MS"),
    stable_diffusion_3!("stable-diffusion-3-medium"),
    stable_diffusion_3!("stable-diffusion-3.5-medium"),
    stable_diffusion_3!("stable-diffusion-3.5-large"),
    flux!("FLUX.1-dev"),
    flux!("FLUX.1-schnell"),
];

/// Cards of parts that stand beside a model.
pub(super) static PARTS: [(&str, StaticFiles); 1] = [(
    "control_v11p_sd15_canny",
    &[(
        "config.json",
        file!("control_v11p_sd15_canny", "config.json"),
    )],
)];

pub(super) fn find(name: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.name == name)
}

pub(super) fn names() -> Vec<&'static str> {
    CARDS.iter().map(|card| card.name).collect()
}

/// The model of `models/scenes`.
#[cfg(feature = "bundled")]
pub(super) const SCENES: StaticFiles = folder!("scenes":
    "model_index.json",
    "afterimage.json",
    "afterimage-plan.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
);
/// No model in this build.
#[cfg(not(feature = "bundled"))]
pub(super) const SCENES: StaticFiles = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_compiled_in_by_path() {
        let files: StaticFiles = folder!("cards/clip": "merges.txt", "LICENSE");
        assert_eq!(files[0].0, "merges.txt");
        assert_eq!(files[0].1, MERGES);
    }

    #[test]
    fn merges_number_the_vocabulary() {
        let merges = str::from_utf8(MERGES).unwrap();
        let parsed = |text: &str| serde_json::from_str::<BTreeMap<String, usize>>(text).unwrap();
        let published = include_str!("../../models/cards/clip/vocab.json");
        assert_eq!(parsed(&vocabulary(merges).unwrap()), parsed(published));
        assert_eq!(vocabulary(&merges[..1000]), None);
    }
}
