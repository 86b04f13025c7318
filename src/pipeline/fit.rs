//! Whether weights fit their configurations, by the headers of all parts, before a weight of any is read.

use burn::tensor::Device;

use super::class_config::ClassDenoiserConfig;
use super::config::{Family, ModelConfig};
use super::prompts::fitted;
use crate::catalog::{ModelFolder, ModelPart};
use crate::error::Error;
use crate::models::class_embedder::ClassEmbedder;
use crate::models::clip::ClipTextModel;
use crate::models::control::{ControlNetConfig, ControlNetModel};
use crate::models::dit::DiTTransformer2DModel;
use crate::models::unet::UNet2DConditionModel;
use crate::models::vae::{Autoencoder, VaeConfig};
use crate::weights::{check_fit, dit};

/// Holds every part of a model to its configuration: whether it has weights, and whether names and shapes are those of the network. Nothing
/// is read but headers; `device` is where the networks would be, and allocates nothing.
///
/// # Errors
///
/// If parts have no weights, one error that names all of them; else the first part whose tensors do not fit, with all that are missing, unused
/// or of another shape.
pub fn check_weights(
    folder: &ModelFolder,
    config: &ModelConfig,
    device: &Device,
) -> Result<(), Error> {
    folder.check_has_weights(&parts(&config.family))?;
    match &config.family {
        Family::TextToImage(parts) => {
            for encoder in &fitted(&parts.text, folder)?.encoders {
                let model = ClipTextModel::new(&encoder.clip, device);
                check_fit(&model, &folder.weights(encoder.part)?, encoder.part)?;
            }
            let unet = UNet2DConditionModel::new(&parts.unet, device);
            check_fit(&unet, &folder.weights("unet")?, "unet")?;
            autoencoder(folder, &parts.vae, device)
        }
        Family::ClassToImage(parts) => {
            class_denoiser(folder, &parts.denoiser, device)?;
            autoencoder(folder, &parts.vae, device)
        }
        Family::Unconditional(parts) => {
            let unet = UNet2DConditionModel::new(&parts.unet, device);
            check_fit(&unet, &folder.weights("unet")?, "unet")
        }
    }
}

/// [`check_weights`], for a `ControlNet`.
///
/// # Errors
///
/// As there.
pub fn check_control_weights(
    part: &ModelPart,
    config: &ControlNetConfig,
    device: &Device,
) -> Result<(), Error> {
    let net = ControlNetModel::new(config, device);
    check_fit(&net, &part.weights()?, "controlnet")
}

/// Names of the parts that have weights.
fn parts(family: &Family) -> Vec<&'static str> {
    match family {
        Family::TextToImage(parts) => {
            let encoders = parts.text.encoders.iter().map(|encoder| encoder.part);
            encoders.chain(["unet", "vae"]).collect()
        }
        Family::ClassToImage(parts) => match parts.denoiser {
            ClassDenoiserConfig::DiT(_) => vec!["transformer", "vae"],
            ClassDenoiserConfig::UNet(_) => vec!["class_embedder", "unet", "vae"],
        },
        Family::Unconditional(_) => vec!["unet"],
    }
}

fn autoencoder(folder: &ModelFolder, config: &VaeConfig, device: &Device) -> Result<(), Error> {
    let vae = Autoencoder::new(config.clone(), device);
    check_fit(&vae, &folder.weights("vae")?, "vae")
}

fn class_denoiser(
    folder: &ModelFolder,
    config: &ClassDenoiserConfig,
    device: &Device,
) -> Result<(), Error> {
    match config {
        ClassDenoiserConfig::DiT(config) => {
            let model = DiTTransformer2DModel::new(config, device);
            let source = dit::named(&folder.weights("transformer")?)?;
            check_fit(&model, &source, "transformer")
        }
        ClassDenoiserConfig::UNet(config) => {
            let embedder = ClassEmbedder::new(config.embedder, device);
            check_fit(
                &embedder,
                &folder.weights("class_embedder")?,
                "class_embedder",
            )?;
            let unet = UNet2DConditionModel::new(&config.unet, device);
            check_fit(&unet, &folder.weights("unet")?, "unet")
        }
    }
}
