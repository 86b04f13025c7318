//! What diffusers' pipelines repair in configurations of before their time, and which classes they take them for.
//!
//! Source: the constructor of diffusers' `StableDiffusionPipeline` and its kin.

use serde::Deserialize;
use serde_json::Value;

use crate::catalog::ModelIndex;
use crate::error::ConfigError;

/// The part of a `unet/config.json` that tells its age.
#[derive(Deserialize)]
struct Age {
    #[serde(rename = "_diffusers_version")]
    version: Option<String>,
    sample_size: Option<Value>,
}

/// The first version whose conversions wrote down what models were trained on.
const HONEST: [u64; 3] = [0, 9, 0];

/// Side of the latents that every model of before was trained on.
const SIDE: usize = 64;

/// Height and width of the latents of a Stable Diffusion model (1.x, 2.x) whose `unet/config.json` is `text` and says `read`: conversions of
/// before diffusers 0.9 wrote smaller sides than the models were trained on.
pub(super) fn latent_sides(text: &str, read: [usize; 2]) -> [usize; 2] {
    let Ok(age) = serde_json::from_str::<Age>(text) else {
        return read;
    };
    let old = age.version.as_deref().and_then(version);
    let small = age.sample_size.as_ref().and_then(Value::as_u64);
    let repaired =
        old.is_some_and(|old| old < HONEST) && small.is_some_and(|side| side < SIDE as u64);
    if repaired { [SIDE; 2] } else { read }
}

/// `0.10.0.dev0` as three numbers.
fn version(text: &str) -> Option<[u64; 3]> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    let major = numbers.next()??;
    Some([
        major,
        numbers.next().flatten().unwrap_or(0),
        numbers.next().flatten().unwrap_or(0),
    ])
}

/// Text encoders that are built.
const CLIP: &[&str] = &["CLIPTextModel", "CLIPTextModelWithProjection"];

/// Parts by which a text-to-image pipeline is told from others, and their classes here.
const PARTS: [(&str, &[&str]); 3] = [
    ("unet", &["UNet2DConditionModel"]),
    ("text_encoder", CLIP),
    ("text_encoder_2", CLIP),
];

/// Whether a pipeline of any class makes pictures of texts with parts that are built here: what it is called says little, `img2img`,
/// inpainting and legacy classes have the same parts.
///
/// # Errors
///
/// One that names the class of the pipeline and that of the part.
pub(super) fn check_reads_text(index: &ModelIndex) -> Result<(), ConfigError> {
    let unsupported = |hint| {
        let pipeline = index.pipeline();
        Err(ConfigError::unsupported("_class_name", pipeline, hint))
    };
    if index.class("unet").is_none() {
        let parts: Vec<_> = index.parts().collect();
        let hint = format!(
            "its parts are `{}`; built are pipelines of Stable Diffusion, `DiTPipeline`, `PixArtAlphaPipeline`, `PixArtSigmaPipeline`, `LDMClassToImagePipeline`, `DDPMPipeline`, \
             `DDIMPipeline`, `PNDMPipeline`, `IFPipeline`, `IFSuperResolutionPipeline`, `StableDiffusion3Pipeline`, `FluxPipeline`, `StableDiffusionUpscalePipeline`, `StableVideoDiffusionPipeline` \
             and `TextToVideoSDPipeline`",
            parts.join("`, `")
        );
        return unsupported(hint);
    }
    for (part, classes) in PARTS {
        match index.class(part) {
            Some(class) if !classes.contains(&class) => {
                let built = classes.join("` or `");
                return unsupported(format!("its `{part}` is a `{class}`, built is `{built}`"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sides_of_old_conversions_are_repaired() {
        let sides = |text: &str| latent_sides(text, [32, 32]);
        assert_eq!(
            sides(r#"{"_diffusers_version": "0.6.0", "sample_size": 32}"#),
            [64, 64]
        );
        assert_eq!(
            sides(r#"{"_diffusers_version": "0.8.1.dev0", "sample_size": 32}"#),
            [64, 64]
        );
        for kept in [
            r#"{"_diffusers_version": "0.9.0.dev0", "sample_size": 32}"#,
            r#"{"_diffusers_version": "0.42.1", "sample_size": 32}"#,
            r#"{"_diffusers_version": "0.6.0", "sample_size": 96}"#,
            r#"{"_diffusers_version": "0.6.0", "sample_size": [32, 32]}"#,
            r#"{"sample_size": 32}"#,
        ] {
            assert_eq!(sides(kept), [32, 32], "{kept}");
        }
    }
}
