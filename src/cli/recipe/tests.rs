//! No option is forgotten.

use clap::CommandFactory;

use super::*;
use crate::cli::args::{Arguments, Command, Generate, parsed};

/// Options that change no picture: where it goes, what is told of it, how it is computed.
const SILENT: [&str; 12] = [
    "device",
    "json",
    "no_doctor",
    "output",
    "preview",
    "preview_decoded",
    "preview_every",
    "replay",
    "step_graphs",
    "text_encoders",
    "trace",
    "help",
];

/// Every other option: what it needs beside it, and itself with a value.
const TOLD: &[(&str, &str, &str)] = &[
    ("prompt", "", "a+fox"),
    ("name", "", "--model some-folder"),
    ("prediction", "", "--prediction v"),
    ("vae", "", "--vae some-folder"),
    ("tiny_vae", "", "--tiny-vae some-folder"),
    ("refiner", "", "--refiner some-folder"),
    ("refiner_from", "--refiner a", "--refiner-from 0.7"),
    ("negative_prompt", "", "--negative-prompt rain"),
    ("class_label", "", "--class-label 3,5"),
    ("steps", "", "--steps 7"),
    ("guidance_scale", "", "--guidance-scale 4.3"),
    ("size", "", "--size 320x192"),
    ("no_resolution_binning", "", "--no-resolution-binning"),
    ("text_length", "", "--text-length 40"),
    ("batch", "", "--batch 2"),
    ("sampler", "", "--sampler ddim"),
    ("frames", "", "--frames 9"),
    ("fps", "", "--fps 11"),
    ("motion_bucket", "", "--motion-bucket 40"),
    ("noise_aug", "", "--noise-aug 0.07"),
    ("guidance_first_frame", "", "--guidance-first-frame 1.5"),
    ("decode_chunk", "", "--decode-chunk 3"),
    ("motion_x", "", "--motion-x 3.5"),
    ("motion_y", "", "--motion-y -2"),
    ("motion_t0", "", "--motion-t0 20"),
    ("motion_t1", "", "--motion-t1 25"),
    ("true_guidance_scale", "", "--true-guidance-scale 2.5"),
    ("guidance_rescale", "", "--guidance-rescale 0.7"),
    ("guidance_until", "", "--guidance-until 0.6"),
    ("guidance_channels", "", "--guidance-channels 3"),
    ("skip_layers", "", "--skip-layers 7,8,9"),
    (
        "skip_layer_scale",
        "--skip-layers 7",
        "--skip-layer-scale 2.5",
    ),
    (
        "skip_layer_from",
        "--skip-layers 7",
        "--skip-layer-from 0.1",
    ),
    (
        "skip_layer_until",
        "--skip-layers 7",
        "--skip-layer-until 0.4",
    ),
    ("clip_skip", "", "--clip-skip 1"),
    ("eta", "", "--eta 0.3"),
    ("seed", "", "--seed 18446744073709551615"),
    ("initial_latents", "", "--initial-latents a.safetensors"),
    ("prompt_2", "", "--prompt-2 dusk"),
    ("negative_prompt_2", "", "--negative-prompt-2 dawn"),
    ("prompt_3", "", "--prompt-3 noon"),
    ("negative_prompt_3", "", "--negative-prompt-3 night"),
    ("original_size", "", "--original-size 640x480"),
    ("crop", "", "--crop 3,7"),
    ("target_size", "", "--target-size 600x400"),
    (
        "negative_original_size",
        "",
        "--negative-original-size 64x48",
    ),
    ("negative_crop", "", "--negative-crop 1,2"),
    ("negative_target_size", "", "--negative-target-size 60x40"),
    ("aesthetic_score", "", "--aesthetic-score 7.5"),
    (
        "negative_aesthetic_score",
        "",
        "--negative-aesthetic-score 1.5",
    ),
    ("lora", "", "--lora a.safetensors=0.6 --lora b.safetensors"),
    ("embedding", "", "--embedding <fox>=a.pt --embedding b.pt"),
    ("custom_diffusion", "", "--custom-diffusion a.bin"),
    ("init_image", "", "--init-image a.png"),
    ("upscaler", "", "--upscaler a --upscaler b"),
    ("noise_level", "", "--noise-level 40"),
    ("strength", "--init-image a.png", "--strength 0.4"),
    ("mask", "--init-image a.png", "--mask b.png"),
    (
        "control_model",
        "",
        "--control-model a --control-image c.png",
    ),
    (
        "control_image",
        "",
        "--control-model a --control-image d.png",
    ),
    ("control_scale", NET, "--control-scale 0.8"),
    ("control_window", NET, "--control-window 0.1-0.9"),
    ("control_guess", NET, "--control-guess"),
    ("control_canny", NET, "--control-canny=50,150"),
    ("rules", "", "--cache deepcache:interval=3,branch=0"),
    ("dtype", "", "--dtype bf16"),
    ("weights", "", "--weights q8"),
    ("activations", "--weights q8", "--activations q8"),
    ("stream_weights", "", "--stream-weights"),
];

const NET: &str = "--control-model a --control-image c.png";

fn generate(words: &[&str]) -> Generate {
    let words = words.iter().flat_map(|words| words.split_whitespace());
    let arguments = ["afterimage", "generate"].into_iter().chain(words);
    match parsed(arguments.map(Into::into)).map(|parsed| parsed.command) {
        Ok(Command::Generate(generate)) => generate,
        other => panic!("no `generate`: {other:?}"),
    }
}

fn recipe(words: &[&str]) -> Recipe {
    asked(&generate(words)).expect("a recipe")
}

#[test]
fn no_option_that_changes_the_picture_is_forgotten() {
    let command = Arguments::command();
    let generate = command.find_subcommand("generate").expect("the command");
    for argument in generate.get_arguments() {
        let name = argument.get_id().as_str();
        let told = TOLD.iter().find(|(id, ..)| *id == name);
        match told {
            Some((_, needed, given)) => {
                let (without, with) = (recipe(&[needed]), recipe(&[needed, given]));
                assert_ne!(without, with, "`{name}` is not in the recipe");
            }
            None => assert!(SILENT.contains(&name), "`{name}` is in neither list"),
        }
    }
}

/// All options at once.
fn whole() -> Recipe {
    let needed = TOLD.iter().filter(|(id, ..)| *id != "control_image");
    recipe(&needed.map(|(.., given)| *given).collect::<Vec<_>>())
}

#[test]
fn all_options_are_written_and_read_again() {
    let recipe = whole();
    let text = recipe.to_json();
    assert!(!text.contains("null") && !text.contains('\n'), "{text}");
    assert_eq!(Recipe::from_json(&text).expect("a recipe"), recipe);
    let silent = Recipe::default();
    assert_eq!(silent.to_json(), r#"{"version":1}"#);
}

#[test]
fn options_beside_a_recipe_change_it_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recipe.json");
    let before = whole();
    std::fs::write(&path, before.to_json()).expect("a file");
    let replay = format!("--replay {}", path.display());
    assert_eq!(recipe(&[&replay]), before);
    for (name, _, given) in TOLD {
        let changed = recipe(&[&replay, given]);
        if *name == "control_image" {
            assert_ne!(changed, before, "{name}");
        } else if *name == "vae" {
            assert_eq!(changed.model.tiny_vae, None, "one gives way to the other");
        } else if !name.starts_with("control_") {
            assert_eq!(changed, before, "{name} as it is");
        }
    }
    let changed = recipe(&[&replay, "--steps 8 --strength 0.5 --control-scale 0.25"]);
    let mut expected = before;
    (expected.steps, expected.strength) = (Some(8), Some(0.5));
    expected.controls[0].scale = 0.25;
    assert_eq!(changed, expected);
    assert_eq!(recipe(&[&replay, "--seed -1"]).seed, None);
}

#[test]
fn what_an_option_changes_must_be_there() {
    for (words, needed) in [
        ("--strength 0.5", "--init-image"),
        ("--mask a.png", "--init-image"),
        ("--refiner-from 0.5", "--refiner"),
        ("--control-scale 1", "--control-model"),
        ("--control-canny", "--control-model"),
    ] {
        let error = asked(&generate(&[words])).expect_err(words);
        let hint = format!("hint: name one with `{needed}`");
        assert!(error.to_string().ends_with(&hint), "{error}");
    }
}
